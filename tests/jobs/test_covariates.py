"""Covariates from obs."""

from __future__ import annotations

from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest

from crispyx._io.source import open_source
from crispyx._jobs.covariates import Covariates, read_covariates
from crispyx.errors import CrispyxWarning, InputError, MissingColumnError

N = 40


def read(columns: list[str], used: np.ndarray | None = None, **obs: Any) -> Covariates | None:
    frame = pd.DataFrame({"perturbation": "a", **obs}, index=[f"c{i}" for i in range(N)])
    adata = anndata.AnnData(np.ones((N, 2), dtype="f4"), obs=frame)
    used = np.ones(N, dtype=bool) if used is None else used
    return read_covariates(open_source(adata), columns, "perturbation", used)


def test_text_and_categories_make_strata_and_numbers_are_scaled() -> None:
    rng = np.random.default_rng(0)
    lane, sex = rng.choice(["x", "y", "z"], N), rng.random(N) < 0.5
    depth = rng.normal(5, 3, N)
    found = read(["lane", "depth", "male"], lane=lane, male=sex, depth=depth)
    assert found is not None
    assert found.strata.n_strata == len({*zip(lane.tolist(), sex.tolist(), strict=True)})
    pairs = {(a, b): k for a, b, k in zip(lane, sex, found.strata.of_cell, strict=True)}
    assert len(set(pairs.values())) == found.strata.n_strata
    np.testing.assert_allclose(found.numbers[:, 0], (depth - depth.mean()) / depth.std())


def test_integers_are_numbers_and_their_categories_are_not() -> None:
    lane = np.arange(N) % 3
    found = read(["lane"], lane=lane)
    assert found is not None
    assert found.numbers.shape == (N, 1)
    found = read(["lane"], lane=pd.Categorical(lane))
    assert found is not None
    assert found.numbers.shape == (N, 0)
    assert found.strata.n_strata == 3


def test_nothing_asked_is_nothing() -> None:
    assert read([]) is None


def test_cells_without_a_value_are_left_out_with_a_warning() -> None:
    lane = np.array(["x", "y"] * (N // 2), dtype=object)
    lane[3] = None
    depth = np.arange(N, dtype=float)
    depth[5] = np.nan
    with pytest.warns(CrispyxWarning, match="2 of 40 cells.*'lane', 'depth'"):
        found = read(["lane", "depth"], lane=lane, depth=depth)
    assert found is not None
    assert found.strata.of_cell[[3, 5]].tolist() == [-1, -1]
    assert np.isfinite(found.numbers).all()


LANE = np.array(["x", "y", "x", "z"] * (N // 4))


@pytest.mark.parametrize(
    ("columns", "obs", "message"),
    [
        (["lane", "lane"], {"lane": LANE}, "'lane' twice"),
        (["perturbation"], {}, "what is tested"),
        (["lane"], {"lane": "x"}, "'lane'.*same value"),
        (["n"], {"n": 0.1}, "'n'.*same value"),
        (["lane", "day"], {"lane": LANE, "day": np.where(LANE == "x", "a", "b")}, "'day'.*'lane'"),
        (["lane", "n"], {"lane": LANE, "n": (LANE == "z") * 2.0}, "'n'.*what 'lane' say"),
    ],
)
def test_covariates_that_cannot_be_fitted_are_refused(
    columns: list[str], obs: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read(columns, **obs)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(MissingColumnError, match="'lane'"):
        read(["lane"])


def test_values_of_cells_that_take_no_part_do_not_count() -> None:
    lane = np.where(np.arange(N) < 20, "x", "y")
    with pytest.raises(InputError, match="same value"):
        read(["lane"], np.arange(N) < 20, lane=lane)
