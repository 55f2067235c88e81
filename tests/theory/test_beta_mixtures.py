"""beta2 and beta3: EM, optimality, recovery, monotone calls, and crispat's thresholds."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from theory.mixture_screens import schraivogel, scipy_maximum

from reference.beta_mixtures import (
    fit_beta2,
    fit_beta3,
    log_odds_beta2,
    log_odds_beta3,
    posterior_beta2,
    posterior_beta3,
    threshold_beta2,
    threshold_beta3,
)

FIT = {2: fit_beta2, 3: fit_beta3}
LOG_ODDS = {2: log_odds_beta2, 3: log_odds_beta3}
POSTERIOR = {2: posterior_beta2, 3: posterior_beta3}
THRESHOLD = {2: threshold_beta2, 3: threshold_beta3}
CONCENTRATION = {2: [0.6, 0.4], 3: [0.3, 0.3, 0.4]}
# Log posterior at crispat's own parameters, without the constants of the priors, which are below 0:
# with them it is smaller still.
CRISPAT_OBJECTIVE = {2: 52028.0, 3: 52163.4}


@pytest.fixture(scope="module")
def proportions(data_dir: Path) -> np.ndarray:
    screen = schraivogel(data_dir)
    depth = screen.depth
    return screen.counts.max(axis=1)[depth > 0] / depth[depth > 0]


def simulated(k: int, seed: int, n_cells: int = 4000) -> np.ndarray:
    """Proportions of ambient, (for three) doublet and single-guide cells."""
    rng = np.random.default_rng(seed)
    ambient, doublet = rng.beta(3, 9, n_cells), rng.beta(20, 18, n_cells)
    single = rng.beta(12, 0.8, n_cells)
    kind = rng.random(n_cells)
    low = ambient if k == 2 else np.where(kind < 0.1, ambient, doublet)
    return np.where(kind < 0.3, low, single)


def objective_of(k: int, proportions: np.ndarray, priors: bool):
    """Log posterior in K - 1 log ratios of weights, then log a, log b of each component."""
    x, n = np.unique(np.clip(proportions, 1e-4, 0.9999), return_counts=True)

    def objective(v):
        weights = np.exp(np.append(v[: k - 1], 0.0))
        weights /= weights.sum()
        shapes = np.exp(v[k - 1 :]).reshape(k, 2)
        terms = [
            math.log(w) + stats.beta.logpdf(x, a, b)
            for w, (a, b) in zip(weights, shapes, strict=True)
        ]
        total = n @ np.logaddexp.reduce(terms, axis=0)
        if not priors:
            return total
        dirichlet = stats.dirichlet(CONCENTRATION[k]).logpdf(weights)
        return total + dirichlet + stats.lognorm.logpdf(shapes, 1, scale=math.e).sum()

    return objective


def unconstrained(k: int, fit) -> np.ndarray:
    p = fit.parameters
    ratios = [math.log(p[f"weight_{j}"] / p[f"weight_{k}"]) for j in range(1, k)]
    shapes = [math.log(p[f"{s}_{j}"]) for j in range(1, k + 1) for s in "ab"]
    return np.array(ratios + shapes)


def gradient(objective, v: np.ndarray, step: float = 1e-4) -> np.ndarray:
    shifts = step * np.eye(v.size)
    return np.array([(objective(v + s) - objective(v - s)) / (2 * step) for s in shifts])


@pytest.mark.parametrize("priors", [True, False])
@pytest.mark.parametrize("k", [2, 3])
def test_objective_is_that_of_scipy_and_its_gradient_vanishes(k: int, priors: bool) -> None:
    x = simulated(k, 1)
    fit = FIT[k](x, priors=priors)
    assert (fit.status, fit.converged) == ("ok", True)
    at = unconstrained(k, fit)
    objective = objective_of(k, x, priors)
    # Sums of 4,000 terms in another order.
    assert fit.objective == pytest.approx(objective(at), rel=1e-11)
    assert fit.log_likelihood == pytest.approx(objective_of(k, x, False)(at), rel=1e-11)
    # Central differences of step 1e-4: third derivatives of some 1e5 times 1e-8.
    assert np.abs(gradient(objective, at)).max() < 2e-3


@pytest.mark.parametrize("priors", [True, False])
@pytest.mark.parametrize("k", [2, 3])
def test_em_is_monotone(k: int, priors: bool) -> None:
    x = simulated(k, 2, 1000)
    path = [FIT[k](x, priors=priors, max_iterations=m).objective for m in range(3, 25)]
    # The best of several starts, each rising; rounding of a sum near 1e3.
    assert np.all(np.diff(path) >= -1e-9)


@pytest.mark.parametrize("k", [2, 3])
def test_planted_parameters_are_recovered(k: int) -> None:
    fit = FIT[k](simulated(k, 3, 8000), priors=False, tolerance=1e-7).parameters
    # Three standard errors of shapes fitted to 5,600 cells are 3 * sqrt(2 / 5600) = 0.057.
    assert fit[f"weight_{k}"] == pytest.approx(0.7, abs=0.02)
    assert fit[f"a_{k}"] == pytest.approx(12, rel=0.1)
    assert fit[f"b_{k}"] == pytest.approx(0.8, rel=0.06)
    means = [fit[f"a_{j}"] / (fit[f"a_{j}"] + fit[f"b_{j}"]) for j in range(1, k + 1)]
    assert means[0] == pytest.approx(0.25, abs=0.03)
    if k == 3:
        assert means[1] == pytest.approx(20 / 38, abs=0.01)


@pytest.mark.parametrize("k", [2, 3])
def test_order_of_the_cells_and_cells_without_guides_do_not_matter(k: int) -> None:
    x = simulated(k, 4, 800)
    mixed = np.random.default_rng(0).permutation(np.append(x, [np.nan] * 30))
    assert FIT[k](mixed) == FIT[k](x)


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("confidence", [0.5, pytest.param(0.8, marks=pytest.mark.slow), 0.95])
def test_calls_above_the_threshold_are_all_confident(k: int, confidence: float) -> None:
    fit = FIT[k](simulated(k, 5)).parameters
    cut = THRESHOLD[k](fit, confidence)
    assert 0.2 < cut < 1.0
    above = np.linspace(cut, 0.9999, 5000)[1:]
    assert np.all(POSTERIOR[k](above, fit) > confidence)
    assert POSTERIOR[k]([cut - 1e-9], fit) <= confidence


def test_calls_are_monotone_where_the_posterior_is_not() -> None:
    # A narrow background at 1/2 and a wide signal: far below 1/2 the signal is the denser again.
    fit = {"weight_1": 0.5, "a_1": 85.0, "b_1": 74.0, "weight_2": 0.5, "a_2": 3.0, "b_2": 0.18}
    assert posterior_beta2([0.2], fit) > 0.99
    assert posterior_beta2([0.55], fit) < 0.1
    assert threshold_beta2(fit) > 0.55


def test_thresholds_at_the_ends() -> None:
    fit = fit_beta2(simulated(2, 6)).parameters
    assert threshold_beta2(fit, 0.0) == 0.0
    assert threshold_beta2(fit, 1.0) == 1.0


@pytest.mark.parametrize("k", [2, 3])
def test_posterior_is_the_share_of_the_last_component(k: int) -> None:
    fit = FIT[k](simulated(k, 7, 1000)).parameters
    x = np.array([0.01, 0.3, 0.5, 0.77, 0.999])
    parts = [
        fit[f"weight_{j}"] * stats.beta.pdf(x, fit[f"a_{j}"], fit[f"b_{j}"])
        for j in range(1, k + 1)
    ]
    assert POSTERIOR[k](x, fit) == pytest.approx(parts[-1] / sum(parts), rel=1e-9)
    odds = np.log(parts[-1] / sum(parts[:-1]))
    assert LOG_ODDS[k](x, fit) == pytest.approx(odds, rel=1e-9)
    assert np.isnan(POSTERIOR[k]([np.nan], fit)).all()


@pytest.mark.parametrize("k", [2, 3])
def test_screens_that_cannot_be_fitted_say_why(k: int) -> None:
    assert FIT[k]([]).status == "no_counts"
    assert FIT[k]([np.nan]).status == "no_counts"
    assert FIT[k]([0.4]).status == "too_few"
    assert FIT[k]([1.0] * 20).status == "no_separation"


def test_cells_of_one_kind_do_not_separate() -> None:
    x = np.random.default_rng(8).beta(12, 0.8, 3000)
    assert fit_beta2(x).status == "no_separation"


@pytest.mark.parametrize("k", [2, 3])
def test_no_optimizer_finds_a_better_fit_on_the_real_screen(
    k: int, proportions: np.ndarray
) -> None:
    starts = {
        2: [(-1, 0, 1, 2, 0), (-2, 2, 2, 2.5, -1), (0, 1, 1, 1, 0)],
        3: [(-1, 0, 0, 1, 2, 2, 2, 0), (-3, -2, 1, 1, 2.5, 2.5, 2.5, -1), (0, 0, 0, 2, 2, 2, 2, 0)],
    }[k]
    bounds = [(-15, 15)] * (k - 1) + [(-math.log(1e3), math.log(1e3))] * (2 * k)

    def admissible(v):
        log_b = v[k::2]
        mean = v[k - 1 :: 2] - log_b
        return np.argmin(log_b) == np.argmax(mean)

    best = scipy_maximum(objective_of(k, proportions, True), starts, bounds, admissible)
    assert math.isfinite(best)
    assert FIT[k](proportions).objective >= best - 1e-6


@pytest.mark.parametrize("k", [2, 3])
def test_threshold_is_near_that_of_crispat_with_a_better_objective(
    k: int, proportions: np.ndarray, data_dir: Path
) -> None:
    fit = FIT[k](proportions)
    table = pd.read_csv(data_dir / "crispat_reference" / f"beta{k}_thresholds.csv.gz")
    cut = THRESHOLD[k](fit.parameters, grid=True)
    # Both are multiples of 0.01 in floating point.
    assert cut == pytest.approx(table["threshold"].item(), abs=0.02 + 1e-9)
    assert abs(THRESHOLD[k](fit.parameters) - cut) < 0.01
    assert fit.objective > CRISPAT_OBJECTIVE[k] + 10
