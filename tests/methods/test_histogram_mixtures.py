"""Compiled fits of poisson_gauss and gauss against their definition."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import reference.histogram_mixtures as reference
from crispyx._stats.histogram_mixtures import fit_histogram
from crispyx._stats.mixtures import GuideColumns

MODELS = ["poisson_gauss", "gauss"]


def simulated(seed: int, n_cells: int = 400, n_guides: int = 4) -> np.ndarray:
    """Return counts of guides with a background below and a signal above, cells x guides."""
    rng = np.random.default_rng(seed)
    signal = rng.random((n_cells, n_guides)) < rng.uniform(0.05, 0.5, n_guides)
    high = np.round(2 ** rng.normal(rng.uniform(4, 6, n_guides), 1.0, (n_cells, n_guides)))
    return np.where(signal, high, rng.poisson(0.4, (n_cells, n_guides))).astype(np.int64)


def columns_of(dense: np.ndarray) -> GuideColumns:
    matrix = sp.csc_matrix(dense)
    ptr = matrix.indptr.astype(np.int64)
    return GuideColumns(dense.shape[0], ptr, matrix.indices, matrix.data.astype(np.int64))


@pytest.mark.parametrize("model", MODELS)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_fits_are_those_of_the_reference(model: str, seed: int) -> None:
    columns = columns_of(simulated(seed))
    compiled = fit_histogram(columns, model, "compiled")
    defined = fit_histogram(columns, model, "reference")
    assert compiled.status.tolist() == defined.status.tolist()
    # Both climb until a step is below 1e-10; the objective is flat there.
    np.testing.assert_allclose(compiled.objective, defined.objective, rtol=1e-9)
    np.testing.assert_allclose(compiled.parameters, defined.parameters, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(compiled.log_odds, defined.log_odds, rtol=1e-5, atol=1e-5)


def test_maximum_likelihood_is_at_least_as_likely_as_the_fit_with_priors() -> None:
    columns = columns_of(simulated(3))
    with_priors = fit_histogram(columns, "poisson_gauss", "compiled")
    without = fit_histogram(columns, "poisson_gauss", "compiled", priors=False)
    assert np.all(without.log_likelihood > with_priors.log_likelihood)
    assert np.array_equal(without.objective, without.log_likelihood)
    for guide in range(columns.n_guides):
        fit = reference.fit_poisson_gauss(columns.dense(guide), priors=False)
        assert without.objective[guide] == pytest.approx(fit.objective, rel=1e-9)


@pytest.mark.parametrize("model", MODELS)
def test_threads_do_not_change_a_bit(model: str) -> None:
    columns = columns_of(simulated(1, n_guides=30))
    one, two = (fit_histogram(columns, model, "compiled", n) for n in (1, 2))
    for name in ("parameters", "objective", "n_iterations", "log_odds", "bic_difference"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes()


@pytest.mark.parametrize("model", MODELS)
def test_log_odds_never_fall_with_the_count(model: str) -> None:
    columns = columns_of(simulated(5))
    fits = fit_histogram(columns, model, "compiled")
    for guide in range(columns.n_guides):
        here = slice(columns.ptr[guide], columns.ptr[guide + 1])
        order = np.argsort(columns.counts[here], kind="stable")
        assert np.all(np.diff(fits.log_odds[here][order]) >= 0)


def test_signal_does_not_explain_the_cells_with_one_umi() -> None:
    # Without the floor of 0.5 a Normal on the spike at log2(1) = 0 wins.
    fits = fit_histogram(columns_of(simulated(7, 2000)), "poisson_gauss", "compiled")
    weight, mean, sd, _ = fits.parameters.T
    assert np.all(sd >= 0.5)
    assert np.all(mean > 3)
    assert np.all(weight < 1)


@pytest.mark.parametrize("model", MODELS)
def test_guide_of_two_counts_is_weak_and_has_no_log_odds(model: str) -> None:
    counts = np.zeros((50, 1), dtype=np.int64)
    counts[:2, 0] = 9, 60
    for engine in ("compiled", "reference"):
        fits = fit_histogram(columns_of(counts), model, engine)
        assert fits.status[0] in ("weak", "no_separation")
        assert np.isnan(fits.log_odds).all()


@pytest.mark.parametrize("model", MODELS)
def test_guide_seen_in_every_cell_is_fitted(model: str) -> None:
    counts = simulated(2) + 1
    compiled = fit_histogram(columns_of(counts), model, "compiled")
    defined = fit_histogram(columns_of(counts), model, "reference")
    assert compiled.status.tolist() == defined.status.tolist()
    np.testing.assert_allclose(compiled.objective, defined.objective, rtol=1e-9)
