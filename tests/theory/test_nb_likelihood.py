"""reference.nb_likelihood against SciPy's distribution, expansions and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import nbinom, poisson

from reference.nb_likelihood import (
    dispersion_slopes,
    log_likelihood,
    mean_slopes,
    working_weights,
)

COUNTS = np.array([0, 0, 1, 2, 7, 40])
MU = np.array([0.01, 1.5, 0.8, 2.0, 5.0, 90.0])


@pytest.mark.parametrize("alpha", [1e-3, 0.1, 1.0, 30.0])
def test_log_likelihood_is_that_of_scipy(alpha: float) -> None:
    r = 1 / alpha
    expected = nbinom.logpmf(COUNTS, r, r / (r + MU)).sum()
    assert log_likelihood(COUNTS, MU, alpha) == pytest.approx(expected, rel=1e-11)


def test_log_likelihood_without_dispersion_is_poisson() -> None:
    expected = poisson.logpmf(COUNTS, MU).sum()
    assert log_likelihood(COUNTS, MU, 0.0) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("alpha", [1e-8, 1e-6])
def test_small_dispersions_keep_their_digits(alpha: float) -> None:
    # log P(alpha) = log P(0) + alpha / 2 sum((y - mu)^2 - y) + O(alpha^2). Differences of log Gamma
    # at 1e8 have an error of 1e-6, ten times the term itself.
    first_order = alpha / 2 * np.sum((COUNTS - MU) ** 2 - COUNTS)
    slope, _ = dispersion_slopes(COUNTS, MU, alpha)
    assert slope == pytest.approx(first_order, rel=1e3 * alpha + 1e-6)
    gain = log_likelihood(COUNTS, MU, alpha) - log_likelihood(COUNTS, MU, 0.0)
    assert gain == pytest.approx(first_order, rel=1e3 * alpha, abs=1e-13)


@pytest.mark.parametrize("alpha", [1e-4, 0.3, 20.0])
def test_dispersion_slopes_are_derivatives_in_log_alpha(alpha: float) -> None:
    h = 1e-5
    values = [log_likelihood(COUNTS, MU, alpha * np.exp(d)) for d in (-h, h)]
    slopes = [dispersion_slopes(COUNTS, MU, alpha * np.exp(d))[0] for d in (-h, h)]
    first, second = dispersion_slopes(COUNTS, MU, alpha)
    # Central differences: h^2 of truncation, 1e-14 / h of rounding.
    assert first == pytest.approx((values[1] - values[0]) / (2 * h), rel=1e-6, abs=1e-7)
    assert second == pytest.approx((slopes[1] - slopes[0]) / (2 * h), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 20.0])
def test_mean_slopes_are_derivatives_in_the_log_mean(alpha: float) -> None:
    h = 1e-5
    values = [log_likelihood(COUNTS, MU * np.exp(d), alpha) for d in (-h, h)]
    scores = [mean_slopes(COUNTS, MU * np.exp(d), alpha)[0] for d in (-h, h)]
    score, information = mean_slopes(COUNTS, MU, alpha)
    assert score == pytest.approx((values[1] - values[0]) / (2 * h), rel=1e-6, abs=1e-6)
    assert information == pytest.approx(-(scores[1] - scores[0]) / (2 * h), rel=1e-6)


def test_the_working_weight_is_the_expected_information() -> None:
    mu, alpha = 1.7, 0.6
    y = np.arange(200)  # the mass beyond is below 1e-20
    mass = nbinom.pmf(y, 1 / alpha, 1 / (1 + alpha * mu))
    expected = sum(
        p * mean_slopes([count], [mu], alpha)[1] for count, p in zip(y, mass, strict=True)
    )
    assert working_weights([mu], alpha)[0] == pytest.approx(expected, rel=1e-12)
