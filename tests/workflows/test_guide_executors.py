"""Guides fitted by others have the bits of those fitted here."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import crispyx as cx

pytestmark = pytest.mark.filterwarnings("ignore::crispyx.errors.CrispyxWarning")


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.05, (300, 12))
    counts[np.arange(300), rng.integers(0, 12, 300)] += rng.negative_binomial(2, 0.05, 300)
    counts[:, 7] = 0
    path = tmp_path_factory.mktemp("guides") / "guides.h5ad"
    anndata.AnnData(sp.csr_matrix(counts.astype(np.float32))).write_h5ad(path)
    return path


def assert_same(found: Any, expected: Any) -> None:
    assert (found.layers["assigned"] != expected.layers["assigned"]).nnz == 0
    pd.testing.assert_frame_equal(found.var, expected.var, check_exact=True)
    pd.testing.assert_frame_equal(found.obs, expected.obs, check_exact=True)


@pytest.mark.parametrize(
    "options",
    [
        {"model": "poisson_gauss"},
        {"model": "gauss"},
        {"model": "poisson"},
        {"model": "neg_binomial"},
        {"model": "binomial"},
        {"model": "beta2"},
        {"model": "poisson", "priors": True},
        {"model": "poisson_gauss", "variant": "kaichi"},
        {"model": "umi"},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_guides_fitted_in_ranges_have_the_same_bits(options: dict, screen: Path) -> None:
    before = set(screen.parent.iterdir())
    with ThreadPoolExecutor(2) as pool:
        found = cx.gd.assign(screen, executor=pool, **options)
    assert_same(found, cx.gd.assign(screen, **options))
    assert set(screen.parent.iterdir()) == before


def test_scores_of_other_processes_have_the_same_bits(screen: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        found = cx.gd.score(screen, executor=pool)
    expected = cx.gd.score(screen)
    np.testing.assert_array_equal(found.log_odds.data, expected.log_odds.data)
    pd.testing.assert_frame_equal(found.fits, expected.fits, check_exact=True)
