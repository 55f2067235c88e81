"""reference.apeglm against SciPy's minimizers, closed forms and the laws of shrinkage."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar

from reference.apeglm import (
    LARGEST_VARIANCE,
    SMALLEST_VARIANCE,
    nearest_mode,
    prior_scale,
    prior_variance,
    shrink_counts,
    shrink_statistics,
)
from reference.nb_coefficients import Arm
from reference.nb_likelihood import log_likelihood

RNG = np.random.default_rng(8)


def drawn(n: int, mean: float, alpha: float = 0.4) -> Arm:
    s = np.exp(RNG.normal(0, 0.4, n))
    return Arm.of(RNG.poisson(s * mean * RNG.gamma(1 / alpha, alpha, n)), s)


CASES = {
    "abundant": (drawn(60, 3.0), drawn(25, 8.0)),
    "rare": (drawn(300, 0.05), drawn(60, 0.2)),
    "unchanged": (drawn(60, 1.0), drawn(25, 1.0)),
    "silent perturbation": (drawn(60, 1.0), Arm.of(np.zeros(12), np.linspace(0.5, 2, 12))),
    "silent control": (Arm.of(np.zeros(40), np.linspace(0.5, 2, 40)), drawn(12, 1.0)),
}


def loss(beta: np.ndarray, arms: tuple[Arm, Arm], alpha: float, scale: float) -> float:
    total = beta[0] ** 2 / (2 * 15**2) + math.log1p((beta[1] / scale) ** 2)
    for arm, eta in zip(arms, (beta[0], beta[0] + beta[1]), strict=True):
        total -= log_likelihood(arm.counts, arm.size_factors * math.exp(eta), alpha)
    return total


@pytest.mark.parametrize("scale", [0.02, 0.3, 1.0])
@pytest.mark.parametrize("arms", CASES.values(), ids=CASES)
def test_the_mode_minimizes_the_loss(arms: tuple[Arm, Arm], scale: float) -> None:
    found = shrink_counts(*arms, 0.4, scale)
    starts = ([0.1, -0.1], [found.intercept, 0.0], [-4.0, 4.0], [1.0, -4.0])
    options = {"xatol": 1e-9, "fatol": 1e-13, "maxiter": 4000}
    tries = [
        minimize(loss, x, (arms, 0.4, scale), method="Nelder-Mead", options=options) for x in starts
    ]
    best = min(tries, key=lambda one: one.fun)
    mode = np.array([found.intercept, found.log_fold_change])
    assert loss(mode, arms, 0.4, scale) <= best.fun + 1e-9
    # The place of a minimum is known to about the root of the rounding error of its value.
    np.testing.assert_allclose(mode, best.x, atol=2e-5)
    assert found.converged


@pytest.mark.parametrize("arms", CASES.values(), ids=CASES)
def test_the_standard_error_is_the_curvature_of_the_loss(arms: tuple[Arm, Arm]) -> None:
    found = shrink_counts(*arms, 0.4, 0.5)
    step, mode = 1e-3, np.array([found.intercept, found.log_fold_change])
    hessian = np.empty((2, 2))
    for i, j in np.ndindex(2, 2):
        a, b = step * np.eye(2)[i], step * np.eye(2)[j]
        corners = [(mode + a + b, 1), (mode + a - b, -1), (mode - a + b, -1), (mode - a - b, 1)]
        hessian[i, j] = sum(sign * loss(x, arms, 0.4, 0.5) for x, sign in corners) / (4 * step**2)
    expected = math.sqrt(np.linalg.inv(hessian)[1, 1])
    # Central differences at steps of 1e-3 are good to about 1e-6.
    assert found.standard_error == pytest.approx(expected, rel=1e-4)


def test_the_literal_standard_error_adds_the_curvatures_to_rows() -> None:
    arms = CASES["abundant"]
    found = shrink_counts(*arms, 0.4, 0.5, literal=True)
    information = np.zeros((2, 2))
    for arm, x, eta in (
        (arms[0], np.array([1.0, 0.0]), found.intercept),
        (arms[1], np.array([1.0, 1.0]), found.intercept + found.log_fold_change),
    ):
        mu = arm.size_factors * math.exp(eta)
        weight = np.sum((arm.counts + 1 / 0.4) / 0.4 * mu / (1 / 0.4 + mu) ** 2)
        information += weight * np.outer(x, x)
    b = found.log_fold_change
    curvatures = np.array([1 / 15**2, 2 * (0.5**2 - b**2) / (0.5**2 + b**2) ** 2])
    expected = math.sqrt(abs(np.linalg.inv(information + curvatures)[1, 1]))
    assert found.standard_error == pytest.approx(expected, rel=1e-9)
    right = shrink_counts(*arms, 0.4, 0.5)
    assert found.log_fold_change == pytest.approx(right.log_fold_change, abs=1e-9)
    assert found.standard_error != pytest.approx(right.standard_error, rel=1e-3)


def test_of_two_modes_the_lower_one_is_taken_and_literally_the_one_near_zero() -> None:
    arms = Arm.of(np.repeat([0, 1], [20, 180]), np.ones(200)), Arm.of(np.zeros(60), np.ones(60))
    found = shrink_counts(*arms, 0.4, 0.02)
    near = shrink_counts(*arms, 0.4, 0.02, literal=True)
    assert found.log_fold_change < -2 < -0.02 < near.log_fold_change < 0
    losses = [
        loss(np.array([x.intercept, x.log_fold_change]), arms, 0.4, 0.02) for x in (found, near)
    ]
    assert losses[0] < losses[1]
    beside = [
        loss(np.array([near.intercept, near.log_fold_change * by]), arms, 0.4, 0.02)
        for by in (0.9, 1.1)
    ]
    assert losses[1] < min(beside)


def test_steps_that_would_go_to_and_fro_are_halved() -> None:
    """Newton's steps on a smooth |x|^1.5 lead from x to about -x for ever."""

    def slopes(x: float) -> tuple[float, float]:
        square = x * x + 1e-12
        return x * square**-0.25, square**-0.25 * (1 - 0.5 * x * x / square)

    x, iterations, converged = nearest_mode(slopes, 1.0, 100, 1e-8)
    assert converged
    assert abs(x) < 1e-7
    assert iterations < 60


finite = st.floats(-20, 20)
error = st.floats(1e-3, 30)
scales = st.floats(1e-3, 1)


@given(fitted=finite, error=error, scale=scales)
def test_shrinkage_of_fits_never_expands_an_effect(
    fitted: float, error: float, scale: float
) -> None:
    shrunk = shrink_statistics(fitted, error, scale).log_fold_change
    assert abs(shrunk) <= abs(fitted) + 1e-12
    assert shrunk * fitted >= 0 or abs(shrunk) <= 1e-8


@given(fitted=finite, error=error, scale=scales)
def test_the_mode_of_a_fit_minimizes_its_loss(fitted: float, error: float, scale: float) -> None:
    def loss(beta: float) -> float:
        return (beta - fitted) ** 2 / (2 * error**2) + math.log1p((beta / scale) ** 2)

    found = shrink_statistics(fitted, error, scale)
    assert found.converged
    grid = np.concatenate([np.linspace(0, fitted, 400), fitted * np.geomspace(1e-7, 1, 200)])
    values = [loss(b) for b in grid]
    near = grid[int(np.argmin(values))]
    width = max(abs(fitted) / 300, 1e-6)
    finer = minimize_scalar(loss, bounds=(near - width, near + width), method="bounded").fun
    # Losses grow up to (20 / 1e-3)^2; a hundredth of a unit in 1e8 is their rounding.
    assert loss(found.log_fold_change) <= min(min(values), finer) * (1 + 1e-9) + 1e-9


@given(
    control=st.lists(st.integers(0, 9), min_size=3, max_size=12),
    perturbed=st.lists(st.integers(0, 9), min_size=3, max_size=12),
    scale=scales,
)
def test_shrinkage_of_counts_never_expands_an_effect(
    control: list[int], perturbed: list[int], scale: float
) -> None:
    if not any(control + perturbed):
        return
    arms = [Arm.of(y, np.linspace(0.5, 2, len(y))) for y in (control, perturbed)]
    shrunk = shrink_counts(arms[0], arms[1], 0.4, scale)
    # A prior as wide as this leaves the fold change where the prior of the intercept puts it.
    free = shrink_counts(arms[0], arms[1], 0.4, 1e9)
    assert abs(shrunk.log_fold_change) <= abs(free.log_fold_change) + 1e-7
    assert shrunk.log_fold_change * free.log_fold_change >= -1e-12


def test_a_wide_prior_leaves_the_fit_and_a_narrow_one_gives_zero() -> None:
    assert shrink_statistics(1.3, 0.2, 1e6).log_fold_change == pytest.approx(1.3, rel=1e-9)
    assert shrink_statistics(1.3, 0.2, 1e6).standard_error == pytest.approx(0.2, rel=1e-9)
    assert abs(shrink_statistics(0.5, 0.4, 1e-4).log_fold_change) < 1e-4


def one(fitted: np.ndarray, error: np.ndarray) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    return [(fitted, error)]


def test_equal_errors_leave_the_excess_of_the_mean_square() -> None:
    fitted, error = RNG.normal(0, 1.1, 500), np.full(500, 0.4)
    expected = np.mean(fitted**2) - 0.4**2
    assert prior_variance(lambda: one(fitted, error)) == pytest.approx(expected, rel=1e-9)


def test_the_prior_variance_is_that_of_true_effects() -> None:
    error = np.exp(RNG.normal(-1, 0.7, 40_000))
    fitted = RNG.normal(0, 0.5, error.size) + RNG.normal(0, error)
    # The spread of the estimate at 40,000 genes is about 1 %.
    assert prior_variance(lambda: one(fitted, error)) == pytest.approx(0.25, rel=0.05)


def test_the_prior_variance_stays_between_its_ends() -> None:
    error = np.full(9, 0.5)
    assert prior_variance(lambda: one(np.zeros(9), error)) == SMALLEST_VARIANCE
    assert prior_variance(lambda: one(np.full(9, 90.0), error)) == LARGEST_VARIANCE
    assert prior_variance(lambda: one(np.full(9, np.nan), error)) == SMALLEST_VARIANCE


def test_genes_without_a_fit_do_not_count() -> None:
    fitted, error = RNG.normal(0, 1, 50), np.exp(RNG.normal(-1, 0.3, 50))
    gaps = np.append(fitted, [np.nan, 1.0]), np.append(error, [1.0, np.nan])
    assert prior_variance(lambda: one(*gaps)) == prior_variance(lambda: one(fitted, error))


def test_the_prior_scale_is_at_most_one() -> None:
    assert prior_scale(0.25) == 0.5
    assert prior_scale(9.0) == 1.0
