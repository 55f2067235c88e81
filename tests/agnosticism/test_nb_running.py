"""Nothing about how the negative binomial test runs or its input is stored changes a bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import assert_same_bits, tables_of
from negative_binomial_screens import run_nb, write_screen

from crispyx._io import genes
from crispyx._jobs import plan

SHAPE: dict[str, Any] = {"n_genes": 19, "sizes": (30, 14, 9, 1, 12), "seed": 3}
APART = {"size_factor_scope": "per_comparison", "dispersion_scope": "per_comparison"}
MODES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "own dispersions": {"dispersion_scope": "per_comparison"},
    "own size factors": {"size_factor_scope": "per_comparison"},
    "pydeseq2": {"preset": "pydeseq2", "cook_filter": True},
    "moments, robust": {"dispersion_method": "moments", "se_method": "robust"},
    "no trend": APART | {"shrink_dispersion": False},
    "irls": {"optimization_method": "irls", "cook_filter": True},
    "calibrated": {"preset": "calibrated"},
    "permutation": {"test": "permutation", "most_sets": 1_000},
}
RUNNING: dict[str, dict[str, Any]] = {
    "one gene": {"chunk_size": 1},
    "two genes": {"chunk_size": 2, "n_jobs": 2},
    "seven genes": {"chunk_size": 7},
    "all genes": {"chunk_size": 1000, "irls_batch_size": None},
    "five at a time": {"irls_batch_size": 5},
    "one thread": {"n_jobs": 1},
    "three threads": {"n_jobs": 3},
    "little that is dense": {"max_dense_fraction": 1e-9},
    "no cache": {"use_control_cache": False},
    "not frozen": {"freeze_control": False, "n_jobs": 2},
    "no cache, three genes": {"use_control_cache": False, "chunk_size": 3},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("screens")
    for layout in ("csr", "csc", "dense"):
        write_screen(folder / f"{layout}.h5ad", layout, **SHAPE)
    return folder


@pytest.fixture(scope="module", params=MODES)
def mode(request: pytest.FixtureRequest, folder: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """Return the arguments of a mode and its tables."""
    arguments = MODES[request.param]
    return arguments, tables(folder / "csr.h5ad", folder, arguments)


def tables(screen: Path, folder: Path, arguments: dict[str, Any]) -> dict[str, np.ndarray]:
    return tables_of(run_nb(screen, folder / "result.h5ad", **arguments).result_path)


@pytest.mark.parametrize("running", RUNNING.values(), ids=RUNNING)
def test_how_it_runs_changes_no_bit(mode: tuple, running: dict, folder: Path) -> None:
    arguments, expected = mode
    assert_same_bits(tables(folder / "csr.h5ad", folder, arguments | running), expected)


@pytest.mark.parametrize("layout", ["csc", "dense"])
def test_the_layout_changes_no_bit(mode: tuple, layout: str, folder: Path) -> None:
    arguments, expected = mode
    found = tables(folder / f"{layout}.h5ad", folder, arguments | {"chunk_size": 4})
    assert_same_bits(found, expected)


def test_control_sums_that_are_frozen_are_the_same(folder: Path) -> None:
    expected = tables(folder / "csr.h5ad", folder, {})
    frozen = tables(folder / "csr.h5ad", folder, {"freeze_control": True})
    assert_same_bits(frozen, expected)


@pytest.mark.parametrize("name", ["defaults", "pydeseq2"])
def test_values_read_at_a_time_change_no_bit(name: str, folder: Path, small_reads) -> None:
    screens = [folder / f"{layout}.h5ad" for layout in ("csr", "csc")]
    first, second = (tables(screen, folder, MODES[name] | {"n_jobs": 2}) for screen in screens)
    assert_same_bits(first, second)


@pytest.mark.parametrize("name", ["defaults", "pydeseq2"])
def test_the_smallest_budget_changes_no_bit(name: str, folder: Path, monkeypatch) -> None:
    screens = [folder / f"{layout}.h5ad" for layout in ("csr", "csc")]
    expected = tables(screens[0], folder, MODES[name])
    floors: list[int] = []
    folders: list[Path | None] = []

    class Spy(genes.SegmentStore):
        def __init__(self, n_minor: int, scratch_dir: Path | None = None) -> None:
            folders.append(scratch_dir)
            super().__init__(n_minor, scratch_dir)

    monkeypatch.setattr(genes, "SegmentStore", Spy)
    monkeypatch.setattr(plan, "require", lambda needed, *_: floors.append(needed))
    for screen in screens:
        tables(screen, folder, MODES[name])
        monkeypatch.setattr(plan, "working_memory", lambda _: floors[-1])
        assert_same_bits(tables(screen, folder, MODES[name]), expected)
    assert folder in folders  # the budget asked for a scratch file
