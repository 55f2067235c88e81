"""Read ahead in one thread while the caller computes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

T = TypeVar("T")

_END = object()
_PATIENCE = 0.1  # seconds between two looks at whether the caller has gone


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


def prefetch(items: Iterable[T], depth: int = 1) -> Generator[T, None, None]:
    """Yield the items in order, with up to ``depth`` of them made ahead by a thread.

    HDF5 reads and kernels release the interpreter lock, so reading the next block hides behind
    computing on this one. An error of the producer is raised here, at its place in the order. When
    the caller stops early the thread ends before this generator does.

    Parameters
    ----------
    items : iterable
        Iterated in the thread only.
    depth : int
        Items held besides the one in use and the one being made.
    """
    ready: queue.Queue[object] = queue.Queue(maxsize=depth)
    gone = threading.Event()

    def put(item: object) -> None:
        while not gone.is_set():
            try:
                ready.put(item, timeout=_PATIENCE)
                return
            except queue.Full:
                continue

    def produce() -> None:
        try:
            for item in items:
                put(item)
                if gone.is_set():
                    return
            put(_END)
        except BaseException as error:  # noqa: BLE001 - handed over whole to the caller
            put(_Failure(error))

    thread = threading.Thread(target=produce, name="crispyx-reader", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _END:
            if isinstance(item, _Failure):
                raise item.error
            yield item  # type: ignore[misc]
    finally:
        gone.set()
        thread.join()
