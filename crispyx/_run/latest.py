"""What was opened last in this process, for all of its threads or for each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """Something to be closed."""

    def close(self) -> None:
        """Close it."""


T = TypeVar("T")
C = TypeVar("C", bound=Closable)


class Latest(Generic[C]):
    """The one thing that a process keeps open, made anew when another is asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: tuple[Hashable, C] | None = None

    def get(self, key: Hashable, make: Callable[[], C]) -> C:
        """Return what belongs to ``key``; what belonged to another is closed."""
        with self._lock:
            if self._held is None or self._held[0] != key:
                self._close()
                self._held = key, make()
            return self._held[1]

    def close(self) -> None:
        """Close what is open."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._held is not None:
            self._held[1].close()
        self._held = None


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
