"""A dask cluster computes the bits of one process, whatever happens to it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import COLUMN, assert_same_bits, tables_of
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
