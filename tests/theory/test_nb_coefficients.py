"""reference.nb_coefficients against closed forms, SciPy's minimizers and dense linear algebra."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from reference.nb_coefficients import (
    RIDGE,
    Arm,
    best_log_mean,
    clamped_means,
    iterate_clamped,
    ordinary_least_squares,
    penalized_log_mean,
    poisson_log_mean,
)
from reference.nb_likelihood import log_likelihood, working_weights

RNG = np.random.default_rng(5)


def drawn(n: int, mean: float, alpha: float) -> Arm:
    s = np.exp(RNG.normal(0, 0.4, n))
    return Arm.of(RNG.poisson(s * mean * RNG.gamma(1 / alpha, alpha, n)), s)


CONTROL, PERTURBED = drawn(60, 2.0, 0.4), drawn(25, 5.0, 0.4)
SPARSE, SILENT = drawn(60, 0.08, 0.4), Arm.of(np.zeros(12), np.linspace(0.5, 2, 12))


@pytest.mark.parametrize("arm", [CONTROL, PERTURBED, SPARSE])
@pytest.mark.parametrize("alpha", [1e-3, 0.4, 8.0])
def test_the_best_log_mean_maximizes_the_likelihood(arm: Arm, alpha: float) -> None:
    def loss(eta: float) -> float:
        return -log_likelihood(arm.counts, arm.size_factors * math.exp(eta), alpha)

    fit = best_log_mean(arm, alpha, poisson_log_mean(arm))
    found = minimize_scalar(loss, bounds=(-7, 4), method="bounded", options={"xatol": 1e-9}).x
    # SciPy knows the place of a minimum to about the root of the rounding error.
    assert fit.eta == pytest.approx(found, abs=1e-6)
    assert fit.converged


@pytest.mark.parametrize("start", [-12.0, 0.0, 9.0])
def test_the_best_log_mean_does_not_depend_on_where_the_search_begins(start: float) -> None:
    there = best_log_mean(SPARSE, 0.4, start, max_iterations=50, tolerance=1e-9)
    assert there.converged
    assert there.eta == pytest.approx(best_log_mean(SPARSE, 0.4, -2.0).eta, abs=1e-10)


def test_without_dispersion_the_best_log_mean_is_the_ratio_of_totals() -> None:
    expected = math.log(CONTROL.counts.sum() / CONTROL.size_factors.sum())
    assert poisson_log_mean(CONTROL) == expected
    assert best_log_mean(CONTROL, 1e-12, 0.0).eta == pytest.approx(expected, abs=1e-9)


def test_too_few_steps_are_reported() -> None:
    assert not best_log_mean(CONTROL, 0.4, 9.0, max_iterations=2).converged


@pytest.mark.parametrize("arm", [CONTROL, SPARSE, SILENT])
def test_the_penalized_log_mean_maximizes_likelihood_times_root_information(arm: Arm) -> None:
    def loss(eta: float) -> float:
        mu = arm.size_factors * math.exp(eta)
        return -log_likelihood(arm.counts, mu, 0.7) - 0.5 * math.log(working_weights(mu, 0.7).sum())

    found = minimize_scalar(loss, bounds=(-9, 4), method="bounded", options={"xatol": 1e-9}).x
    assert penalized_log_mean(arm, 0.7).eta == pytest.approx(found, abs=1e-6)


def test_a_silent_arm_of_poisson_counts_gets_half_a_count() -> None:
    eta = penalized_log_mean(SILENT, 1e-13).eta
    assert math.exp(eta) * SILENT.size_factors.sum() == pytest.approx(0.5, rel=1e-10)


def dense_iteration(alpha: float, min_mu: float, n_steps: int) -> np.ndarray:
    """Return coefficients after so many steps of textbook scoring on the whole design."""
    y = np.concatenate([CONTROL.counts, PERTURBED.counts])
    s = np.concatenate([CONTROL.size_factors, PERTURBED.size_factors])
    design = np.column_stack([np.ones(y.size), np.arange(y.size) >= CONTROL.counts.size])
    beta = np.linalg.lstsq(design, np.log(y / s + 0.1), rcond=None)[0]
    for _ in range(n_steps):
        mu = np.maximum(s * np.exp(design @ beta), min_mu)
        w = mu / (1 + alpha * mu)
        z = np.log(mu / s) + (y - mu) / mu
        gram = (design.T * w) @ design + RIDGE * np.eye(2)
        beta = np.linalg.solve(gram, design.T @ (w * z))
    return beta


@pytest.mark.parametrize("min_mu", [0.0, 0.5, 4.0])
def test_the_clamped_iteration_takes_textbook_steps(min_mu: float) -> None:
    start = ordinary_least_squares(CONTROL), ordinary_least_squares(PERTURBED)
    fit = iterate_clamped(CONTROL, PERTURBED, 0.4, start, min_mu=min_mu)
    expected = dense_iteration(0.4, min_mu, fit.iterations)
    np.testing.assert_allclose([fit.intercept, fit.log_fold_change], expected, rtol=1e-12)


def test_without_a_clamp_the_iteration_finds_the_best_log_means() -> None:
    fit = iterate_clamped(CONTROL, PERTURBED, 0.4, (0.5, 0.5), min_mu=0, tolerance=1e-13)
    eta0, eta1 = (best_log_mean(arm, 0.4, 0.5).eta for arm in (CONTROL, PERTURBED))
    # The ridge of 1e-6 against an information of 30 and more.
    assert fit.intercept == pytest.approx(eta0, abs=1e-6)
    assert fit.intercept + fit.log_fold_change == pytest.approx(eta1, abs=1e-6)


def test_where_all_means_are_clamped_the_coefficients_are_linear_in_the_counts() -> None:
    rare = [Arm.of(np.arange(40) % n == 0, np.linspace(0.8, 1.2, 40)) for n in (20, 5)]
    fit = iterate_clamped(rare[0], rare[1], 0.3, (-2.0, -2.0), min_mu=0.5)
    # eta = log .5 - mean log s + 2 mean y - 1: a ratio of four becomes exp(0.3).
    expected = 2 * (8 / 40 - 2 / 40)
    assert fit.log_fold_change == pytest.approx(expected, rel=1e-5)  # the ridge against 40 * .43
    assert (clamped_means(rare[1], fit.intercept + fit.log_fold_change, 0.5) == 0.5).all()


def test_a_runaway_iteration_is_rescued_or_reported() -> None:
    # From a mean of e^-28 the weights vanish against the ridge and the next step is of 10^7.
    start = (0.5, -28.0)
    lost = iterate_clamped(CONTROL, PERTURBED, 0.4, start, min_mu=0, rescue=False)
    assert (lost.log_fold_change, lost.converged) == (-28.5, False)
    rescued = iterate_clamped(CONTROL, PERTURBED, 0.4, start, min_mu=0, rescue=True)
    best = best_log_mean(PERTURBED, 0.4, 1.0).eta - best_log_mean(CONTROL, 0.4, 1.0).eta
    assert rescued.log_fold_change == pytest.approx(best, abs=1e-3)  # L-BFGS-B's own stop


def test_a_bound_on_the_steps_is_reported() -> None:
    fit = iterate_clamped(CONTROL, PERTURBED, 0.4, (9, 9), max_iterations=2, rescue=False)
    assert (fit.iterations, fit.converged) == (2, False)
