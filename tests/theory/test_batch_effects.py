"""Batch effects: the objective, its maximum, planted effects, and what shrinkage is for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit
from theory.mixture_screens import scipy_maximum

from reference import depth_mixtures
from reference.batch_effects import BatchFit, fit_batch_effects, log_odds_batch_effects

MODELS = ["poisson", "neg_binomial", "binomial"]
INTERCEPT_SD = {"poisson": 3.0, "neg_binomial": 2.0, "binomial": 2.0}
POOLED = {
    "poisson": depth_mixtures.fit_poisson,
    "neg_binomial": depth_mixtures.fit_neg_binomial,
    "binomial": depth_mixtures.fit_binomial,
}
EFFECTS = np.array([0.0, 0.8, -0.8])


def simulated(model: str, seed: int, n_cells: int = 600, effects: np.ndarray = EFFECTS):
    """Counts of one guide, depths and batches of all cells, and which are signal."""
    rng = np.random.default_rng(seed)
    signal = rng.random(n_cells) < 0.15
    batch = rng.integers(0, effects.size, n_cells)
    depth = np.rint(2 ** rng.normal(5, 0.5, n_cells)).astype(np.int64)
    if model == "binomial":
        logit = np.where(signal, -0.8, -4.5) + effects[batch]
        return rng.binomial(depth, expit(logit)), depth, batch, signal
    mean = np.where(signal, 0.4, 0.02) * np.exp(effects[batch]) * (depth + 1)
    if model == "neg_binomial":
        mean = mean * rng.gamma(4.0, 1 / 4.0, n_cells)
    return rng.poisson(mean), depth, batch, signal


def objective_of(model: str, counts, depth, batch, priors: bool):
    """Log posterior in (logit weight, b_1, log dispersion, b_0, g_b...) from scipy.stats."""
    sd = INTERCEPT_SD[model]

    def density(t, u):
        if model == "binomial":
            return stats.binom.logpmf(counts, depth, expit(t))
        mean = np.exp(t) * (depth + 1)
        if model == "poisson":
            return stats.poisson.logpmf(counts, mean)
        theta = math.exp(u)
        return stats.nbinom.logpmf(counts, theta, theta / (theta + mean))

    def objective(v):
        c = v[3] + v[4:][batch]
        low = np.log(expit(-v[0])) + density(c, v[2])
        high = np.log(expit(v[0])) + density(c + v[1], v[2])
        total = np.logaddexp(low, high).sum()
        if not priors:
            return total - 0.5 * (v[4:] ** 2).sum()
        total += stats.norm.logpdf(v[3], 0, sd) + stats.norm.logpdf(v[4:]).sum()
        total += stats.lognorm.logpdf(v[1], 2, scale=math.e)
        total += stats.beta.logpdf(expit(v[0]), 1, 10)
        if model == "neg_binomial":
            total += stats.lognorm.logpdf(math.exp(v[2]), 1, scale=math.e)
        return total

    return objective


def unconstrained(fitted: BatchFit) -> np.ndarray:
    weight, low, high, *dispersion = fitted.fit.parameters.values()
    u = math.log(dispersion[0]) if dispersion else 0.0
    return np.array([math.log(weight / (1 - weight)), high - low, u, low, *fitted.effects])


@pytest.mark.parametrize("priors", [True, False])
@pytest.mark.parametrize("model", MODELS)
def test_objective_is_that_of_scipy_at_its_maximum(model: str, priors: bool) -> None:
    counts, depth, batch, _ = simulated(model, 1)
    fitted = fit_batch_effects(model, counts, depth, batch, priors=priors)
    objective, at = objective_of(model, counts, depth, batch, priors), unconstrained(fitted)
    # Sums of 600 terms in another order.
    assert fitted.fit.objective == pytest.approx(objective(at), rel=1e-10)
    for k, shift in enumerate(1e-4 * np.eye(at.size)):
        if k == 2 and model != "neg_binomial":
            continue
        slope = (objective(at + shift) - objective(at - shift)) / 2e-4
        # Central differences of step 1e-4: third derivatives of up to 1e4 counts times 1e-8.
        assert abs(slope) < 2e-3


@pytest.mark.parametrize("model", MODELS)
def test_no_optimizer_finds_a_better_fit(model: str) -> None:
    counts, depth, batch, _ = simulated(model, 2, n_cells=200)
    starts = [(-2, 3, 1, -4, 0, 0, 0), (-3, 1, 2, -3, 1, 0, -1), (0, 2, 0, -2, 0, 0, 0)]
    bounds = [(-20, 20), (1e-5, 25), (math.log(0.01), math.log(1e4)), (-20, 5)] + [(-5, 5)] * 3
    if model != "neg_binomial":
        starts = [(*start[:2], 0, *start[3:]) for start in starts]
        bounds[2] = (0, 0)
    objective = objective_of(model, counts, depth, batch, False)
    best = scipy_maximum(objective, starts, bounds, lambda v: True)
    assert fit_batch_effects(model, counts, depth, batch).fit.objective >= best - 1e-7


@pytest.mark.parametrize("priors", [True, False])
@pytest.mark.parametrize("model", MODELS)
def test_one_batch_is_no_batch(model: str, priors: bool) -> None:
    counts, depth, batch, _ = simulated(model, 3, n_cells=300)
    none = np.zeros_like(batch)
    fitted = fit_batch_effects(model, counts, depth, none, priors=priors)
    fit = POOLED[model](counts, depth, priors=priors)
    # The same maximum by another parametrization.
    assert fitted.fit.objective == pytest.approx(fit.objective, rel=1e-12)
    assert fitted.fit.one_component == pytest.approx(fit.one_component, rel=1e-12)
    odds = log_odds_batch_effects(counts, depth, none, fitted)
    pooled = fit_batch_effects(model, counts, depth, none, priors=priors)
    assert np.array_equal(odds, log_odds_batch_effects(counts, depth, none, pooled))


@pytest.mark.parametrize("model", MODELS)
def test_planted_effects_are_recovered_and_calls_gain(model: str) -> None:
    counts, depth, batch, signal = simulated(model, 4, n_cells=6000)
    fitted = fit_batch_effects(model, counts, depth, batch)
    # Three standard errors of a log rate from some 1,500 counts of a batch, and overdispersion.
    assert fitted.effects == pytest.approx(EFFECTS - EFFECTS.mean(), abs=0.12)
    called = log_odds_batch_effects(counts, depth, batch, fitted) > 0
    pooled = POOLED[model](counts, depth)
    without = getattr(depth_mixtures, f"log_odds_{model}")(counts, depth, pooled.parameters) > 0
    assert np.mean(called == signal) > np.mean(without == signal)
    assert fitted.fit.objective > pooled.objective


@pytest.mark.parametrize("model", MODELS)
def test_batch_without_background_borrows_that_of_the_others(model: str) -> None:
    counts, depth, batch, signal = simulated(model, 5, effects=np.zeros(3))
    counts[(batch == 2) & ~signal] = 0
    counts[np.flatnonzero((batch == 2) & signal)[1:]] = 0
    fitted = fit_batch_effects(model, counts, depth, batch)
    assert np.isfinite(fitted.effects).all()
    assert fitted.effects[2] == fitted.effects.min()
    # Unshrunken it would fall without bound; N(0, 1) holds it near the others.
    assert fitted.effects[2] > -5


def test_guide_that_cannot_be_fitted_has_no_effects() -> None:
    fitted = fit_batch_effects("poisson", [0, 7, 7], [9, 9, 9], [0, 1, 1])
    assert fitted.fit.status == "no_separation"
    assert np.isnan(fitted.effects).all()
    assert fitted.effects.size == 2
