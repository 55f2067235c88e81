"""The only place that decides how many threads run."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from crispyx._kernels.openmp import has_openmp
from crispyx.errors import InputError
from crispyx.settings import settings

_forked = False


def _mark_forked() -> None:
    # The OpenMP runtime hangs in a child forked after a parallel region; one thread is safe.
    global _forked, _one_blas_thread
    _forked = True
    _one_blas_thread = _OneBlasThread()  # threads that were within it did not come along


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark_forked)


def usable_cores() -> int:
    """Return the cores this process may use: CPU affinity and control-group quota included."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass  # no control group, or one of another kind: affinity decides
    return cores


class _OneBlasThread:
    """The limit of the process, and how many calls are within it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_calls = 0
        self._limit: Any = None

    def enter(self) -> None:
        from threadpoolctl import threadpool_limits

        with self._lock:
            if self._n_calls == 0:
                self._limit = threadpool_limits(1, user_api="blas")
            self._n_calls += 1

    def leave(self) -> None:
        with self._lock:
            self._n_calls -= 1
            if self._n_calls == 0:
                self._limit.restore_original_limits()


_one_blas_thread = _OneBlasThread()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Return a context in which NumPy's linear algebra runs on one thread.

    The library splits sums by the number of its threads, which would change the last bits. The
    limit is one of the whole process: of several calls at once, the last to leave takes it back.
    """
    _one_blas_thread.enter()
    try:
        yield
    finally:
        _one_blas_thread.leave()


def resolve_threads(n_jobs: int | None = None) -> int:
    """Return the number of threads for one call.

    Parameters
    ----------
    n_jobs : int or None
        None takes ``settings.n_threads``, else every usable core; -1 takes every usable core.

    Raises
    ------
    InputError
        ``n_jobs`` is 0 or below -1.
    """
    if n_jobs is not None and (isinstance(n_jobs, bool) or int(n_jobs) != n_jobs):
        raise InputError(f"n_jobs is {n_jobs!r}; give a whole number, -1 or None")
    if n_jobs is not None and (n_jobs == 0 or n_jobs < -1):
        raise InputError(
            f"n_jobs is {n_jobs}; give a number of threads >= 1, -1 or None for all cores"
        )
    if _forked or not has_openmp():
        return 1
    if n_jobs is None:
        n_jobs = settings.n_threads
    return usable_cores() if n_jobs in (None, -1) else int(n_jobs)
