"""A value read again and again by a thread in the background."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Sampler:
    """Readings of a value at regular intervals.

    Parameters
    ----------
    read : callable
        Returns the value, quickly.
    interval : float
        Seconds between two readings.

    Attributes
    ----------
    readings : list of (float, float)
        Time (``time.perf_counter``, seconds) and value, in order of time.
    """

    def __init__(self, read: Callable[[], float], interval: float) -> None:
        self.readings: list[tuple[float, float]] = []
        self._read = read
        self._interval = interval
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Take a reading now and go on until :meth:`stop`; without effect when already running."""
        if self._thread is None:
            self._ended.clear()
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Take a last reading and end; without effect when not running."""
        if self._thread is not None:
            self._ended.set()
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        ended = False
        while True:
            self.readings.append((time.perf_counter(), self._read()))
            if ended:
                return
            ended = self._ended.wait(self._interval)
