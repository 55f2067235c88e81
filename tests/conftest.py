"""Hypothesis profile and the real screens."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from crispyx._io.source import MatrixSource

# The same examples at every run: a test that passed does not fail on the next machine.
settings.register_profile("crispyx", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("crispyx")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    folder = os.environ.get("CRISPYX_DATA_DIR")
    if not folder:
        pytest.skip("CRISPYX_DATA_DIR is not set: the folder with the real screens")
    return Path(folder)


@pytest.fixture
def small_reads(monkeypatch) -> None:
    """Read 20 values at a time, so that small matrices come in many blocks."""
    monkeypatch.setitem(MatrixSource.native_blocks.__kwdefaults__, "max_values", 20)
