"""reference.nb_regression against statsmodels, SciPy's minimizers and the two-arm methods."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar

from reference import nb_coefficients, nb_regression
from reference.apeglm import shrink_counts
from reference.cooks import distances_from_means
from reference.dispersion import adjusted_slopes, grid_mode
from reference.nb_coefficients import Arm
from reference.nb_likelihood import log_likelihood
from reference.wald import wald_test

RNG = np.random.default_rng(21)
N = 90
ARM = np.repeat([0.0, 1.0], [60, 30])
BATCH = np.tile([0.0, 1.0, 1.0], 30)
DEPTH = RNG.normal(0, 0.5, N)
DESIGN = np.column_stack([np.ones(N), ARM, BATCH, DEPTH])
OFFSET = RNG.normal(0, 0.3, N)
MU = np.exp(OFFSET + DESIGN @ [0.8, 0.7, -0.4, 0.3])
COUNTS = RNG.poisson(MU * RNG.gamma(1 / 0.4, 0.4, N)).astype(float)
TWO = DESIGN[:, :2]


def fitted(design: np.ndarray, alpha: float, **options: float) -> nb_regression.Regression:
    start = nb_regression.least_squares(COUNTS, design, OFFSET)
    return nb_regression.regress(COUNTS, design, OFFSET, alpha, start, tolerance=1e-10, **options)


@pytest.mark.parametrize("alpha", [0.05, 0.4, 3.0])
def test_coefficients_and_errors_are_those_of_statsmodels(alpha: float) -> None:
    from statsmodels.genmod.families import NegativeBinomial
    from statsmodels.genmod.generalized_linear_model import GLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = GLM(COUNTS, DESIGN, NegativeBinomial(alpha=alpha), offset=OFFSET).fit(tol=1e-12)
    ours = fitted(DESIGN, alpha, ridge=0.0)
    # It stops by its deviance, whose change is the square of a step.
    np.testing.assert_allclose(ours.coefficients, theirs.params, atol=1e-6)
    mu = nb_regression.means(DESIGN, OFFSET, ours.coefficients)
    errors = nb_regression.standard_errors(DESIGN, mu, alpha, 0.0)
    np.testing.assert_allclose(errors, theirs.bse, rtol=1e-5)
    assert nb_regression.deviance(COUNTS, mu, alpha) == pytest.approx(theirs.deviance, rel=1e-9)


def test_without_dispersion_it_is_poisson_regression() -> None:
    from statsmodels.genmod.families import Poisson
    from statsmodels.genmod.generalized_linear_model import GLM

    theirs = GLM(COUNTS, DESIGN, Poisson(), offset=OFFSET).fit()
    ours = fitted(DESIGN, 0.0, ridge=0.0)
    np.testing.assert_allclose(ours.coefficients, theirs.params, rtol=1e-7)
    mu = nb_regression.means(DESIGN, OFFSET, ours.coefficients)
    assert nb_regression.deviance(COUNTS, mu, 0.0) == pytest.approx(theirs.deviance, rel=1e-9)


@pytest.mark.parametrize("min_mu", [0.0, 0.5, 3.0])
def test_two_arms_are_fitted_as_by_the_iteration_of_two_arms(min_mu: float) -> None:
    s = np.exp(OFFSET)
    arms = [Arm.of(COUNTS[k == ARM], s[k == ARM]) for k in (0, 1)]
    start = tuple(map(nb_coefficients.ordinary_least_squares, arms))
    expected = nb_coefficients.iterate_clamped(
        *arms, 0.4, (start[0], start[1]), min_mu=min_mu, tolerance=1e-15, max_iterations=60
    )
    ours = fitted(TWO, 0.4, min_mu=min_mu)
    found = expected.intercept, expected.log_fold_change
    np.testing.assert_allclose(ours.coefficients, found, rtol=1e-7)
    mu = nb_regression.means(TWO, OFFSET, ours.coefficients)
    error = nb_regression.standard_errors(TWO, mu, 0.4)[1]
    assert error == pytest.approx(wald_test(*arms, *found, 0.4, "fisher").standard_error, rel=1e-7)
    distances = nb_regression.cooks_distances(COUNTS, TWO, mu, 0.4)
    assert distances.shape == (N,)


def test_a_step_too_long_is_shortened_and_the_end_is_the_same() -> None:
    far = nb_regression.regress(COUNTS, DESIGN, OFFSET, 0.4, [9.0, -9.0, 0, 0], tolerance=1e-10)
    assert far.converged
    np.testing.assert_allclose(far.coefficients, fitted(DESIGN, 0.4).coefficients, atol=1e-8)


def test_the_dispersion_follows_the_means_step_by_step() -> None:
    def estimate(mu: np.ndarray) -> float:
        return nb_regression.cox_reid_dispersion(COUNTS, mu, DESIGN)

    start = nb_regression.least_squares(COUNTS, DESIGN, OFFSET)
    joint = nb_regression.regress(COUNTS, DESIGN, OFFSET, estimate, start, tolerance=1e-9)
    assert joint.converged
    again = fitted(DESIGN, joint.dispersion)
    np.testing.assert_allclose(joint.coefficients, again.coefficients, atol=1e-7)
    mu = nb_regression.means(DESIGN, OFFSET, again.coefficients)
    assert joint.dispersion == pytest.approx(estimate(mu), rel=1e-5)


def adjusted_loss(a: float, mu: np.ndarray, design: np.ndarray) -> float:
    alpha = math.exp(a)
    gram = (design.T * (mu / (1 + alpha * mu))) @ design
    return -log_likelihood(COUNTS, mu, alpha) + np.linalg.slogdet(gram)[1] / 2


def test_the_dispersion_minimizes_the_adjusted_loss() -> None:
    mu = nb_regression.means(DESIGN, OFFSET, fitted(DESIGN, 0.4).coefficients)
    found = nb_regression.cox_reid_dispersion(COUNTS, mu, DESIGN)
    best = minimize_scalar(adjusted_loss, bracket=(-3, 1), args=(mu, DESIGN), method="brent").x
    assert math.log(found) == pytest.approx(best, abs=1e-6)
    step, a = 1e-4, -1.0
    slope, curvature = nb_regression.adjusted_slopes(a, COUNTS, mu, DESIGN)
    up, down = (adjusted_loss(a + by, mu, DESIGN) for by in (step, -step))
    assert slope == pytest.approx((up - down) / (2 * step), rel=1e-6)
    middle = adjusted_loss(a, mu, DESIGN)
    assert curvature == pytest.approx((up - 2 * middle + down) / step**2, rel=1e-4)


def test_the_slopes_of_two_arms_are_those_of_the_dispersion_page() -> None:
    mu = nb_regression.means(TWO, OFFSET, fitted(TWO, 0.4).coefficients)
    s = np.exp(OFFSET)
    arms = [Arm.of(COUNTS[k == ARM], s[k == ARM]) for k in (0, 1)]
    expected = adjusted_slopes(-0.5, arms, [mu[k == ARM] for k in (0, 1)])
    assert nb_regression.adjusted_slopes(-0.5, COUNTS, mu, TWO) == pytest.approx(expected)


@pytest.mark.parametrize("n_covariates", [0, 1, 2])
def test_groups_and_covariates_are_a_design_of_indicators(n_covariates: int) -> None:
    covariates = DESIGN[:, 2 : 2 + n_covariates]
    whole = np.column_stack([1 - ARM, ARM, covariates])
    found = nb_regression.group_dispersion(COUNTS, MU, ARM.astype(int) * 2, covariates)
    assert found == pytest.approx(nb_regression.cox_reid_dispersion(COUNTS, MU, whole), rel=1e-6)


def test_moments_are_the_excess_over_poisson() -> None:
    expected = np.sum(((COUNTS - MU) ** 2 - MU) / MU**2) / (N - 4)
    assert nb_regression.moments_dispersion(COUNTS, MU, 4, 1e-8, 10) == pytest.approx(expected)
    assert nb_regression.moments_dispersion(MU, MU, 4, 1e-8, 10) == 1e-8


def test_shrinking_two_arms_is_apeglm() -> None:
    s = np.exp(OFFSET)
    arms = [Arm.of(COUNTS[k == ARM], s[k == ARM]) for k in (0, 1)]
    expected = shrink_counts(*arms, 0.4, 0.3)
    beta, error, converged = nb_regression.shrink_coefficient(
        COUNTS, TWO, OFFSET, 0.4, fitted(TWO, 0.4).coefficients, 0.3
    )
    assert converged
    np.testing.assert_allclose(beta, [expected.intercept, expected.log_fold_change], rtol=1e-7)
    assert error == pytest.approx(expected.standard_error, rel=1e-7)


def test_shrinking_one_of_many_coefficients_minimizes_the_loss() -> None:
    def loss(beta: np.ndarray) -> float:
        mu = np.exp(OFFSET + DESIGN @ beta)
        others = beta[[0, 2, 3]]
        penalty = np.sum(others**2) / (2 * 15**2) + math.log1p((beta[1] / 0.3) ** 2)
        return penalty - log_likelihood(COUNTS, mu, 0.4)

    start = fitted(DESIGN, 0.4).coefficients
    beta, _, _ = nb_regression.shrink_coefficient(COUNTS, DESIGN, OFFSET, 0.4, start, 0.3)
    best = minimize(loss, start, method="BFGS", options={"gtol": 1e-7})
    assert loss(beta) <= best.fun + 1e-9
    np.testing.assert_allclose(beta, best.x, atol=1e-5)
    assert abs(beta[1]) < abs(start[1])


def test_leverages_shared_out_by_weight_are_those_of_equal_arms() -> None:
    arms = [Arm.of(COUNTS[k::2], np.ones(45)) for k in (0, 1)]
    mu = np.full(90, 2.0)
    y = np.concatenate([arm.counts for arm in arms])
    found = distances_from_means(y, mu, 0.04, 2)
    squares = (y - mu) ** 2 / (mu + 0.04 * mu**2)
    h = 1 / 45
    np.testing.assert_allclose(found, squares / 2 * h / (1 - h) ** 2)


def test_the_posterior_mode_on_a_grid_is_the_best_point_and_then_the_minimum() -> None:
    def loss(a: float) -> float:
        return (a - math.log(0.8)) ** 2 / (2 * 0.5) - log_likelihood(COUNTS, MU, math.exp(a))

    rough = grid_mode(COUNTS, MU, 0.8, 0.5, 1e-4, 10, 12, refine=False)
    points = np.linspace(math.log(1e-4), math.log(10), 12)
    assert math.log(rough) == pytest.approx(min(points, key=loss))
    best = minimize_scalar(loss, bracket=(-3, 1), method="brent").x
    assert math.log(grid_mode(COUNTS, MU, 0.8, 0.5)) == pytest.approx(best, abs=1e-6)
