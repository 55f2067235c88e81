"""The same work on many items, shared among threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from crispyx._run.threads import resolve_threads

T = TypeVar("T")
R = TypeVar("R")


def in_parallel(work: Callable[[T], R], items: Sequence[T], n_jobs: int | None = None) -> list[R]:
    """Return ``work`` of every item, in their order; so is the first error raised, all being done.

    Worth its while where the work releases the interpreter lock: decompression, reads, kernels.

    Parameters
    ----------
    work : callable
        Must not depend on the order of the items.
    items : sequence
        What it is called with.
    n_jobs : int or None
        Threads; None takes ``settings.n_threads``.
    """
    n_threads = min(resolve_threads(n_jobs), len(items))
    if n_threads < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(n_threads, thread_name_prefix="crispyx-worker") as pool:
        return list(pool.map(work, items))
