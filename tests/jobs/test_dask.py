"""A dask cluster computes the bits of one process, whatever happens to it."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor as Threads
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import psutil
import pytest
from layouts import COLUMN, assert_same_bits, count_screen, tables_of, write_h5ad
from negative_binomial_screens import run_nb, write_screen

import crispyx as cx
from crispyx._jobs import shared_input
from crispyx._run.executor import Workers
from crispyx.de import elsewhere
from crispyx.errors import WorkerError

distributed = pytest.importorskip("distributed")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "BLOCK_VALUES", (1, 60))
    monkeypatch.setattr(shared_input, "LEAST_VALUES", 60)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def screen(tmp_path: Path) -> Path:
    return write_screen(tmp_path / "screen.h5ad")


def tables(screen: Path, name: str, **options: Any) -> dict[str, np.ndarray]:
    return tables_of(run_nb(screen, screen.with_name(f"{name}.h5ad"), **options).result_path)


def after_two_blocks(monkeypatch: pytest.MonkeyPatch, act: Callable[[], Any]) -> list[int]:
    """Do something once two blocks are there."""
    results, done = Workers.run, []

    def acting(self: Workers, function: Any, tasks: Any) -> Iterator[int]:
        for number in results(self, function, tasks):
            if function is elsewhere.run_block:
                done.append(number)
                if len(done) == 2:
                    act()
            yield number

    monkeypatch.setattr(Workers, "run", acting)
    return done


def test_a_cluster_changes_no_bit(client: Any, screen: Path) -> None:
    assert_same_bits(tables(screen, "there", executor=client), tables(screen, "here"))


def test_a_cluster_counts_and_sums_the_same(client: Any, screen: Path) -> None:
    found = []
    for executor in (None, client):
        counted = cx.quality_control_summary(
            screen,
            perturbation_column=COLUMN,
            min_genes=3,
            min_cells_per_perturbation=3,
            min_cells_per_gene=3,
            executor=executor,
        )
        means = cx.pb.aggregate(
            screen, groupby=COLUMN, method="mean_log1p", force=True, executor=executor
        )
        found.append(
            {
                "genes of cells": counted.cell_gene_counts,
                "cells of genes": counted.gene_cell_counts,
                "means": tables_of(means.path)["X"],
            }
        )
    assert_same_bits(*found)


def test_a_killed_worker_changes_no_bit(client: Any, screen: Path, monkeypatch) -> None:
    process = next(iter(client.run(os.getpid).values()))
    done = after_two_blocks(monkeypatch, lambda: os.kill(process, signal.SIGKILL))
    found = tables(screen, "there", executor=client)
    assert len(done) > 2
    assert_same_bits(found, tables(screen, "here"))


def test_restarted_workers_change_no_bit(client: Any, screen: Path, monkeypatch) -> None:
    after_two_blocks(monkeypatch, client.restart)
    assert_same_bits(tables(screen, "there", executor=client), tables(screen, "here"))


def test_a_scheduler_that_is_gone_is_an_error_and_the_run_goes_on_with_another(
    client: Any, screen: Path, monkeypatch
) -> None:
    options = {"n_workers": 1, "processes": True, "dashboard_address": None}
    with (
        distributed.LocalCluster(**options) as cluster,
        distributed.Client(cluster) as lost,
        monkeypatch.context() as patch,
    ):
        after_two_blocks(patch, cluster.close)
        with pytest.raises(WorkerError, match=r"scheduler does not answer.*resume=True"):
            tables(screen, "out", executor=lost)
    kept = list(screen.with_name("out.h5ad.blocks").glob("tiles/*.tile"))
    assert len(kept) >= 2
    found = tables(screen, "out", executor=client, resume=True)
    assert_same_bits(found, tables(screen, "here"))


def test_several_runs_of_a_cluster_at_once_change_no_bit(client: Any, tmp_path: Path) -> None:
    screens = [
        write_screen(tmp_path / "one.h5ad"),
        write_h5ad(tmp_path / "two.h5ad", *count_screen()),
    ]
    runs = [(screens[0], "first"), (screens[0], "again"), (screens[1], "other")]
    together = Barrier(len(runs))

    def run(screen: Path, name: str) -> dict[str, np.ndarray]:
        together.wait()
        return tables(screen, name, executor=client)

    with Threads(len(runs)) as callers:
        found = list(callers.map(run, *zip(*runs, strict=True)))
    for there, (screen, _) in zip(found, runs, strict=True):
        assert_same_bits(there, tables(screen, "here"))


def test_workers_of_a_cluster_let_go_of_what_they_read(client: Any, screen: Path) -> None:
    tables(screen, "there", executor=client)
    held = client.run(lambda: [file.path for file in psutil.Process().open_files()])
    assert held
    assert not [path for paths in held.values() for path in paths if str(screen.parent) in path]
    cx.pp.pca(screen, n_comps=3)


def most_resident(client: Any) -> int:
    """Return the bytes that a worker has held at most."""
    (status,) = client.run(lambda: Path("/proc/self/status").read_text()).values()
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    assert found is not None
    return 1000 * int(found[1])


def test_memory_of_a_worker_does_not_grow_with_the_number_of_genes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()  # blocks and parts of the usual size
    rng = np.random.default_rng(0)
    peaks, n_stored, options = [], [], {"n_workers": 1, "memory_limit": "700MB"}
    for n_genes in (1_500, 12_000):
        values = rng.exponential(size=(4_000, n_genes)).astype(np.float32)
        labels = rng.choice(["control", "A", "B"], len(values)).tolist()
        screen = write_h5ad(tmp_path / f"{n_genes}.h5ad", values, labels)
        with (
            distributed.LocalCluster(**options, processes=True, dashboard_address=None) as cluster,
            distributed.Client(cluster) as client,
        ):
            before = client.run(os.getpid)
            cx.wilcoxon_test(
                screen,
                perturbation_column=COLUMN,
                output_path=screen.with_suffix(".out"),
                executor=client,
            )
            assert client.run(os.getpid) == before  # none was killed for its memory
            peaks.append(most_resident(client))
        n_stored.append(values.size)
    more = n_stored[1] - n_stored[0]
    assert 8 * more > 300e6  # of the file's values and positions
    assert peaks[1] - peaks[0] < 100e6
