"""Stopwatch and memory meter for sections of code."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from crispyx._run.sampling import Sampler
from crispyx.errors import InputError
from crispyx.profiling.memory import MB, METERS, MemoryMethod, Meter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAR_COLOR = "#4477aa"  # blue of Paul Tol's bright scheme, told apart by color-blind readers


class Profiler:
    """Time and memory of labeled sections of code.

    What is off costs nothing: every method returns at once. Time and memory are measured from the
    ``with`` statement on, or from the first call of :meth:`start`, :meth:`snapshot`,
    :meth:`reset_peak` or :meth:`start_sampling`; after the ``with`` block they stand still, and a
    further use measures anew.

    Parameters
    ----------
    timing : bool
        Measure the time of sections.
    memory : bool
        Measure memory at snapshots, and its peak.
    memory_method : {"tracemalloc", "rss"}
        Python objects and NumPy arrays, every allocation seen, at some cost in time; or the
        resident memory of the whole process, whose peak is that of the readings taken: every
        section's start and stop, snapshots and, with ``sampling``, the samples.
    sampling : bool
        Also read the memory all the time, in a daemon thread.
    sample_interval : float, seconds > 0
        Time between two such readings.
    top_n : int
        Lines of code listed under ``top_allocations`` (``tracemalloc`` only).

    Raises
    ------
    InputError
        Unknown method; an interval that is not above 0; a negative ``top_n``.

    Examples
    --------
    >>> with Profiler(timing=True) as profiler:
    ...     profiler.start("sum")
    ...     total = sum(range(1000))
    ...     seconds = profiler.stop("sum")
    >>> list(profiler.get_stats()["timing"]["sections"])
    ['sum']
    """

    def __init__(
        self,
        timing: bool = False,
        memory: bool = False,
        memory_method: MemoryMethod = "tracemalloc",
        sampling: bool = False,
        sample_interval: float = 0.1,
        top_n: int = 10,
    ) -> None:
        if memory_method not in METERS:
            raise InputError(f"memory_method is {memory_method!r}; choose one of {[*METERS]}")
        if not sample_interval > 0:
            raise InputError(f"sample_interval is {sample_interval!r}; give seconds above 0")
        if top_n < 0:
            raise InputError(f"top_n is {top_n!r}; give a whole number >= 0")
        self._timing = timing
        self._sampling = sampling
        self._top_n = top_n
        self._meter: Meter | None = METERS[memory_method]() if memory or sampling else None
        self._sampler: Sampler | None = None
        if self._meter is not None:
            self._sampler = Sampler(self._meter.read, sample_interval)
        self._began: float | None = None
        self._ended: float | None = None
        self._running: dict[str, float] = {}
        self._seconds: dict[str, float] = {}
        self._snapshots: dict[str, dict[str, float]] = {}

    def __enter__(self) -> Profiler:
        self._begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for label in list(self._running):
            self.stop(label)
        self.stop_sampling()
        if self._meter is not None:
            self._meter.end()
        if self._began is not None:
            self._ended = time.perf_counter()

    def start(self, label: str) -> None:
        """Start the clock of a section; sections may overlap, and repeat.

        Raises
        ------
        InputError
            The section is running already.
        """
        self._begin()
        if self._timing:
            if label in self._running:
                raise InputError(f"section {label!r} is running already; stop it first")
            self._running[label] = time.perf_counter()

    def stop(self, label: str) -> float:
        """Stop the clock of a section and return its seconds; 0.0 where timing is off.

        Raises
        ------
        InputError
            The section is not running.
        """
        if self._meter is not None:
            self._meter.read()
        if not self._timing:
            return 0.0
        if label not in self._running:
            raise InputError(f"section {label!r} is not running; these are: {[*self._running]}")
        elapsed = time.perf_counter() - self._running.pop(label)
        self._seconds[label] = self._seconds.get(label, 0.0) + elapsed
        return elapsed

    def get_total_time(self) -> float:
        """Return the seconds since the measurement began, 0.0 before and where timing is off."""
        if not self._timing or self._began is None:
            return 0.0
        return (self._ended or time.perf_counter()) - self._began

    def snapshot(self, label: str) -> None:
        """Note the memory in use now, and its peak so far; a label used again is overwritten."""
        self._begin()
        if self._meter is not None:
            current = self._meter.read() / MB
            self._snapshots[label] = {"current_mb": current, "peak_mb": self._meter.peak() / MB}

    def reset_peak(self) -> None:
        """Let the peak begin at the memory in use now, so that what was loaded before is no part.

        The memory in use still is: the peak is a level, not a difference.
        """
        self._begin()
        if self._meter is not None:
            self._meter.reset_peak()

    def start_sampling(self) -> None:
        """Read the memory all the time from now on; without effect where memory is off."""
        self._begin()
        if self._sampler is not None:
            self._sampler.start()

    def stop_sampling(self) -> None:
        """End what :meth:`start_sampling` began; the samples stay."""
        if self._sampler is not None:
            self._sampler.stop()

    def get_stats(self) -> dict[str, Any]:
        """Return what was measured so far.

        Returns
        -------
        dict
            ``"timing"``: ``total_seconds``, and ``sections``, of each label its ``seconds``, over
            all its runs, and their ``percent`` of the total. ``"memory"`` (MB of 1e6 bytes):
            ``peak_mb``; ``snapshots``, of each label ``current_mb`` and ``peak_mb``; ``samples``, a
            list of (seconds since the beginning, MB); with ``tracemalloc`` also
            ``top_allocations``, a list of ``location``, ``mb`` and ``blocks``.
        """
        total = self.get_total_time()
        sections = {
            label: {"seconds": seconds, "percent": 100 * seconds / total if total else 0.0}
            for label, seconds in self._seconds.items()
        }
        memory: dict[str, Any] = {"peak_mb": 0.0, "snapshots": dict(self._snapshots)}
        memory["samples"] = self._samples()
        if self._meter is not None and self._began is not None:
            memory["peak_mb"] = self._meter.peak() / MB
            lines = self._meter.top_allocations(self._top_n)
            if lines is not None:
                memory["top_allocations"] = lines
        return {"timing": {"total_seconds": total, "sections": sections}, "memory": memory}

    def get_report(self) -> str:
        """Return what was measured so far as text."""
        stats = self.get_stats()
        lines = []
        if self._timing:
            timing = stats["timing"]
            lines += [f"Time: {timing['total_seconds']:.3f} s"]
            lines += [
                f"  {label}: {row['seconds']:.3f} s ({row['percent']:.1f} %)"
                for label, row in timing["sections"].items()
            ]
        if self._meter is not None:
            memory = stats["memory"]
            lines += [f"Memory: peak {memory['peak_mb']:.1f} MB"]
            lines += [
                f"  {label}: {row['current_mb']:.1f} MB (peak so far {row['peak_mb']:.1f} MB)"
                for label, row in memory["snapshots"].items()
            ]
            lines += [
                f"  {line['location']}: {line['mb']:.1f} MB in {line['blocks']} blocks"
                for line in memory.get("top_allocations", [])
            ]
        return "\n".join(lines) or "Nothing was measured: timing and memory are off."

    def plot_timeline(self, ax: Axes | None = None) -> Axes:
        """Draw the seconds of each section as horizontal bars, the first section on top.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None
            Draw here instead of into a figure of its own.

        Raises
        ------
        InputError
            No section was timed.
        """
        if not self._seconds:
            raise InputError("no section was timed; use timing=True, start(label) and stop(label)")
        ax = _axes(ax)
        ax.barh([*self._seconds], [*self._seconds.values()], color=BAR_COLOR)
        ax.invert_yaxis()
        ax.set_xlabel("Time (s)")
        ax.spines[["top", "right"]].set_visible(False)
        return ax

    def plot_memory(self, ax: Axes | None = None) -> Axes:
        """Draw the sampled memory over time.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None
            Draw here instead of into a figure of its own.

        Raises
        ------
        InputError
            There are no samples.
        """
        samples = self._samples()
        if not samples:
            raise InputError("there are no samples; use sampling=True or start_sampling()")
        ax = _axes(ax)
        seconds, used = zip(*samples, strict=True)
        ax.plot(seconds, used, color=BAR_COLOR)
        ax.set_xlabel("Time (s)")
        ax.set_ylabel("Memory (MB)")
        ax.set_ylim(bottom=0)
        ax.spines[["top", "right"]].set_visible(False)
        return ax

    def _begin(self) -> None:
        if not self._timing and self._meter is None:
            return
        if self._began is None or self._ended is not None:
            self._began, self._ended = time.perf_counter(), None
            self._seconds.clear()
            self._snapshots.clear()
            if self._meter is not None and self._sampler is not None:
                self._meter.begin()
                self._sampler.readings.clear()
                if self._sampling:
                    self._sampler.start()
        elif self._meter is not None:
            self._meter.read()

    def _samples(self) -> list[tuple[float, float]]:
        if self._sampler is None or self._began is None:
            return []
        return [(at - self._began, held / MB) for at, held in self._sampler.readings]


class TimingProfiler(Profiler):
    """A :class:`Profiler` of time alone.

    Parameters
    ----------
    enabled : bool
        False measures nothing.
    """

    def __init__(self, enabled: bool = False) -> None:
        super().__init__(timing=enabled)


class MemoryProfiler(Profiler):
    """A :class:`Profiler` of memory alone.

    Parameters
    ----------
    enabled : bool
        False measures nothing.
    top_n : int
        Lines of code listed under ``top_allocations``.
    """

    def __init__(self, enabled: bool = False, top_n: int = 10) -> None:
        super().__init__(memory=enabled, top_n=top_n)


def _axes(ax: Axes | None) -> Axes:
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.subplots(figsize=(5, 3), layout="constrained")[1]
    return ax
