"""reference.wald against matrix algebra and a direct likelihood ratio."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from reference.nb_coefficients import RIDGE, Arm, best_log_mean
from reference.nb_likelihood import log_likelihood
from reference.wald import SE_METHODS, silent_arm_test, wald_test

RNG = np.random.default_rng(3)
CONTROL = Arm.of(RNG.poisson(2.0, 40), np.linspace(0.4, 2, 40))
PERTURBED = Arm.of(RNG.poisson(4.0, 15), np.linspace(0.7, 1.5, 15))
ALPHA, INTERCEPT, CHANGE = 0.3, 0.6, 0.5


def dense_variance(se_method: str) -> float:
    y = np.concatenate([CONTROL.counts, PERTURBED.counts])
    s = np.concatenate([CONTROL.size_factors, PERTURBED.size_factors])
    design = np.column_stack([np.ones(55), np.arange(55) >= 40])
    mu = s * np.exp(design @ [INTERCEPT, CHANGE])
    gram = (design.T * (mu / (1 + ALPHA * mu))) @ design
    inverse = np.linalg.inv(gram + RIDGE * np.eye(2))
    if se_method == "fisher":
        return inverse[1, 1]
    if se_method == "robust":
        gram = (design.T * ((y - mu) / (1 + ALPHA * mu)) ** 2) @ design
    return (inverse @ gram @ inverse)[1, 1]


@pytest.mark.parametrize("se_method", SE_METHODS)
def test_standard_errors_are_those_of_the_matrices(se_method: str) -> None:
    test = wald_test(CONTROL, PERTURBED, INTERCEPT, CHANGE, ALPHA, se_method)
    assert test.standard_error**2 == pytest.approx(dense_variance(se_method), rel=1e-12)
    assert test.statistic == pytest.approx(CHANGE / test.standard_error, rel=1e-15)
    assert test.pvalue == pytest.approx(2 * norm.sf(abs(test.statistic)), rel=1e-13)


def test_the_model_filled_sandwich_is_fisher_up_to_the_ridge() -> None:
    fisher, sandwich = (
        wald_test(CONTROL, PERTURBED, INTERCEPT, CHANGE, ALPHA, m) for m in ("fisher", "sandwich")
    )
    assert sandwich.standard_error == pytest.approx(fisher.standard_error, rel=1e-6)
    assert sandwich.standard_error < fisher.standard_error


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="'hc3'"):
        wald_test(CONTROL, PERTURBED, INTERCEPT, CHANGE, ALPHA, "hc3")


@pytest.mark.parametrize("silenced", [True, False])
def test_a_silent_arm_is_tested_by_the_likelihood_ratio(silenced: bool) -> None:
    silent = Arm.of(np.zeros(15), PERTURBED.size_factors)
    arms = (CONTROL, silent) if silenced else (silent, CONTROL)
    fit = best_log_mean(CONTROL, ALPHA, 0.5)
    y, s = (np.concatenate(parts) for parts in zip(*arms, strict=True))
    null = minimize_scalar(lambda eta: -log_likelihood(y, s * math.exp(eta), ALPHA), (-3, 0, 2))
    full = log_likelihood(CONTROL.counts, CONTROL.size_factors * math.exp(fit.eta), ALPHA)
    z = silent_arm_test(*arms, fit.eta, ALPHA)
    assert z**2 == pytest.approx(2 * (full + null.fun), rel=1e-9)
    assert (z < 0) == silenced
