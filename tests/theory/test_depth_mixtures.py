"""poisson, neg_binomial, binomial: EM, optimality, recovery, and crispat's published calls."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit
from theory.mixture_screens import GuideScreen, schraivogel, scipy_maximum

from reference import depth_mixtures
from reference.depth_mixtures import (
    fit_binomial,
    fit_neg_binomial,
    fit_poisson,
    log_odds_binomial,
    log_odds_neg_binomial,
    log_odds_poisson,
    posterior_binomial,
    posterior_neg_binomial,
    posterior_poisson,
)

FIT = {"poisson": fit_poisson, "neg_binomial": fit_neg_binomial, "binomial": fit_binomial}
LOG_ODDS = {
    "poisson": log_odds_poisson,
    "neg_binomial": log_odds_neg_binomial,
    "binomial": log_odds_binomial,
}
MODELS = list(FIT)
INTERCEPT_SD = {"poisson": 3.0, "neg_binomial": 2.0, "binomial": 2.0}


@pytest.fixture(scope="module")
def screen(data_dir: Path) -> GuideScreen:
    return schraivogel(data_dir)


def simulated(model: str, seed: int, n_cells: int = 3000, share: float = 0.1):
    """Counts of one guide and depths of all cells, from the model itself, and which are signal."""
    rng = np.random.default_rng(seed)
    signal = rng.random(n_cells) < share
    depth = np.rint(2 ** rng.normal(6, 1, n_cells)).astype(np.int64)
    if model == "binomial":
        return rng.binomial(depth, np.where(signal, 0.6, 0.01)), depth, signal
    mean = np.where(signal, 0.5, 0.01) * (depth + 1)
    if model == "neg_binomial":
        mean = mean * rng.gamma(4.0, 1 / 4.0, n_cells)
    return rng.poisson(mean), depth, signal


def objective_of(model: str, counts, depth, priors: bool):
    """Log posterior in (logit weight, t_0, t_1 - t_0[, log dispersion]) from scipy.stats."""
    if model == "binomial":
        counts, depth = counts[depth > 0], depth[depth > 0]
    (y, s), n = np.unique(np.stack([counts, depth]), axis=1, return_counts=True)
    sd = INTERCEPT_SD[model]

    def density(t, log_dispersion):
        if model == "binomial":
            return stats.binom.logpmf(y, s, expit(t))
        mean = math.exp(t) * (s + 1)
        if model == "poisson":
            return stats.poisson.logpmf(y, mean)
        theta = math.exp(log_dispersion)
        return stats.nbinom.logpmf(y, theta, theta / (theta + mean))

    def objective(v):
        u = v[3] if len(v) == 4 else 0.0
        low = np.log(expit(-v[0])) + density(v[1], u)
        high = np.log(expit(v[0])) + density(v[1] + v[2], u)
        total = n @ np.logaddexp(low, high)
        if not priors:
            return total
        b0 = v[1] * sd**2 / (sd**2 + 1)
        total += stats.norm.logpdf(b0, 0, sd) + stats.norm.logpdf(v[1] - b0)
        total += stats.lognorm.logpdf(v[2], 2, scale=math.e)
        total += stats.beta.logpdf(expit(v[0]), 1, 10)
        if len(v) == 4:
            total += stats.lognorm.logpdf(math.exp(u), 1, scale=math.e)
        return total

    return objective


def unconstrained(fit) -> np.ndarray:
    weight, low, high, *dispersion = fit.parameters.values()
    return np.array([math.log(weight / (1 - weight)), low, high - low, *np.log(dispersion)])


def gradient(objective, v: np.ndarray, step: float = 1e-4) -> np.ndarray:
    shifts = step * np.eye(v.size)
    return np.array([(objective(v + s) - objective(v - s)) / (2 * step) for s in shifts])


@pytest.mark.parametrize("priors", [True, False])
@pytest.mark.parametrize("model", MODELS)
def test_objective_is_that_of_scipy(model: str, priors: bool) -> None:
    counts, depth, _ = simulated(model, 1)
    fit = FIT[model](counts, depth, priors=priors)
    at = unconstrained(fit)
    # Sums of a few hundred terms in another order; scipy's lgamma differences for large arguments.
    assert fit.objective == pytest.approx(objective_of(model, counts, depth, priors)(at), rel=1e-11)
    plain = objective_of(model, counts, depth, False)(at)
    assert fit.log_likelihood == pytest.approx(plain, rel=1e-11)


def test_prior_of_the_intercept_is_that_of_its_best_split() -> None:
    # b_0 ~ N(0, 3) and g ~ N(0, 1) under b_0 + g = t_0, maximized over the split by brute force.
    t0, b0 = -7.0, np.linspace(-9, 0, 900_001)
    best = (stats.norm.logpdf(b0, 0, 3) + stats.norm.logpdf(t0 - b0)).max()
    theta = np.array([0.1, t0, t0 + 2.0, 0.0])
    rest = stats.beta.logpdf(0.1, 1, 10) + stats.lognorm.logpdf(2.0, 2, scale=math.e)
    assert depth_mixtures._prior(depth_mixtures._POISSON, theta) == pytest.approx(best + rest)


@pytest.mark.parametrize("priors", [True, False])
@pytest.mark.parametrize("model", MODELS)
def test_em_is_monotone(model: str, priors: bool) -> None:
    counts, depth, _ = simulated(model, 2, n_cells=800, share=0.05)
    fits = [FIT[model](counts, depth, priors=priors, max_iterations=k) for k in range(1, 15)]
    # Rounding of a sum of hundreds of terms near 1e3.
    assert np.all(np.diff([fit.objective for fit in fits]) >= -1e-9)


@pytest.mark.parametrize("priors", [True, False])
@pytest.mark.parametrize("model", MODELS)
def test_gradient_vanishes_at_the_fit(model: str, priors: bool) -> None:
    for seed in range(2):
        counts, depth, _ = simulated(model, seed)
        fit = FIT[model](counts, depth, priors=priors)
        assert fit.status == "ok"
        slopes = gradient(objective_of(model, counts, depth, priors), unconstrained(fit))
        # Central differences of step 1e-4: third derivatives of up to 2e4 counts times 1e-8.
        assert np.abs(slopes).max() < 2e-3


@pytest.mark.parametrize("model", MODELS)
def test_slopes_are_derivatives_of_the_expected_log_likelihood(model: str) -> None:
    counts, depth, signal = simulated(model, 3, n_cells=300)
    own = getattr(depth_mixtures, f"_{model.upper()}")
    cells = depth_mixtures.Cells(counts.astype(float), depth + own.offset, np.ones(300))
    shares = (1.0 - 0.8 * signal, 0.8 * signal)
    free = np.array([-4.0, -0.7, 0.9])[: 3 if model == "neg_binomial" else 2]
    for priors in (False, True):

        def at(v, priors=priors):
            return depth_mixtures._expected(own, cells, shares, v, priors)

        _, slope, curve = at(free)
        # Central differences of step 1e-4, relative to slopes of up to 1e4.
        assert slope == pytest.approx(gradient(lambda v: at(v)[0], free), rel=1e-5, abs=1e-3)
        numeric = np.array([gradient(lambda v, k=k: at(v)[1][k], free) for k in range(free.size)])
        assert curve == pytest.approx(numeric, rel=1e-5, abs=1e-3)


@pytest.mark.parametrize("priors", [True, False])
@pytest.mark.parametrize("model", MODELS)
def test_no_optimizer_finds_a_better_fit_on_real_guides(
    screen: GuideScreen, model: str, priors: bool
) -> None:
    starts = [(-4.6, -4, 3), (-3, -8, 7), (-4, -6, 4)]
    bounds = [(-20, 20), (-24, 5), (1e-5, 25)]
    if model == "neg_binomial":
        starts = [(*start, 1.6) for start in starts]
        bounds.append((math.log(0.01), math.log(1e4)))
    for guide in range(0, 86, 17):
        counts = screen.counts[:, guide]
        objective = objective_of(model, counts, screen.depth, priors)
        best = scipy_maximum(objective, starts, bounds, lambda v: True)
        assert math.isfinite(best)
        assert FIT[model](counts, screen.depth, priors=priors).objective >= best - 1e-7


@pytest.mark.parametrize("model", MODELS)
def test_planted_parameters_are_recovered(model: str) -> None:
    counts, depth, signal = simulated(model, 4, n_cells=30_000)
    fit = FIT[model](counts, depth)
    weight, low, high, *dispersion = fit.parameters.values()
    # Three standard errors or more: 3,000 signal cells; about 2e4 background counts.
    assert weight == pytest.approx(0.1, abs=0.006)
    if model == "binomial":
        assert expit([low, high]) == pytest.approx([0.01, 0.6], rel=0.03)
    else:
        assert np.exp([low, high]) == pytest.approx([0.01, 0.5], rel=0.04)
    if dispersion:
        assert dispersion[0] == pytest.approx(4.0, rel=0.1)
    called = LOG_ODDS[model](counts, depth, fit.parameters) > 0
    assert np.mean(called == signal) > 0.98


@pytest.mark.parametrize("model", MODELS)
def test_log_odds_are_those_of_the_densities(model: str) -> None:
    parameters = dict(zip(depth_mixtures.NAMES[model], (0.03, -5.0, -0.5, 3.0), strict=False))
    y, s = np.array([0, 1, 7, 40]), np.array([60, 3, 9, 44])
    if model == "binomial":
        densities = [stats.binom.logpmf(y, s, expit(t)) for t in (-5.0, -0.5)]
    elif model == "poisson":
        densities = [stats.poisson.logpmf(y, np.exp(t) * (s + 1)) for t in (-5.0, -0.5)]
    else:
        means = [np.exp(t) * (s + 1) for t in (-5.0, -0.5)]
        densities = [stats.nbinom.logpmf(y, 3.0, 3.0 / (3.0 + mean)) for mean in means]
    expected = math.log(0.03 / 0.97) + densities[1] - densities[0]
    assert LOG_ODDS[model](y, s, parameters) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("model", ["poisson", "neg_binomial"])
def test_exposure_of_crispat_is_one_umi_less(model: str) -> None:
    counts, depth, _ = simulated(model, 5)
    parameters = FIT[model](counts, depth).parameters
    quirk = LOG_ODDS[model](counts, depth, parameters, "crispat")
    assert quirk.tolist() == LOG_ODDS[model](counts, depth - 1, parameters).tolist()
    with pytest.raises(ValueError, match="'s'; allowed are 'consistent' and 'crispat'"):
        LOG_ODDS[model](counts, depth, parameters, "s")


@pytest.mark.parametrize("model", MODELS)
def test_order_of_the_cells_does_not_matter(model: str) -> None:
    counts, depth, _ = simulated(model, 6, n_cells=500)
    order = np.random.default_rng(0).permutation(500)
    assert FIT[model](counts[order], depth[order]) == FIT[model](counts, depth)


def test_cells_without_guide_counts_do_not_change_the_binomial() -> None:
    counts, depth, _ = simulated("binomial", 7, n_cells=500)
    more = fit_binomial(np.append(counts, [0] * 90), np.append(depth, [0] * 90))
    assert more == fit_binomial(counts, depth)


@pytest.mark.parametrize("model", MODELS)
def test_guide_without_background_counts_is_fitted(model: str) -> None:
    # Counts of 30 to 40 or none at all: the background rate is 0, said in finite numbers.
    depth = np.full(400, 50)
    counts = np.where(np.arange(400) < 40, 30 + np.arange(400) % 11, 0)
    fit = FIT[model](counts, depth)
    assert fit.status == "ok"
    posterior = expit(LOG_ODDS[model](counts, depth, fit.parameters))
    assert np.array_equal(posterior > 0.99, counts > 0)


@pytest.mark.parametrize("model", MODELS)
def test_guides_without_two_different_counts_are_not_fitted(model: str) -> None:
    for counts, status in [
        ([0] * 9, "no_counts"),
        ([0, 50, 0], "too_few"),
        ([0, 1, 1, 1], "no_separation"),
        ([7] * 50, "no_separation"),
    ]:
        fit = FIT[model](np.array(counts), np.full(len(counts), 60))
        assert (fit.status, fit.parameters) == (status, {})
        assert math.isnan(fit.objective)


def test_neg_binomial_calls_are_exactly_those_of_crispat(screen: GuideScreen) -> None:
    assigned = {
        exposure: np.zeros(screen.counts.shape, bool) for exposure in ("consistent", "crispat")
    }
    for guide in range(5):
        counts = screen.counts[:, guide]
        parameters = fit_neg_binomial(counts, screen.depth).parameters
        for exposure, calls in assigned.items():
            posterior = posterior_neg_binomial(counts, screen.depth, parameters, exposure)
            calls[:, guide] = (counts > 0) & (posterior >= 0.8)
    name = "neg_binomial_guides_0-4"
    assert screen.jaccard(assigned["crispat"], name) == 1.0
    assert screen.jaccard(assigned["consistent"], name) == pytest.approx(0.9952, abs=5e-5)


def test_posteriors_are_probabilities_of_the_log_odds() -> None:
    parameters = {"weight": 0.02, "log_rate_background": -6.0, "log_rate_signal": -0.4}
    y, s = np.array([0, 2, 900]), np.array([10, 10, 1000])
    odds = log_odds_poisson(y, s, parameters)
    assert posterior_poisson(y, s, parameters) == pytest.approx(1 / (1 + np.exp(-odds)))
    p = {"weight": 0.02, "logit_background": -6.0, "logit_signal": 1.0}
    assert posterior_binomial(y, s, p) == pytest.approx(expit(log_odds_binomial(y, s, p)))
