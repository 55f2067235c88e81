"""Compiled fits of kaichi's models against their definition."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from crispyx._stats.kaichi_mixtures import fit_kaichi, fit_kaichi_beta
from crispyx._stats.mixtures import GuideColumns

MODELS = ["poisson_gauss", "gauss", "poisson", "neg_binomial", "binomial"]


def simulated(seed: int, n_cells: int = 400) -> np.ndarray:
    rng = np.random.default_rng(seed)
    depth = rng.lognormal(0, 0.4, n_cells)
    counts = rng.poisson(0.4 * depth[:, None], (n_cells, 3))
    carries = rng.random((n_cells, 3)) < 0.15
    return counts + carries * rng.negative_binomial(3, 3 / (3 + 40 * depth[:, None]), (n_cells, 3))


def columns_of(dense: np.ndarray) -> GuideColumns:
    matrix = sp.csc_matrix(dense)
    ptr = matrix.indptr.astype(np.int64)
    return GuideColumns(dense.shape[0], ptr, matrix.indices, matrix.data.astype(np.int64))


@pytest.mark.parametrize("model", MODELS)
def test_fits_are_those_of_the_reference(model: str) -> None:
    counts = simulated(1)
    columns, depth = columns_of(counts), counts.sum(axis=1)
    compiled, defined = (
        fit_kaichi(columns, depth, model, engine) for engine in ("compiled", "reference")
    )
    # Both climb until a step is below 1e-8; the objective is flat there.
    np.testing.assert_allclose(compiled.objective, defined.objective, rtol=1e-9)
    np.testing.assert_allclose(compiled.log_odds, defined.log_odds, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model", MODELS)
def test_guide_without_a_fit_is_called_nowhere(model: str) -> None:
    counts = np.zeros((30, 3), dtype=np.int64)
    counts[:9, 0], counts[3, 1] = 7, 50
    fits = fit_kaichi(columns_of(counts), counts.sum(axis=1), model, "compiled")
    assert fits.status.tolist() == ["no_separation", "too_few", "no_counts"]
    assert np.all(fits.log_odds == -np.inf)


@pytest.mark.parametrize("model", ["beta2", "beta3"])
def test_cells_without_guide_umis_are_left_out(model: str) -> None:
    counts = simulated(2) + 1
    counts[:5] = 0
    fit = fit_kaichi_beta(counts.max(axis=1), counts.sum(axis=1), model)
    assert np.all(fit.log_odds[:5] == -np.inf)
    assert np.isfinite(fit.log_odds[5:]).all()
