"""Fits of each batch or of all pooled, against their definition."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from crispyx._stats.batch_fits import fit_beta_batches, fit_histogram_batches
from crispyx._stats.histogram_mixtures import NAMES, fit_histogram, log_likelihoods
from crispyx._stats.mixtures import GuideColumns
from reference.batch_fits import fit_in_batches
from reference.histogram_mixtures import log_likelihood, log_odds_gauss

HISTOGRAM = ["poisson_gauss", "gauss"]


def simulated(seed: int, shift: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Return counts, cells x 2 guides, and batches: 0 and 1 are alike, 2 is deeper, 3 small."""
    rng = np.random.default_rng(seed)
    batch = rng.choice(4, 1200, p=[0.35, 0.3, 0.33, 0.02])
    deep = np.where(batch == 2, shift, 0.0)[:, None]
    signal = rng.random((1200, 2)) < 0.3
    high = np.round(2 ** rng.normal(4 + deep, 0.8, (1200, 2)))
    ambient = rng.poisson(0.5 * 2 ** (deep / 2), (1200, 2))
    return np.where(signal, high, ambient).astype(np.int64), batch


def proportions(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return largest count, depth and batch; batch 1 has more ambient UMIs, batch 2 is small."""
    rng = np.random.default_rng(seed)
    batch = rng.choice(3, 1500, p=[0.5, 0.48, 0.02])
    depth = rng.choice([20, 30, 45], 1500)  # few distinct proportions: a fast reference
    share = np.choose(
        rng.choice(3, 1500, p=[0.2, 0.2, 0.6]),
        [
            rng.beta(4, 12, 1500),
            rng.beta(20, 20, 1500),
            rng.beta(np.where(batch == 1, 5, 30), 0.6),
        ],
    )
    return np.maximum(rng.binomial(depth, share), 1), depth, batch


def columns_of(dense: np.ndarray) -> GuideColumns:
    matrix = sp.csc_matrix(dense)
    ptr = matrix.indptr.astype(np.int64)
    return GuideColumns(dense.shape[0], ptr, matrix.indices, matrix.data.astype(np.int64))


@pytest.mark.parametrize("engine", ["compiled", "reference"])
@pytest.mark.parametrize("model", HISTOGRAM)
def test_batches_have_the_fits_of_the_reference(model: str, engine: str) -> None:
    counts, batch = simulated(1)
    found = fit_histogram_batches(columns_of(counts), batch, model, engine)
    for guide in range(2):
        defined = fit_in_batches(model, counts[:, guide], batch)
        assert found.has_own[guide].tolist() == [fit is not None for fit in defined.own]
        assert found.has_own[guide].any()
        assert not found.has_own[guide].all()
        for b, own in enumerate(defined.own):
            fit = own or defined.pooled
            parameters = [fit.parameters[name] for name in NAMES[model]]
            # Both climb until a step is below 1e-10; the objective is flat there.
            np.testing.assert_allclose(found.parameters[guide, b], parameters, rtol=1e-5)


@pytest.mark.parametrize("model", HISTOGRAM)
def test_log_odds_are_those_of_the_fit_that_serves(model: str) -> None:
    counts, batch = simulated(2)
    columns = columns_of(counts)
    found = fit_histogram_batches(columns, batch, model, "compiled")
    pooled = fit_histogram(columns, model, "compiled")
    guide = np.repeat([0, 1], np.diff(columns.ptr))
    own = found.has_own[guide, batch[columns.cells]]
    assert own.any()
    assert np.array_equal(found.pooled.log_odds[~own], pooled.log_odds[~own])
    if model == "gauss":
        for k in np.flatnonzero(own)[:50]:
            values = found.parameters[guide[k], batch[columns.cells[k]]]
            parameters = dict(zip(NAMES["gauss"], values, strict=True))
            expected = log_odds_gauss([columns.counts[k]], parameters)
            assert found.pooled.log_odds[k] == pytest.approx(expected[0], rel=1e-9)


@pytest.mark.parametrize("model", HISTOGRAM)
def test_batches_that_are_alike_change_nothing(model: str) -> None:
    counts, batch = simulated(3, shift=0.0)
    columns = columns_of(counts)
    found = fit_histogram_batches(columns, batch, model, "compiled")
    assert not found.has_own.any()
    pooled = fit_histogram(columns, model, "compiled")
    assert found.pooled.log_odds.tobytes() == pooled.log_odds.tobytes()


@pytest.mark.parametrize("model", HISTOGRAM)
def test_small_batches_have_no_fit_of_their_own(model: str) -> None:
    counts, batch = simulated(1)
    found = fit_histogram_batches(columns_of(counts), batch, model, "compiled", min_cells=10_000)
    assert not found.has_own.any()


@pytest.mark.parametrize("model", HISTOGRAM)
def test_likelihood_under_another_fit_is_that_of_the_reference(model: str) -> None:
    counts, _ = simulated(4)
    parameters = fit_histogram(columns_of(counts), model, "compiled").parameters
    found = log_likelihoods(columns_of(counts[:400]), model, parameters, 1)
    for guide in range(2):
        row = dict(zip(NAMES[model], parameters[guide], strict=True))
        # Sums of some hundred terms in another order.
        expected = log_likelihood(model, counts[:400, guide], row)
        assert found[guide] == pytest.approx(expected, rel=1e-12)


def test_beta_models_have_the_fits_of_the_reference() -> None:
    largest, depth, batch = proportions(1)
    found = fit_beta_batches(largest, depth, batch, "beta2", "compiled")
    defined = fit_in_batches("beta2", largest / depth, batch)
    own = [fit is not None for fit in found.own]
    assert own == [fit is not None for fit in defined.own]
    assert own[1]
    assert not own[2]
    # The compiled fit has more starts; it may only be better.
    for ours, theirs in zip(found.own, defined.own, strict=True):
        if ours is not None and theirs is not None:
            assert ours.objective >= theirs.objective - 1e-9 * abs(theirs.objective)


def test_beta_log_odds_never_fall_within_a_batch() -> None:
    largest, depth, batch = proportions(2)
    found = fit_beta_batches(largest, depth, batch, "beta2", "compiled")
    for b in range(3):
        here = np.flatnonzero(batch == b)
        order = here[np.argsort(largest[here] / depth[here], kind="stable")]
        assert np.all(np.diff(found.pooled.log_odds[order]) >= 0)
