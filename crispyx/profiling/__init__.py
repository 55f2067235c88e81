"""Time and memory of sections of code; see ``docs/profiling.md``."""

from crispyx.profiling.profiler import MemoryProfiler, Profiler, TimingProfiler

__all__ = ["MemoryProfiler", "Profiler", "TimingProfiler"]
