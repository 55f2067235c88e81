"""reference.dispersion_trend against curves that are known and a plain minimizer."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import trim_mean

from reference.dispersion_trend import fit_trend

MEAN = np.exp(np.linspace(-4, 6, 300))
CURVE = 0.08 + 0.6 / MEAN


@pytest.mark.parametrize("literal", [False, True])
def test_a_curve_without_noise_is_found(literal: bool) -> None:
    trend = fit_trend(CURVE, MEAN, literal=literal)
    # SciPy's default stop leaves about 1e-4; Newton steps leave rounding.
    np.testing.assert_allclose(trend.at(MEAN), CURVE, rtol=1e-3 if literal else 1e-12)
    assert trend.parametric


def test_the_curve_minimizes_the_gamma_deviance() -> None:
    alpha = CURVE * np.random.default_rng(2).gamma(3, 1 / 3, 300)
    trend = fit_trend(alpha, MEAN)

    def deviance(logs: np.ndarray) -> float:
        t = np.exp(logs[0]) + np.exp(logs[1]) / MEAN
        return float(np.mean(alpha / t + np.log(t)))

    plain = minimize(
        deviance, [-1.0, -1.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14}
    ).x
    np.testing.assert_allclose([trend.asymptote, trend.slope], np.exp(plain), rtol=1e-5)


def test_genes_far_from_the_curve_do_not_bend_it() -> None:
    alpha = CURVE.copy()
    alpha[::15] = 1e-8
    alpha[7::60] *= 40
    trend = fit_trend(alpha, MEAN)
    np.testing.assert_allclose(trend.at(MEAN), CURVE, rtol=1e-6)


def test_genes_without_counts_take_no_part() -> None:
    alpha, mean = np.append(CURVE, [np.nan, np.nan]), np.append(MEAN, [0.0, 0.0])
    assert fit_trend(alpha, mean) == fit_trend(CURVE, MEAN)


def test_a_curve_that_rises_is_replaced_by_a_trimmed_mean() -> None:
    alpha = np.linspace(0.01, 30, 2500)
    mean = np.exp(np.linspace(-4, 6, 2500))
    trend = fit_trend(np.append(alpha, 1e-8), np.append(mean, 1.0))
    assert not trend.parametric
    expected = trim_mean(alpha, 0.001)
    np.testing.assert_allclose(trend.at([0.1, 50.0]), expected, rtol=1e-13)


def test_without_any_dispersion_there_is_no_trend() -> None:
    assert np.isnan(fit_trend([np.nan, np.nan], [0.0, 0.0]).at([1.0])).all()
