"""The multiplicity estimate is the maximum of the likelihood and finds the simulated truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from reference.multiplicity import estimate, log_likelihood, probabilities, score

DESIGNS = [(0.3, 0.9), (0.3, 0.5), (1.5, 0.7), (5.0, 0.8), (12.0, 0.15)]


def screen(moi: float, capture: float, n_cells: int, seed: int = 0) -> np.ndarray:
    """Guides seen in cells that survived selection."""
    rng = np.random.default_rng(seed)
    infected = rng.poisson(moi, int(1.5 * n_cells / -math.expm1(-moi)) + 1000)
    return rng.binomial(infected[infected > 0][:n_cells], capture)


def closed_form(moi: float, capture: float, k: int) -> float:
    m = moi * capture
    if k == 0:
        return (math.exp(-m) - math.exp(-moi)) / -math.expm1(-moi)
    return math.exp(-m) * m**k / math.factorial(k) / -math.expm1(-moi)


@pytest.mark.parametrize(("moi", "capture"), [*DESIGNS, (0.01, 0.2), (40.0, 1.0)])
def test_probabilities_are_the_closed_form_and_sum_to_one(moi: float, capture: float) -> None:
    found = probabilities(moi, capture, 100)
    # Sums of some hundred float64 terms of the same sign.
    expected = [closed_form(moi, capture, k) for k in range(101)]
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-17)
    assert found.sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(("moi", "capture"), DESIGNS[:4])
def test_estimate_is_where_scipy_finds_the_largest_likelihood(moi: float, capture: float) -> None:
    n_guides = screen(moi, capture, 4000)
    found = estimate(n_guides)

    def loss(theta: np.ndarray) -> float:
        return -log_likelihood(n_guides, math.exp(theta[0]), 1 / (1 + math.exp(-theta[1])))

    start = [math.log(moi), math.log(capture / (1 - capture))]
    options = {"xatol": 1e-9, "fatol": 1e-9}
    best = minimize(loss, start, method="Nelder-Mead", options=options)
    # Near its maximum the likelihood is flat: 1e-9 of it is about 1e-5 in the parameters.
    assert found.moi == pytest.approx(math.exp(best.x[0]), rel=1e-4)
    assert found.capture == pytest.approx(1 / (1 + math.exp(-best.x[1])), rel=1e-4)
    assert log_likelihood(n_guides, found.moi, found.capture) >= -best.fun - 1e-8


@pytest.mark.parametrize(("moi", "capture"), DESIGNS)
def test_estimate_with_known_capture_is_where_the_score_is_zero(moi: float, capture: float) -> None:
    n_guides = screen(moi, capture, 4000)
    found = estimate(n_guides, capture)
    facts = (len(n_guides), int((n_guides == 0).sum()), int(n_guides.sum()), capture)
    step = 1e-5 * found.moi
    around = [log_likelihood(n_guides, found.moi + d, capture) for d in (-step, 0, step)]
    assert around[1] >= max(around)
    at = 1.3 * found.moi
    difference = [log_likelihood(n_guides, at + d, capture) for d in (-step, step)]
    # Central differences of a likelihood of size 1e4.
    assert score(at, *facts) == pytest.approx(np.diff(difference)[0] / (2 * step), rel=1e-4)
    curvature = (around[0] - 2 * around[1] + around[2]) / step**2
    assert found.standard_error == pytest.approx(1 / math.sqrt(-curvature), rel=0.05)


@pytest.mark.parametrize(("moi", "capture"), DESIGNS[:4])
@pytest.mark.parametrize("known", [True, False])
def test_standard_error_is_the_spread_of_the_estimates(
    moi: float, capture: float, known: bool
) -> None:
    found = [
        estimate(screen(moi, capture, 5000, seed), capture if known else None)
        for seed in range(120)
    ]
    estimates = np.array([e.moi for e in found])
    assert np.isfinite(estimates).all()
    errors = np.array([e.standard_error for e in found])
    # The spread of 120 estimates is known to 6.5 %; their mean to a tenth of the error, and it is
    # biased by the order of the squared error.
    assert estimates.std() == pytest.approx(errors.mean(), rel=0.25)
    assert abs(estimates.mean() - moi) < 0.3 * errors.mean() + errors.mean() ** 2 / moi


def test_cells_that_all_show_their_guides_are_a_truncated_poisson() -> None:
    n_guides = screen(0.8, 1.0, 3000)
    free, fixed = estimate(n_guides), estimate(n_guides, 1.0)
    assert free.capture == 1.0
    assert free.moi == pytest.approx(fixed.moi, rel=1e-12)
    assert free.standard_error == pytest.approx(fixed.standard_error, rel=1e-9)
    assert free.moi / -math.expm1(-free.moi) == pytest.approx(n_guides.mean(), rel=1e-13)


def test_borders_are_said() -> None:
    one = estimate([0, 1, 1, 0, 1])
    assert (one.moi, one.capture) == (0.0, 0.6)
    many = estimate([0] * 30 + [1, 2, 3])
    assert (many.moi, many.capture) == (math.inf, 0.0)
    assert math.isnan(one.standard_error)
    assert math.isnan(many.standard_error)
    # The likelihood of many rises without end.
    likelihoods = [log_likelihood([0] * 30 + [1, 2, 3], x, 0.18 / x) for x in (0.5, 1, 2, 5, 10)]
    assert np.all(np.diff(likelihoods) > 0)
