"""What this process keeps open from one task to the next, for all of its threads or for each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """Something to be closed."""

    def close(self) -> None:
        """Close it."""


T = TypeVar("T")
C = TypeVar("C", bound=Closable)


@dataclass
class _Held(Generic[C]):
    """A thing that is open, how many use it, and whether it is closed when nobody does."""

    thing: C
    n_uses: int = 0
    ending: bool = False


class Latest(Generic[C]):
    """The thing that was used last, kept open for its next use, beside all that are in use.

    Uses may overlap, of one thing as of several: nothing is closed while it is used.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[Hashable, _Held[C]] = {}

    @contextmanager
    def using(self, key: Hashable, make: Callable[[], C]) -> Iterator[C]:
        """Yield what belongs to ``key``; before it is made, what nobody uses is closed."""
        with self._lock:
            if key not in self._held:
                self._close_unused()
                self._held[key] = _Held(make())
            held = self._held[key]
            held.n_uses += 1
        try:
            yield held.thing
        finally:
            with self._lock:
                held.n_uses -= 1
                if held.ending:
                    self._close_unused()

    def close(self) -> None:
        """Close everything, what is in use as soon as it is not."""
        with self._lock:
            for held in self._held.values():
                held.ending = True
            self._close_unused()

    def _close_unused(self) -> None:
        for key in [key for key, held in self._held.items() if held.n_uses == 0]:
            self._held.pop(key).thing.close()


class OfThread(Generic[T]):
    """A value that each thread has for itself."""

    def __init__(self) -> None:
        self._local = threading.local()

    def get(self) -> T | None:
        """Return this thread's value, None before there is one."""
        return getattr(self._local, "value", None)

    def set(self, value: T) -> None:
        """Keep this thread's value."""
        self._local.value = value
