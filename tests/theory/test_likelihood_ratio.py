"""reference.likelihood_ratio against SciPy's optimizer."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar

from reference.likelihood_ratio import likelihood_ratio_root
from reference.nb_coefficients import Arm
from reference.nb_likelihood import log_likelihood
from reference.wald import silent_arm_test

RNG = np.random.default_rng(3)
CONTROL = Arm.of(RNG.poisson(2.0, 40), np.linspace(0.4, 2, 40))
SIZES = np.linspace(0.7, 1.5, 15)


def loss(arm: Arm, eta: float, alpha: float) -> float:
    return -log_likelihood(arm.counts, arm.size_factors * math.exp(eta), alpha)


@pytest.mark.parametrize("mean", [0.5, 2.0, 9.0])
@pytest.mark.parametrize("alpha", [0.01, 0.3, 4.0])
def test_the_root_is_that_of_the_two_best_likelihoods(mean: float, alpha: float) -> None:
    perturbed = Arm.of(RNG.poisson(mean, 15), SIZES)
    full = minimize(
        lambda b: loss(CONTROL, b[0], alpha) + loss(perturbed, b[0] + b[1], alpha),
        [0.5, 0.0],
        method="Nelder-Mead",
        options={"xatol": 1e-10, "fatol": 1e-13, "maxiter": 2_000},
    )
    null = minimize_scalar(
        lambda eta: loss(CONTROL, eta, alpha) + loss(perturbed, eta, alpha),
        bounds=(-4, 5),
        method="bounded",
        options={"xatol": 1e-9},
    )
    z = likelihood_ratio_root(CONTROL, perturbed, alpha)
    assert z**2 == pytest.approx(2 * (null.fun - full.fun), rel=1e-7, abs=1e-9)
    assert np.sign(z) == np.sign(full.x[1])


@pytest.mark.parametrize("silenced", [True, False])
def test_a_silent_arm_has_the_root_of_walds_stand_in(silenced: bool) -> None:
    silent = Arm.of(np.zeros(15), SIZES)
    arms = (CONTROL, silent) if silenced else (silent, CONTROL)
    best = minimize_scalar(lambda eta: loss(CONTROL, eta, 0.3), (-3, 0, 2), tol=1e-12).x
    z = likelihood_ratio_root(*arms, 0.3)
    assert z == pytest.approx(silent_arm_test(*arms, float(best), 0.3), rel=1e-9)
    assert (z < 0) == silenced


def test_equal_arms_have_no_ratio() -> None:
    assert likelihood_ratio_root(CONTROL, CONTROL, 0.3) == pytest.approx(0, abs=1e-6)
