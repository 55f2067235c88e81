"""Own fit or pooled fit: the rule by BIC and its ends."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from reference.batch_fits import FIT, N_PARAMETERS, fit_in_batches, has_own_fit
from reference.beta_mixtures import fit_beta2
from reference.beta_mixtures import log_likelihood as beta_log_likelihood
from reference.histogram_mixtures import fit_gauss, fit_poisson_gauss, log_likelihood

MODELS = ["poisson_gauss", "gauss", "beta2"]


def counts_of(seed: int, n_cells: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    high = np.round(2 ** rng.normal(4 + shift, 0.8, n_cells))
    ambient = rng.poisson(0.5 * 2 ** (shift / 2), n_cells)
    return np.where(rng.random(n_cells) < 0.3, high, ambient).astype(np.int64)


def proportions_of(seed: int, n_cells: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    share = np.choose(
        rng.choice(3, n_cells, p=[0.2, 0.2, 0.6]),
        [
            rng.beta(4, 12, n_cells),
            rng.beta(20, 20, n_cells),
            rng.beta(30 / (1 + shift), 0.6, n_cells),
        ],
    )
    return np.round(share, 2)


def values_of(model: str, seed: int, n_cells: int, shift: float = 0.0) -> np.ndarray:
    return (proportions_of if model.startswith("beta") else counts_of)(seed, n_cells, shift)


@pytest.mark.parametrize("model", MODELS)
def test_number_of_parameters_is_that_of_the_model(model: str) -> None:
    fit = FIT[model](values_of(model, 1, 400))
    n_weights = sum(name.startswith("weight_") for name in fit.parameters)
    # The last weight follows from the others.
    assert len(fit.parameters) - (n_weights > 0) == N_PARAMETERS[model]


@pytest.mark.parametrize("model", MODELS)
def test_batches_that_are_alike_share_the_pooled_fit(model: str) -> None:
    values, batch = values_of(model, 2, 900), np.arange(900) % 3
    found = fit_in_batches(model, values, batch)
    assert found.pooled == FIT[model](values)
    assert found.own == (None, None, None)


@pytest.mark.parametrize("model", MODELS)
def test_batch_that_differs_has_the_fit_of_its_cells_alone(model: str) -> None:
    parts = [values_of(model, 3, 600), values_of(model, 4, 600, 2.5), values_of(model, 5, 30)]
    batch = np.repeat([0, 1, 2], [600, 600, 30])
    found = fit_in_batches(model, np.concatenate(parts), batch)
    assert found.own[1] == FIT[model](parts[1])
    assert found.own[2] is None


def test_cells_without_counts_do_not_make_a_batch_large() -> None:
    parts = [counts_of(6, 600), np.concatenate([counts_of(7, 60, 3.0), np.zeros(900, dtype=int)])]
    batch = np.repeat([0, 1], [600, 960])
    assert fit_in_batches("gauss", np.concatenate(parts), batch, min_cells=100).own[1] is None


@pytest.mark.parametrize(("gain", "own"), [(5.0, False), (40.0, True)])
def test_own_fit_needs_a_better_bic(gain: float, own: bool) -> None:
    assert 4 * math.log(1000) / 2 == pytest.approx(13.8, abs=0.1)
    assert has_own_fit("ok", -100.0 + gain, "ok", -100.0, 1000, 4) == own


def test_status_comes_before_the_bic() -> None:
    assert not has_own_fit("weak", 0.0, "ok", -1e9, 1000, 4)
    assert not has_own_fit("no_separation", math.nan, "weak", math.nan, 1000, 4)
    assert has_own_fit("ok", -100.0, "no_separation", math.nan, 1000, 4)


def test_log_likelihood_of_other_cells_is_that_of_scipy() -> None:
    other = counts_of(8, 200)
    p = fit_gauss(counts_of(9, 300)).parameters
    x = np.log10(other + 1.0)
    parts = (1 - p["weight"]) * stats.norm.pdf(x, p["mean_background"], p["sd"])
    parts = parts + p["weight"] * stats.norm.pdf(x, p["mean_signal"], p["sd"])
    # Sums of 200 terms in another order.
    assert log_likelihood("gauss", other, p) == pytest.approx(np.log(parts).sum(), rel=1e-12)
    fit = fit_poisson_gauss(other)
    own = log_likelihood("poisson_gauss", other, fit.parameters)
    assert own == pytest.approx(fit.log_likelihood, rel=1e-12)
    x, fit = proportions_of(10, 200), fit_beta2(proportions_of(10, 200))
    assert beta_log_likelihood(x, fit.parameters) == pytest.approx(fit.log_likelihood, rel=1e-12)
