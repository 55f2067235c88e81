"""Suites in processes of their own: one that dies takes neither the others nor its rows along."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from validation.parity.check import Row
from validation.parity.session import Session, run, summary
from validation.parity.suites import SLOWEST_FIRST

Names = Collection[str] | None
Suite = Callable[[Connection, str, Path, Names, Names], None]


class Running(NamedTuple):
    """A suite that has been started."""

    peer: str
    process: BaseProcess
    start: float


def run_suite(end: Connection, peer: str, cache: Path, methods: Names, data: Names) -> None:
    """Compare with a tool; send every row, then the session without rows."""
    session = run(peer, cache, methods, data, tell=end.send)
    session.rows.clear()
    end.send(session)


def run_suites(
    peers: Iterable[str],
    cache: Path,
    methods: Names = None,
    data: Names = None,
    at_once: int = 2,
    suite: Suite = run_suite,
) -> Session:
    """Compare with tools, some at once; return the rows in the order of the tools.

    A suite whose process ends before its time keeps the rows it has sent, and gets one that fails.
    """
    begun, context, whole = time.perf_counter(), get_context("spawn"), Session()
    rows: dict[str, list[Row]] = {peer: [] for peer in peers}
    waiting = sorted(rows, key=SLOWEST_FIRST.index)
    running: dict[Connection, Running] = {}
    while waiting or running:
        while waiting and len(running) < at_once:
            peer = waiting.pop(0)
            here, there = context.Pipe(duplex=False)
            started = context.Process(target=suite, args=(there, peer, cache, methods, data))
            started.start()
            there.close()
            running[here] = Running(peer, started, time.perf_counter())
        ready = wait(list(running))
        for end in [one for one in running if one in ready]:
            peer, process, start = running[end]
            try:
                told: Row | Session = end.recv()
            except EOFError:
                del running[end]
                process.join()
                whole.of_suite[peer] = time.perf_counter() - start
                if process.exitcode:
                    note = f"its process ended with exit code {process.exitcode}"
                    rows[peer].append(Row(peer, "suite", "", "", "failed", note=note))
                    print(summary(rows[peer][-1]), flush=True)
                continue
            if isinstance(told, Row):
                rows[peer].append(told)
            else:
                whole.versions |= told.versions
                whole.computed += told.computed
                whole.kept += told.kept
    whole.rows = [row for found in rows.values() for row in found]
    whole.seconds = time.perf_counter() - begun
    return whole
