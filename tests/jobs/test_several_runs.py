"""Runs that share workers share nothing else; what workers keep open is in nobody's way."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from concurrent.futures import ThreadPoolExecutor as Threads
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import COLUMN, assert_same_bits, count_screen, log_screen, tables_of, write_h5ad
from negative_binomial_screens import nb_screen, run_nb, write_screen

import crispyx as cx
from crispyx._io import stored_array
from crispyx._io.source import MatrixSource
from crispyx._jobs import block_work, shared_input
from crispyx._run.latest import Latest
from crispyx.de import elsewhere
from crispyx.de.one_pass import BlockTestWork
from crispyx.errors import InputError, OutputBusyError

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "BLOCK_VALUES", (60, 60))
    monkeypatch.setattr(elsewhere, "UNIT_VALUES", 250)
    monkeypatch.setattr(shared_input, "LEAST_VALUES", 60)


def ranks(screen: Path, output: Path, **options: Any) -> dict[str, np.ndarray]:
    options = {"perturbation_column": COLUMN, "output_path": output, "force": True} | options
    return tables_of(cx.wilcoxon_test(screen, **options).result_path)


def means(screen: Path, output: Path, **options: Any) -> dict[str, np.ndarray]:
    options = {"perturbation_column": COLUMN, "output_path": output, "force": True} | options
    return tables_of(cx.t_test(screen, **options).result_path)


def fits(screen: Path, output: Path, **options: Any) -> dict[str, np.ndarray]:
    return tables_of(run_nb(screen, output, **options).result_path)


def counts(screen: Path, output: Path, **options: Any) -> dict[str, np.ndarray]:
    found = cx.quality_control_summary(
        screen,
        perturbation_column=COLUMN,
        min_genes=3,
        min_cells_per_perturbation=3,
        min_cells_per_gene=3,
        **options,
    )
    return {"cells": found.cell_gene_counts, "genes": found.gene_cell_counts}


def sums(screen: Path, output: Path, **options: Any) -> dict[str, np.ndarray]:
    options = {"groupby": COLUMN, "output_path": output, "force": True} | options
    return tables_of(cx.pb.aggregate(screen, **options).path)


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """Return what several calls find that begin together."""
    together = threading.Barrier(len(calls))

    def call(one: Callable[[], Any]) -> Any:
        together.wait()
        return one()

    with Threads(len(calls)) as callers:
        return [future.result() for future in [callers.submit(call, one) for one in calls]]


@pytest.mark.parametrize("layout", ["csr", "csc"])
def test_several_runs_at_once_change_no_bit(layout: str, monkeypatch, tmp_path: Path) -> None:
    screens = [
        write_screen(tmp_path / "one.h5ad", layout=layout),
        write_h5ad(tmp_path / "two.h5ad", *count_screen(), layout=layout),
    ]
    runs = [(run, screen) for run in (ranks, means, fits, counts, sums) for screen in screens]
    runs += [(run, screens[0]) for run in (ranks, counts)]  # an input, and all of a run, twice
    order = []
    compute, read = block_work.run_block, MatrixSource.native_blocks

    def recorded(path: str, *more: Any) -> None:
        order.append(path)
        compute(path, *more)

    def waiting(self: MatrixSource, *what: Any, **more: Any) -> Iterator[Any]:
        time.sleep(0.001)  # so that others take their turn while the input is in use
        yield from read(self, *what, **more)

    monkeypatch.setattr(elsewhere, "run_block", recorded)
    monkeypatch.setattr(MatrixSource, "native_blocks", waiting)
    monkeypatch.setattr(stored_array, "_is_plain", lambda _: False)  # h5py reads open files alone
    with Threads(2) as pool:
        found = at_once(
            [
                lambda n=n, run=run, screen=screen: run(
                    screen, tmp_path / f"{n}.h5ad", executor=pool
                )
                for n, (run, screen) in enumerate(runs)
            ]
        )
    turns = sum(one != other for one, other in pairwise(order))
    assert turns > 2 * len(set(order))  # blocks of one run among those of others
    for (run, screen), there in zip(runs, found, strict=True):
        assert_same_bits(there, run(screen, tmp_path / "here.h5ad"))


class Thing:
    """Something that tells whether it is closed, and is never closed twice."""

    def __init__(self) -> None:
        self.is_closed = False

    def close(self) -> None:
        assert not self.is_closed
        self.is_closed = True


def test_nothing_is_closed_while_it_is_used() -> None:
    latest: Latest[Thing] = Latest()
    with latest.using("a", Thing) as a:
        with latest.using("b", Thing) as b, latest.using("a", Thing) as again:
            assert again is a
            latest.close()
            assert not a.is_closed
            assert not b.is_closed
        assert b.is_closed
        assert not a.is_closed
    assert a.is_closed
    with latest.using("a", Thing) as anew:
        assert anew is not a


def test_what_is_not_used_is_kept_until_another_is_asked_for() -> None:
    latest: Latest[Thing] = Latest()
    with latest.using("a", Thing) as a:
        pass
    with latest.using("a", Thing) as again:
        assert again is a
    assert not a.is_closed
    with latest.using("b", Thing) as b:
        assert a.is_closed
    latest.close()
    assert b.is_closed


@pytest.mark.parametrize("run", [ranks, fits, sums])
def test_input_can_be_changed_in_place_after_a_run_of_others(
    run: Callable[..., Any], processes: Executor, tmp_path: Path
) -> None:
    with Threads(2) as threads:
        for name, pool in {"processes": processes, "threads": threads}.items():
            screen = write_screen(tmp_path / f"{name}.h5ad")
            run(screen, tmp_path / f"{name}.out.h5ad", executor=pool)
            cx.pp.pca(screen, n_comps=3)
            assert "X_pca" in cx.read_h5ad_ondisk(screen).obsm


def test_input_cannot_be_changed_in_place_while_a_job_computes_a_block(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    screen = write_h5ad(tmp_path / "screen.h5ad", *log_screen())
    plan = cx.de.plan_blocks(screen, perturbation_column=COLUMN, output_path=tmp_path / "out.h5ad")
    tile, refused = block_work.BlockFolder.write_tile, []

    def change(self: Any, *what: Any) -> None:
        with pytest.raises(OutputBusyError, match="is open elsewhere"):
            cx.pp.pca(screen, n_comps=3)
        refused.append(what)
        tile(self, *what)

    monkeypatch.setattr(block_work.BlockFolder, "write_tile", change)
    cx.de.run_block(plan.folder, 0)
    assert refused
    cx.pp.pca(screen, n_comps=3)


def test_block_of_an_input_that_changed_meanwhile_is_not_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    screen = write_h5ad(tmp_path / "screen.h5ad", *log_screen())
    compute = BlockTestWork.tile

    def changing(self: Any, *block: Any) -> Any:
        os.utime(screen, ns=(1, 1))
        return compute(self, *block)

    monkeypatch.setattr(BlockTestWork, "tile", changing)
    with Threads(1) as pool, pytest.raises(InputError, match="was changed while it was read"):
        ranks(screen, tmp_path / "out.h5ad", executor=pool)
    assert not list((tmp_path / "out.h5ad.blocks/tiles").iterdir())


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the folder in which turned matrices are kept."""
    folder = tmp_path / "stages"
    folder.mkdir()
    monkeypatch.setattr(cx.settings, "_stage_dir", folder)
    return folder


@pytest.fixture
def turned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the parts that are turned around."""
    parts: list[int] = []
    plain = elsewhere.turn_unit

    def recorded(path: str, key: str, unit: int) -> None:
        parts.append(unit)
        plain(path, key, unit)

    monkeypatch.setattr(elsewhere, "turn_unit", recorded)
    return parts


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_matrix_that_is_kept_is_turned_around_once_for_all_tests(
    layout: str, stages: Path, turned: list[int], tmp_path: Path
) -> None:
    values, labels = nb_screen()
    every_label = [label or "A" for label in labels]
    screen = write_h5ad(tmp_path / "screen.h5ad", values, every_label, layout=layout)
    with Threads(2) as pool:
        for n, run in enumerate((means, fits, ranks)):
            there = run(screen, tmp_path / f"there{n}.h5ad", executor=pool)
            assert_same_bits(there, run(screen, tmp_path / f"here{n}.h5ad"))
            if layout != "csc":
                assert turned == list(range(len(turned)))
                assert len(turned) > 2
    (kept,) = stages.iterdir()
    assert kept.name.startswith("screen.h5ad-")
    assert not list(tmp_path.glob("*.blocks"))
    screen.touch()
    with Threads(2) as pool:
        means(screen, tmp_path / "later.h5ad", executor=pool)
    assert len(list(stages.iterdir())) == 2


def test_tests_of_other_cells_do_not_share_a_turned_matrix(stages: Path, tmp_path: Path) -> None:
    screen = write_h5ad(tmp_path / "screen.h5ad", *log_screen())  # two cells without a label
    chosen = {"perturbations": ["KLF1"]}
    with Threads(2) as pool:
        for n, (run, options) in enumerate([(ranks, {}), (means, {}), (ranks, chosen)]):
            there = run(screen, tmp_path / f"there{n}.h5ad", executor=pool, **options)
            assert_same_bits(there, run(screen, tmp_path / f"here{n}.h5ad", **options))
    assert len(list(stages.iterdir())) == 3


def test_turned_matrix_that_was_deleted_is_made_again(
    stages: Path, turned: list[int], tmp_path: Path
) -> None:
    screen = write_screen(tmp_path / "screen.h5ad")
    plan = cx.de.plan_blocks(
        screen, "t-test", perturbation_column=COLUMN, output_path=tmp_path / "out.h5ad"
    )
    n_parts = len(turned)
    shutil.rmtree(next(stages.iterdir()))
    again = cx.de.plan_blocks(
        screen, "t-test", perturbation_column=COLUMN, output_path=tmp_path / "out.h5ad"
    )
    assert again == plan
    assert len(turned) == 2 * n_parts
    for block in range(plan.n_blocks):
        cx.de.run_block(plan.folder, block)
    cx.de.assemble_blocks(plan.folder)
    assert_same_bits(tables_of(plan.output), means(screen, tmp_path / "here.h5ad"))


def test_stage_dir_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"settings\.stage_dir .* is not a folder; create it"):
        cx.settings.stage_dir = tmp_path / "nowhere"
