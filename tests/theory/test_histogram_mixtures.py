"""poisson_gauss and gauss: EM, optimality, recovery, and crispat's published assignments."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit, gammaln
from theory.mixture_screens import GuideScreen, schraivogel, scipy_maximum

from reference.histogram_mixtures import (
    fit_gauss,
    fit_poisson_gauss,
    log_odds_gauss,
    log_odds_poisson_gauss,
    posterior_gauss,
    posterior_poisson_gauss,
    threshold_gauss,
    threshold_poisson_gauss,
)

FITS = [fit_poisson_gauss, fit_gauss]
GUIDES = range(0, 86, 6)


@pytest.fixture(scope="module")
def screen(data_dir: Path) -> GuideScreen:
    return schraivogel(data_dir)


def simulated(seed: int, n_cells: int = 3000, share: float = 0.1) -> np.ndarray:
    """Counts of a guide: signal of about 50 UMIs in a share of the cells, ambient elsewhere."""
    rng = np.random.default_rng(seed)
    signal = rng.random(n_cells) < share
    return np.where(
        signal, np.rint(2 ** rng.normal(5.5, 0.9, n_cells)), rng.poisson(0.15, n_cells)
    ).astype(np.int64)


def poisson_gauss_objective(counts: np.ndarray, priors: bool):
    """Log posterior in (logit weight, log rate, mean, log sd), cell by cell, from scipy.stats."""
    x = np.log2(counts[counts > 0])

    def components(v):
        weight, rate, sd = expit(v[0]), math.exp(v[1]), math.exp(v[3])
        background = np.log1p(-weight) + x * v[1] - rate - gammaln(x + 1)
        return background, np.log(weight) + stats.norm.logpdf(x, v[2], sd)

    def objective(v):
        weight, rate, sd = expit(v[0]), math.exp(v[1]), math.exp(v[3])
        total = np.logaddexp(*components(v)).sum()
        if not priors:
            return total
        return (
            total
            + stats.beta.logpdf(weight, 0.1, 0.9)
            + stats.norm.logpdf(v[2], 3, 2)
            + stats.lognorm.logpdf(sd, 1, scale=math.exp(2))
            + stats.lognorm.logpdf(rate, 1)
        )

    def admissible(v):
        background, signal = components(v)
        r = expit(background - signal)
        return 2e-9 < expit(v[0]) < 1 - 2e-9 and v[2] > r @ x / r.sum()

    return objective, admissible


def gauss_objective(counts: np.ndarray):
    """Log likelihood in (logit weight, low mean, high mean, log sd) from scipy.stats."""
    u, n = np.unique(counts, return_counts=True)
    x = np.log10(u + 1.0)

    def objective(v):
        low = np.log(expit(-v[0])) + stats.norm.logpdf(x, v[1], math.exp(v[3]))
        high = np.log(expit(v[0])) + stats.norm.logpdf(x, v[2], math.exp(v[3]))
        return n @ np.logaddexp(low, high)

    return objective


def unconstrained(fit) -> np.ndarray:
    p = fit.parameters
    weight, sd = math.log(p["weight"] / (1 - p["weight"])), math.log(p["sd"])
    if fit.model == "gauss":
        return np.array([weight, p["mean_background"], p["mean_signal"], sd])
    return np.array([weight, math.log(p["rate"]), p["mean"], sd])


def gradient(objective, v: np.ndarray, step: float = 1e-4) -> np.ndarray:
    shifts = step * np.eye(v.size)
    return np.array([(objective(v + s) - objective(v - s)) / (2 * step) for s in shifts])


@pytest.mark.parametrize("priors", [True, False])
def test_poisson_gauss_objective_is_that_of_scipy_cell_by_cell(priors: bool) -> None:
    counts = simulated(1)
    fit = fit_poisson_gauss(counts, priors=priors)
    objective, _ = poisson_gauss_objective(counts, priors)
    # Sums of 700 terms in another order.
    assert fit.objective == pytest.approx(objective(unconstrained(fit)), rel=1e-12)
    likelihood, _ = poisson_gauss_objective(counts, False)
    assert fit.log_likelihood == pytest.approx(likelihood(unconstrained(fit)), rel=1e-12)


def test_gauss_objective_is_that_of_scipy() -> None:
    counts = simulated(2)
    fit = fit_gauss(counts)
    expected = gauss_objective(counts)(unconstrained(fit))
    assert fit.objective == pytest.approx(expected, rel=1e-12)
    assert fit.log_likelihood == fit.objective


@pytest.mark.parametrize(
    "fit",
    [fit_gauss, fit_poisson_gauss, lambda c, **k: fit_poisson_gauss(c, priors=False, **k)],
    ids=["gauss", "map", "ml"],
)
def test_em_is_monotone(fit) -> None:
    for seed in range(3):
        counts = simulated(seed, share=0.02)
        path = [fit(counts, max_iterations=k).objective for k in range(1, 40)]
        # Rounding of a sum of hundreds of terms near 1e3.
        assert np.all(np.diff(path) >= -1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_gradient_vanishes_at_the_fit(seed: int) -> None:
    counts = simulated(seed)
    for priors in (True, False):
        fit = fit_poisson_gauss(counts, priors=priors)
        slopes = gradient(poisson_gauss_objective(counts, priors)[0], unconstrained(fit))
        # Central differences of step 1e-4: third derivatives of some 1e3 times 1e-8.
        assert np.abs(slopes).max() < 1e-4
    fit = fit_gauss(counts)
    slopes = gradient(gauss_objective(counts), unconstrained(fit))
    # Relative to the curvature in the means, n / sd^2, which reaches 1e6 here.
    scale = len(counts) / fit.parameters["sd"] ** 2
    assert np.abs(slopes).max() < 1e-6 * scale


def test_no_optimizer_finds_a_better_poisson_gauss_on_real_guides(screen: GuideScreen) -> None:
    starts = [(-1, -2, 4, 0), (0, 0, 6, 0), (1, -1, 5, 0.5), (0, -3, 2, 0), (-3, 0.5, 8, -0.3)]
    bounds = [(-20.7, 20.7), (-20, 5), (-10, 20), (math.log(0.5), 5)]
    for guide in GUIDES:
        counts = screen.counts[:, guide]
        objective, admissible = poisson_gauss_objective(counts, True)
        best = scipy_maximum(objective, starts, bounds, admissible)
        assert math.isfinite(best)
        assert fit_poisson_gauss(counts).objective >= best - 1e-7


def test_no_optimizer_finds_a_better_gauss_on_real_guides(screen: GuideScreen) -> None:
    starts = [(-4, 0, 1.5, -2), (-3, 0, 1, -1), (-2, 0.1, 2, -3)]
    bounds = [(-20, 20), (-1, 4), (-1, 4), (math.log(1e-3), 3)]
    for guide in GUIDES:
        counts = screen.counts[:, guide]
        best = scipy_maximum(gauss_objective(counts), starts, bounds, lambda v: v[2] > v[1])
        assert math.isfinite(best)
        assert fit_gauss(counts).objective >= best - 1e-6


def test_planted_parameters_are_recovered() -> None:
    fit = fit_poisson_gauss(simulated(5, n_cells=60_000), priors=False)
    assert fit.status == "ok"
    # Three standard errors of a mean and a deviation of 6,000 signal cells: 3 * 0.9 / 77 = 0.035.
    assert fit.parameters["mean"] == pytest.approx(5.5, abs=0.035)
    assert fit.parameters["sd"] == pytest.approx(0.9, abs=0.03)
    gauss = fit_gauss(simulated(5, n_cells=60_000))
    assert gauss.parameters["weight"] == pytest.approx(0.1, abs=0.004)


@pytest.mark.parametrize("fit", FITS)
def test_order_and_absent_cells_do_not_matter(fit) -> None:
    counts = simulated(6)
    shuffled = np.random.default_rng(0).permutation(counts)
    assert fit(shuffled) == fit(counts)
    if fit is fit_poisson_gauss:
        assert fit(counts[counts > 0]) == fit(counts)


@pytest.mark.parametrize("fit", FITS)
def test_guides_without_two_different_counts_are_not_fitted(fit) -> None:
    for counts, status in [
        ([0] * 9, "no_counts"),
        ([0, 50, 0], "too_few"),
        ([0, 1, 1, 1], "no_separation"),
        ([7] * 50, "no_separation"),
    ]:
        result = fit(np.array(counts))
        assert (result.status, result.parameters) == (status, {})
        assert math.isnan(result.objective)


def test_two_cells_are_fitted_and_weak() -> None:
    for fit in FITS:
        counts = np.array([0] * 300 + [9, 60])
        assert fit(counts).status in ("weak", "no_separation")
    assert fit_gauss(np.array([0] * 300 + [9, 60])).status == "weak"


def test_signal_does_not_explain_the_cells_with_one_count() -> None:
    # Three quarters of the cells have exactly one UMI: a narrow Normal at log2(1) = 0 would have
    # the larger likelihood.
    counts = np.concatenate([np.ones(900, dtype=np.int64), simulated(7, 300, share=1.0)])
    fit = fit_poisson_gauss(counts)
    assert fit.parameters["mean"] > 4
    assert fit.parameters["sd"] >= 0.5
    assert 2 < threshold_poisson_gauss(fit.parameters) < 16


def test_threshold_is_the_first_count_above_the_confidence() -> None:
    fit = fit_poisson_gauss(simulated(8)).parameters
    for confidence in (0.1, 0.5, 0.8, 0.99):
        t = threshold_poisson_gauss(fit, confidence)
        posterior = posterior_poisson_gauss(np.arange(1, t + 1), fit)
        assert posterior[-1] > confidence
        assert np.all(posterior[:-1] <= confidence)
    assert threshold_poisson_gauss(fit, 1.0, largest=500) == 501
    assert posterior_poisson_gauss([0], fit).tolist() == [0.0]
    assert log_odds_poisson_gauss([0], fit).tolist() == [-math.inf]


def test_gauss_log_odds_are_linear_in_log_counts() -> None:
    fit = fit_gauss(simulated(9)).parameters
    counts = np.array([0, 9, 99, 999])
    odds = log_odds_gauss(counts, fit)
    # log10(count + 1) is 0, 1, 2, 3; differences of numbers near 1e3.
    assert np.diff(odds, 2) == pytest.approx(0, abs=1e-9)
    t = threshold_gauss(fit)
    assert posterior_gauss([t], fit) > 0.5 >= posterior_gauss([t - 1], fit)


def test_poisson_gauss_calls_are_those_of_crispat(screen: GuideScreen) -> None:
    fits = [fit_poisson_gauss(column) for column in screen.counts.T]
    assert {fit.status for fit in fits} == {"ok"}
    thresholds = np.array([threshold_poisson_gauss(fit.parameters) for fit in fits])
    assert screen.jaccard(screen.counts >= thresholds, "poisson_gauss") >= 0.9997
    published = pd.read_csv(screen.published / "poisson_gauss_thresholds.csv.gz")
    theirs = published.set_index("gRNA")["threshold"].reindex(screen.guides)
    assert np.count_nonzero(theirs == thresholds) >= 84
    strict = np.array([threshold_poisson_gauss(fit.parameters, 0.8) for fit in fits])
    assert screen.jaccard(screen.counts >= strict, "poisson_gauss") >= 0.995


def test_gauss_calls_are_those_of_crispat(screen: GuideScreen) -> None:
    fits = [fit_gauss(column) for column in screen.counts.T]
    assert {fit.status for fit in fits} == {"ok"}
    thresholds = np.array([threshold_gauss(fit.parameters) for fit in fits])
    assert screen.jaccard(screen.counts >= thresholds, "gauss_em") >= 0.9998
