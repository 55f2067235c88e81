"""Memory in use: of Python objects, or of the whole process."""

from __future__ import annotations

import tracemalloc
from typing import Any, Literal, Protocol

import psutil

MB = 1_000_000

MemoryMethod = Literal["tracemalloc", "rss"]


class Meter(Protocol):
    """What measures memory, in bytes."""

    def begin(self) -> None:
        """Measure from now on."""

    def end(self) -> None:
        """Measure no longer; what was measured stays readable."""

    def read(self) -> int:
        """Return the memory in use now."""

    def peak(self) -> int:
        """Return the largest use since the beginning or the last :meth:`reset_peak`."""

    def reset_peak(self) -> None:
        """Forget uses before now."""

    def top_allocations(self, n: int) -> list[dict[str, Any]] | None:
        """Return the lines of code that hold most memory, or None where that is not known."""


class PythonObjects:
    """Memory of Python objects and NumPy arrays, by ``tracemalloc``, every allocation seen."""

    def __init__(self) -> None:
        self._started = False  # whether tracemalloc was ours to start
        self._final: tuple[int, int, tracemalloc.Snapshot] | None = None

    def begin(self) -> None:
        """Start ``tracemalloc``, unless it runs already."""
        self._final = None
        if not tracemalloc.is_tracing():
            tracemalloc.start()
            self._started = True

    def end(self) -> None:
        """Stop ``tracemalloc`` if :meth:`begin` started it."""
        if self._final is None and tracemalloc.is_tracing():
            self._final = (*tracemalloc.get_traced_memory(), tracemalloc.take_snapshot())
            if self._started:
                tracemalloc.stop()
                self._started = False

    def read(self) -> int:
        """Return the bytes traced now."""
        return self._final[0] if self._final else tracemalloc.get_traced_memory()[0]

    def peak(self) -> int:
        """Return the largest number of bytes traced at any moment."""
        return self._final[1] if self._final else tracemalloc.get_traced_memory()[1]

    def reset_peak(self) -> None:
        """Let the peak begin at the present use."""
        tracemalloc.reset_peak()

    def top_allocations(self, n: int) -> list[dict[str, Any]]:
        """Return location, MB and number of blocks of the ``n`` largest lines of code."""
        if self._final is None and not tracemalloc.is_tracing():
            return []
        snapshot = self._final[2] if self._final else tracemalloc.take_snapshot()
        return [
            {
                "location": f"{line.traceback[0].filename}:{line.traceback[0].lineno}",
                "mb": line.size / MB,
                "blocks": line.count,
            }
            for line in snapshot.statistics("lineno")[:n]
        ]


class ProcessMemory:
    """Resident memory of the process, by ``psutil``; the peak is that of the readings taken."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._peak = 0

    def begin(self) -> None:
        """Take a first reading."""
        self.reset_peak()

    def end(self) -> None:
        """Take a last reading."""
        self.read()

    def read(self) -> int:
        """Return the resident bytes."""
        held = int(self._process.memory_info().rss)
        self._peak = max(self._peak, held)
        return held

    def peak(self) -> int:
        """Return the largest reading."""
        return self._peak

    def reset_peak(self) -> None:
        """Let the peak begin at the present use."""
        self._peak = 0
        self.read()

    def top_allocations(self, n: int) -> None:
        """Return None: the process does not know which code holds what."""


METERS: dict[str, type[PythonObjects] | type[ProcessMemory]] = {
    "tracemalloc": PythonObjects,
    "rss": ProcessMemory,
}
