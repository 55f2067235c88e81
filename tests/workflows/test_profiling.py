"""Profilers: time, memory, samples, reports and plots."""

from __future__ import annotations

import threading
import time
import tracemalloc

import matplotlib as mpl
import numpy as np
import pytest

from crispyx.errors import InputError
from crispyx.profiling import MemoryProfiler, Profiler, TimingProfiler
from crispyx.profiling import memory as memory_module
from crispyx.profiling import profiler as profiler_module

mpl.use("Agg")

MB = 1_000_000


def test_sections_are_timed_and_their_runs_added() -> None:
    with Profiler(timing=True) as profiler:
        elapsed = 0.0
        for _ in range(2):
            profiler.start("sleep")
            time.sleep(0.01)
            elapsed += profiler.stop("sleep")
    stats = profiler.get_stats()["timing"]
    assert elapsed >= 0.02
    assert stats["sections"]["sleep"]["seconds"] == pytest.approx(elapsed)
    assert stats["total_seconds"] >= elapsed
    assert 0 < stats["sections"]["sleep"]["percent"] <= 100


def test_the_total_stands_still_after_the_block_and_sections_left_open_are_stopped() -> None:
    with Profiler(timing=True) as profiler:
        profiler.start("open")
    assert profiler.get_total_time() == profiler.get_total_time()
    assert "open" in profiler.get_stats()["timing"]["sections"]


def test_a_finished_profiler_measures_anew() -> None:
    profiler = Profiler(timing=True, memory=True)
    with profiler:
        profiler.start("first")
        profiler.snapshot("first")
    with profiler:
        profiler.start("second")
    stats = profiler.get_stats()
    assert [*stats["timing"]["sections"]] == ["second"]
    assert stats["memory"]["snapshots"] == {}


def test_tracemalloc_sees_a_peak_between_snapshots_and_names_its_line() -> None:
    with Profiler(memory=True, top_n=3) as profiler:
        profiler.snapshot("before")
        bytearray(20 * MB)
        kept = bytearray(5 * MB)
        profiler.snapshot("after")
    memory = profiler.get_stats()["memory"]
    before, after = memory["snapshots"]["before"], memory["snapshots"]["after"]
    assert after["current_mb"] - before["current_mb"] == pytest.approx(5, abs=0.5)
    assert memory["peak_mb"] - before["current_mb"] >= 20
    assert __file__ in memory["top_allocations"][0]["location"]
    assert len(memory["top_allocations"]) <= 3
    assert len(kept) == 5 * MB


def test_resetting_the_peak_forgets_what_was_freed_before() -> None:
    with Profiler(memory=True) as profiler:
        np.ones(20 * MB // 8)
        profiler.reset_peak()
        profiler.snapshot("after")
    assert profiler.get_stats()["memory"]["snapshots"]["after"]["peak_mb"] < 15


def test_a_tracemalloc_started_by_others_goes_on() -> None:
    tracemalloc.start()
    try:
        with Profiler(memory=True):
            pass
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()
    with Profiler(memory=True):
        pass
    assert not tracemalloc.is_tracing()


def test_process_memory_rises_with_what_is_held() -> None:
    with Profiler(memory=True, memory_method="rss") as profiler:
        profiler.snapshot("before")
        kept = np.ones(50 * MB // 8)
        profiler.snapshot("after")
    memory = profiler.get_stats()["memory"]
    rise = memory["snapshots"]["after"]["current_mb"] - memory["snapshots"]["before"]["current_mb"]
    assert rise > 40
    assert "top_allocations" not in memory
    assert kept[-1] == 1


def test_samples_rise_in_time_and_end_with_the_block() -> None:
    profiler = Profiler(memory=True, memory_method="rss", sampling=True, sample_interval=0.002)
    with profiler:
        time.sleep(0.05)
    samples = profiler.get_stats()["memory"]["samples"]
    times = [at for at, _ in samples]
    assert len(samples) >= 2
    assert times == sorted(times)
    time.sleep(0.01)
    assert profiler.get_stats()["memory"]["samples"] == samples


@pytest.mark.parametrize("profiler", [Profiler(), TimingProfiler(), MemoryProfiler()])
def test_what_is_off_measures_nothing(profiler: Profiler) -> None:
    with profiler:
        profiler.start("section")
        profiler.snapshot("snapshot")
        profiler.reset_peak()
        profiler.start_sampling()
        assert profiler.stop("section") == 0.0
    assert not tracemalloc.is_tracing()
    assert profiler.get_total_time() == 0.0
    assert profiler.get_stats()["memory"]["samples"] == []
    assert "off" in profiler.get_report()


@pytest.mark.parametrize("make", [Profiler, TimingProfiler, MemoryProfiler])
def test_what_is_off_asks_neither_clock_nor_memory_and_starts_no_thread(
    make: type[Profiler], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("a profiler that is off measures")

    monkeypatch.setattr(profiler_module.time, "perf_counter", forbidden)
    monkeypatch.setattr(tracemalloc, "start", forbidden)
    monkeypatch.setattr(tracemalloc, "get_traced_memory", forbidden)
    monkeypatch.setattr(memory_module.psutil, "Process", forbidden)
    monkeypatch.setattr(threading.Thread, "start", forbidden)
    profiler = make()
    with profiler:
        for _ in range(3):
            profiler.start("section")
            profiler.snapshot("section")
            profiler.start_sampling()
            profiler.stop_sampling()
            profiler.reset_peak()
            profiler.stop("section")
    assert profiler.get_stats()["timing"] == {"total_seconds": 0.0, "sections": {}}
    monkeypatch.undo()
    with Profiler(timing=True) as on:  # the same calls do ask when it is on
        on.start("section")
    assert on.get_total_time() > 0


def test_the_report_names_sections_and_snapshots() -> None:
    with Profiler(timing=True, memory=True) as profiler:
        profiler.start("reading")
        profiler.stop("reading")
        profiler.snapshot("after reading")
    report = profiler.get_report()
    assert report.startswith("Time: ")
    assert "reading: 0.000 s" in report
    assert "Memory: peak " in report
    assert "after reading: " in report


def test_wrong_use_is_refused() -> None:
    with pytest.raises(InputError, match=r"memory_method is 'vms'.*'rss'"):
        Profiler(memory_method="vms")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="sample_interval is 0"):
        Profiler(sample_interval=0)
    with pytest.raises(InputError, match="top_n is -1"):
        Profiler(top_n=-1)
    profiler = Profiler(timing=True)
    profiler.start("a")
    with pytest.raises(InputError, match="'a' is running already"):
        profiler.start("a")
    with pytest.raises(InputError, match=r"'b' is not running.*\['a'\]"):
        profiler.stop("b")


def test_plots_show_sections_and_samples() -> None:
    with pytest.raises(InputError, match="no section"):
        Profiler(timing=True).plot_timeline()
    with pytest.raises(InputError, match="no samples"):
        Profiler(memory=True).plot_memory()
    with Profiler(timing=True, memory=True, sampling=True, sample_interval=0.01) as profiler:
        for label in ("reading", "testing"):
            profiler.start(label)
            profiler.stop(label)
    bars = profiler.plot_timeline()
    assert [text.get_text() for text in bars.get_yticklabels()] == ["reading", "testing"]
    line = profiler.plot_memory().lines[0]
    assert len(line.get_xdata()) == len(profiler.get_stats()["memory"]["samples"])


@pytest.fixture(autouse=True)
def _close_figures() -> object:
    yield
    import matplotlib.pyplot as plt

    plt.close("all")
