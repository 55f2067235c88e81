"""``python -m validation executors``: what it costs to let others compute, and a larger cluster.

One screen is tested by the threads of this process and by worker processes in turn. Phases are told
apart: turning the matrix around, blocks, assembly. The whole test follows once more, which finds
the matrix turned around. Starting the workers is left out.
"""

from __future__ import annotations

import argparse
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from heapq import heapreplace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil

import crispyx as cx
from crispyx._jobs.block_folder import BlockFolder
from crispyx._jobs.block_work import MANIFEST, run_block
from crispyx.de import plan_blocks
from crispyx.errors import CrispyxWarning
from crispyx.settings import settings
from validation.benchmarks.scaling import BASE, write_screen
from validation.benchmarks.tables import markdown_table, number
from validation.cache import cache_folder
from validation.machine import describe_machine

# Dask has workers give freed memory back at once, and every block then asks for it page by page.
KEEPING_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**28),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "OMP_NUM_THREADS": "1",
}
NODES = (1, 2, 4, 8, 16, 32, 64, 100)


@dataclass(frozen=True)
class Phase:
    """A part of a run: its name, and seconds by the clock and of all processors."""

    name: str
    seconds: float
    cpu: float


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add ``executors`` to the commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "executors", help="measure workers beside threads, and simulate a cluster"
    )
    parser.add_argument("--cells", type=int, default=50_000)
    parser.add_argument("--genes", type=int, default=2_000)
    parser.add_argument("--perturbations", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--simulate", action="store_true", help="only simulate larger clusters")
    parser.add_argument("--dask", action="store_true", help="a dask LocalCluster, too")
    parser.set_defaults(run=executors)
    return parser


def executors(options: argparse.Namespace) -> int:
    """Measure or simulate, and print; the exit code is 0."""
    if options.simulate:
        for name, (cluster, n_blocks) in SIMULATED.items():
            print(f"\n{name}, {n_blocks} blocks a pass\n\n{simulation_table(cluster, n_blocks)}")
        return 0
    cache = cache_folder(options.cache)
    cache.mkdir(parents=True, exist_ok=True)
    print("\n".join(f"* {name}: {text}" for name, text in describe_machine().items()))
    with TemporaryDirectory(prefix="executors-", dir=cache) as folder:
        path = Path(folder) / "screen.h5ad"
        point = replace(
            BASE, cells=options.cells, genes=options.genes, perturbations=options.perturbations
        )
        n_stored = write_screen(point, path)
        rows, peaks = [], []
        for name, run in _kinds(path, options):
            for turn in range(options.repeats):
                for phase in run():
                    rows.append(
                        [
                            name,
                            str(turn),
                            phase.name,
                            number(phase.seconds),
                            number(phase.cpu),
                            number(1e9 * phase.cpu / n_stored),
                        ]
                    )
            peaks += [[name, number(peak)] for peak in _peaks_of_workers()]
    print(f"{n_stored:,} non-zeros")
    head = ("executor", "turn", "phase", "s", "CPU s", "CPU ns a non-zero")
    print(markdown_table(head, rows))
    print(markdown_table(("process of", "largest resident memory, MB"), peaks))
    return 0


def _peaks_of_workers() -> list[float]:
    """Return what each process started by this one held at most, pages of files included, in MB."""
    peaks = []
    for process in psutil.Process().children(recursive=True):
        status = Path(f"/proc/{process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s*(\d+) kB", status)
        peaks += [int(found[1]) / 1e3] if found else []
    return peaks


def _kinds(
    path: Path, options: argparse.Namespace
) -> Iterator[tuple[str, Callable[[], list[Phase]]]]:
    yield "threads", lambda: [_whole(path, options.workers)]
    with ThreadPoolExecutor(options.workers) as pool:
        yield "threads, by blocks", lambda: _in_phases(path, pool)
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(_import, range(options.workers)))
        yield "processes", lambda: _in_phases(path, pool)
    if options.dask:
        import dask
        from distributed import Client, LocalCluster

        with (
            dask.config.set({"distributed.nanny.pre-spawn-environ": KEEPING_MEMORY}),
            LocalCluster(
                n_workers=options.workers, threads_per_worker=1, dashboard_address=None
            ) as cluster,
            Client(cluster) as client,
        ):
            client.run(_import, 0)
            yield "dask", lambda: _in_phases(path, client.get_executor(pure=False), client)


def _import(_: int) -> None:
    import crispyx.de

    assert crispyx.de
    time.sleep(0.5)  # so that each process of a pool gets one


def _cpu() -> float:
    """Return the seconds that this process and those it started have computed."""
    own = psutil.Process()
    return sum(sum(one.cpu_times()[:2]) for one in (own, *own.children(recursive=True)))


@contextmanager
def _timed(name: str, phases: list[Phase]) -> Iterator[None]:
    began, cpu = time.perf_counter(), _cpu()
    yield
    phases.append(Phase(name, time.perf_counter() - began, _cpu() - cpu))


def _arguments(path: Path) -> dict[str, Any]:
    return {
        "perturbation_column": "perturbation",
        "control_label": "control",
        "output_path": path.with_name("result.h5ad"),
        "force": True,
    }


def _whole(path: Path, n_threads: int) -> Phase:
    phases: list[Phase] = []
    with warnings.catch_warnings(), _timed("everything", phases):
        warnings.simplefilter("ignore", CrispyxWarning)
        cx.wilcoxon_test(path, n_jobs=n_threads, **_arguments(path))
    return phases[0]


def _in_phases(path: Path, pool: Executor, given: Any = None) -> list[Phase]:
    phases: list[Phase] = []
    with warnings.catch_warnings(), _keeping_stages(path.parent):
        warnings.simplefilter("ignore", CrispyxWarning)
        with _timed("plan and turning around", phases):
            plan = plan_blocks(path, executor=given or pool, **_arguments(path))
        with _timed("blocks", phases):
            what = str(plan.folder), BlockFolder(plan.folder).key(MANIFEST)
            n = plan.n_blocks
            list(pool.map(run_block, *([one] * n for one in what), range(n), [1] * n))
        with _timed("assembly", phases):
            cx.de.assemble_blocks(plan.folder)
        with _timed("everything, turned around before", phases):
            cx.wilcoxon_test(path, executor=given or pool, **_arguments(path))
    return phases


@contextmanager
def _keeping_stages(folder: Path) -> Iterator[None]:
    with TemporaryDirectory(prefix="stages-", dir=folder) as stages:
        settings.stage_dir = stages  # type: ignore[assignment]
        try:
            yield
        finally:
            settings.stage_dir = None


@dataclass(frozen=True)
class Cluster:
    """What decides how long a cluster takes; times in seconds, rates in bytes a second.

    Attributes
    ----------
    n_values : float
        Non-zeros of the matrix.
    n_tests : float
        Pairs of perturbation and gene.
    turn_ns, block_ns : float
        CPU time of a non-zero, 10^-9 s: turning around, and blocks in all passes.
    bytes_per_value : float
        Of a stored non-zero; 6 more are written and read turned around.
    bytes_per_test : float
        Of a result.
    cores, node_rate, store_rate, write_rate
        Cores of a node; what it reads; what the shared store gives all nodes; what one writer
        writes.
    handout : float
        Time of the scheduler for one block.
    begin : float
        Time until a worker has read what it must know of all cells.
    """

    n_values: float
    n_tests: float
    turn_ns: float
    block_ns: float
    bytes_per_value: float = 3.0
    bytes_per_test: float = 60.0
    cores: int = 16
    node_rate: float = 1e9
    store_rate: float = 1e10
    write_rate: float = 1e9
    handout: float = 1e-3
    begin: float = 5.0


# Cells, genes and share of values above 0, and CPU times, as docs/beyond_one_machine.md has them.
_VALUES, _TESTS = 8e6 * 8_248 * 0.2, 9_867 * 8_248
SIMULATED = {
    "Wilcoxon, 8 million cells": (Cluster(_VALUES, _TESTS, 37, 25), 512),
    "nb_glm, 8 million cells": (Cluster(_VALUES, _TESTS, 37, 440, bytes_per_test=150), 512),
    "nb_glm, 8 million cells, more blocks": (
        Cluster(_VALUES, _TESTS, 37, 440, bytes_per_test=150),
        2048,
    ),
}


def simulated(cluster: Cluster, n_nodes: int, n_blocks: int, seed: int = 0) -> dict[str, float]:
    """Return the seconds of every stage on a number of nodes.

    Blocks go to whoever is free; their costs scatter by a quarter, as those of blocks with equal
    non-zeros do. A node computes and reads at a time, and waits for the slower of the two.
    """
    n_cores = n_nodes * cluster.cores
    rate = min(n_nodes * cluster.node_rate, cluster.store_rate)
    moved = (cluster.bytes_per_value + 6) * cluster.n_values
    turning = max(cluster.turn_ns * 1e-9 * cluster.n_values / n_cores, moved / rate)
    mean = cluster.block_ns * 1e-9 * cluster.n_values / n_blocks
    costs = mean * np.random.default_rng(seed).gamma(16, 1 / 16, n_blocks)
    free = [cluster.begin] * min(n_cores, n_blocks)
    for number_, cost in enumerate(costs):
        ready = max(free[0], number_ * cluster.handout)
        heapreplace(free, ready + cost)
    read = 6 * cluster.n_values + cluster.bytes_per_test * cluster.n_tests
    blocks = max(max(free), read / rate)
    assembly = 2 * cluster.bytes_per_test * cluster.n_tests / cluster.write_rate
    return {"turning": turning, "blocks": blocks, "assembly": assembly}


def simulation_table(cluster: Cluster, n_blocks: int, nodes: Sequence[int] = NODES) -> str:
    """Return seconds of every stage by the number of nodes, and what of the first is kept."""
    rows, first = [], 0.0
    for n_nodes in nodes:
        stages = simulated(cluster, n_nodes, n_blocks)
        whole = sum(stages.values())
        first = first or whole * n_nodes
        share = f"{100 * first / (whole * n_nodes):.0f} %"
        rows.append([str(n_nodes), *(number(t) for t in stages.values()), number(whole), share])
    head = ("nodes", "turning, s", "blocks, s", "assembly, s", "all, s", "efficiency")
    return markdown_table(head, rows)
