"""Energy distances of a screen: who is compared with whom, and what a p-value depends on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from layouts import in_memory

import crispyx as cx
import reference.energy_distance as reference
from crispyx.dimred import energy
from crispyx.errors import CrispyxWarning, InputError, MissingColumnError

LABELS = np.array((["control"] * 4 + ["moved", "same", "wide"]) * 12, dtype=object)


@pytest.fixture
def screen() -> anndata.AnnData:
    """Return a screen whose embedding a perturbation shifts, leaves alone, or widens."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(len(LABELS), 6))
    table[LABELS == "moved", 0] += 4
    table[LABELS == "wide"] *= 8
    adata = in_memory(np.ones((len(LABELS), 3)), LABELS, np.asarray)
    adata.obsm["X_pca"] = table.astype(np.float32)
    return adata


def found(data: Any, **options: Any) -> pd.DataFrame:
    options = {"perturbation_column": "perturbation", "n_permutations": 99} | options
    return cx.tl.energy_distance(data, **options)


def test_distances_are_those_of_the_definition_and_rank_effects(screen: anndata.AnnData) -> None:
    table = found(screen)
    assert table.index.name == "perturbation"
    assert list(table.index) == ["wide", "moved", "same"]
    points = screen.obsm["X_pca"].astype(float)
    for label, row in table.iterrows():
        expected = reference.energy_distance(points[label == LABELS], points[LABELS == "control"])
        assert row["energy_distance"] == pytest.approx(expected, rel=1e-10)
        assert row["n_cells"] == 12
    assert table.loc[["wide", "moved"], "pvalue"].tolist() == [0.01, 0.01]
    assert table.loc["same", "pvalue"] > 0.05
    assert table.loc["moved", "pvalue_adj"] == pytest.approx(0.015)
    assert (table["energy_distance"] > table["expected"]).loc[["wide", "moved"]].all()
    assert table.attrs["control_label"] == "control"
    assert table.attrs["n_control"] == 48


def test_threads_other_perturbations_and_permutations_at_once_change_no_number(
    screen: anndata.AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = found(screen, n_jobs=1)
    pd.testing.assert_frame_equal(found(screen, n_jobs=3), expected, check_exact=True)
    alone = found(screen, perturbations=["same"])
    columns = ["energy_distance", "expected", "pvalue"]
    pd.testing.assert_frame_equal(alone[columns], expected.loc[["same"], columns], check_exact=True)
    monkeypatch.setattr(energy, "DRAWN", 30)  # two permutations at a time
    pd.testing.assert_frame_equal(found(screen), expected, check_exact=True)


def test_file_memory_and_reference_agree(screen: anndata.AnnData, tmp_path: Path) -> None:
    expected = found(screen)
    screen.write_h5ad(tmp_path / "screen.h5ad")
    before = (tmp_path / "screen.h5ad").read_bytes()
    pd.testing.assert_frame_equal(found(tmp_path / "screen.h5ad"), expected, check_exact=True)
    assert (tmp_path / "screen.h5ad").read_bytes() == before
    with cx.use_engine("reference"):
        pd.testing.assert_frame_equal(found(screen), expected, rtol=1e-10)


def test_seed_moves_p_and_not_the_distance(screen: anndata.AnnData) -> None:
    first, second = (found(screen, random_state=seed).loc["same"] for seed in (0, 1))
    assert first["energy_distance"] == second["energy_distance"]
    assert first["pvalue"] != second["pvalue"]


def test_rest_of_the_screen_as_control_leaves_out_the_own_cells(screen: anndata.AnnData) -> None:
    table = found(screen, control_label="rest", perturbations=["moved", "wide"])
    points = screen.obsm["X_pca"].astype(float)
    for label in ("moved", "wide"):
        own = label == LABELS
        expected = reference.energy_distance(points[own], points[~own])
        assert table.loc[label, "energy_distance"] == pytest.approx(expected, rel=1e-10)


def test_chosen_columns_and_cells_are_used(screen: anndata.AnnData) -> None:
    points = screen.obsm["X_pca"].astype(float)[:, :2]
    expected = reference.energy_distance(points[LABELS == "moved"], points[LABELS == "control"])
    table = found(screen, n_pcs=2, n_permutations=0)
    assert table.loc["moved", "energy_distance"] == pytest.approx(expected, rel=1e-10)
    assert table[["pvalue", "pvalue_adj", "expected"]].isna().all(axis=None)
    few = found(screen, max_cells=8, n_permutations=0)
    assert few.loc["moved", "energy_distance"] != found(screen).loc["moved", "energy_distance"]
    assert few.loc["moved", "n_cells"] == 12
    pd.testing.assert_frame_equal(few, found(screen, max_cells=8, n_permutations=0))


def test_too_small_perturbations_are_not_tested(screen: anndata.AnnData) -> None:
    screen.obs["perturbation"] = ["lonely", *LABELS[1:]]
    with pytest.warns(CrispyxWarning, match="1 perturbations are not tested.*'lonely'"):
        table = found(screen)
    assert table.index[-1] == "lonely"
    assert table.loc["lonely", ["energy_distance", "pvalue", "pvalue_adj"]].isna().all()
    assert table["pvalue"].notna().sum() == 3


def bad_calls() -> Iterator[tuple[dict[str, Any], type[Exception], str]]:
    yield {"use_rep": "X_umap"}, InputError, "obsm has no 'X_umap'; it has 'X_pca'"
    yield {"n_pcs": 7}, InputError, r"n_pcs is 7, but obsm\['X_pca'\] has 6 columns"
    yield {"n_permutations": -1}, InputError, "n_permutations is -1"
    yield {"perturbation_column": "guide"}, MissingColumnError, "no obs column 'guide'"
    yield {"control_label": "ctl"}, InputError, "control label 'ctl' is not in"
    yield {"max_cells": 1}, InputError, "max_cells is 1; give a whole number >= 2"


@pytest.mark.parametrize(("options", "error", "message"), bad_calls())
def test_bad_arguments_are_refused(
    screen: anndata.AnnData, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        found(screen, **options)
