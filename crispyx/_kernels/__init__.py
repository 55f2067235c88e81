"""Compiled inner loops: one family a file, arrays in and arrays out, no Python objects inside.

``layout`` holds the two array layouts every kernel reads. Callers allocate outputs; problems come
back as positions or status codes, which the rooms above turn into messages.
"""

from __future__ import annotations

import importlib
import os

# Turns that a thread of GNU OpenMP waits for work before it sleeps. The default is up to 20 ms
# after every loop, on a core that a reading or writing thread could use.
_SPIN = "GOMP_SPINCOUNT"
_TURNS = "1000"  # some tens of microseconds


def _start_openmp() -> None:
    """Load the OpenMP runtime, which reads its settings then; they are left as they were."""
    if _SPIN in os.environ or "OMP_WAIT_POLICY" in os.environ:
        importlib.import_module("crispyx._kernels.openmp")
        return
    os.environ[_SPIN] = _TURNS
    try:
        importlib.import_module("crispyx._kernels.openmp")
    finally:
        del os.environ[_SPIN]


_start_openmp()
