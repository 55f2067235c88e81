"""reference.score_test against exact tails, root finders and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import log_ndtr
from scipy.stats import nbinom, norm

from reference.nb_coefficients import Arm
from reference.score_test import (
    NullBatch,
    cumulants,
    null_batch,
    overdispersion,
    saddlepoint_root,
    score_test,
)


def arms(mean: float, fold: float, alpha: float, seed: int = 0) -> tuple[Arm, Arm]:
    rng = np.random.default_rng(seed)
    s = np.exp(rng.normal(0, 0.4, 260))
    mu = s * mean * np.where(np.arange(260) >= 200, fold, 1)
    y = rng.poisson(mu * rng.gamma(1 / alpha, alpha, 260))
    return Arm.of(y[:200], s[:200]), Arm.of(y[200:], s[200:])


def equal_cells(n_control: int, n_perturbed: int, mean: float, alpha: float) -> NullBatch:
    w = mean / (1 + alpha * mean)
    mu0, mu1 = np.full(n_control, mean), np.full(n_perturbed, mean)
    return NullBatch(mu0, mu1, n_control * w, n_perturbed * w, 0.0)


def exact_tails(n0: int, n1: int, mean: float, alpha: float, u: float) -> tuple[float, float]:
    """Return P(U >= u) and P(U > u): totals of equal cells are negative binomial as well."""
    p = 1 / (1 + alpha * mean)
    t0, t1 = (np.arange(int(nbinom.isf(1e-14, n / alpha, p)) + 2) for n in (n0, n1))
    mass = np.outer(nbinom.pmf(t0, n0 / alpha, p), nbinom.pmf(t1, n1 / alpha, p))
    q = 1 / (1 + alpha * mean)
    share = n0 / (n0 + n1)
    scores = q * (share * (t1 - n1 * mean) - (1 - share) * (t0[:, None] - n0 * mean))
    return float(mass[scores >= u - 1e-9].sum()), float(mass[scores > u + 1e-9].sum())


@pytest.mark.parametrize("mean", [0.2, 0.8, 4.0])
@pytest.mark.parametrize("alpha", [0.05, 1.0])
@pytest.mark.parametrize("z", [-3.0, -1.5, 1.5, 3.0, 5.0])
def test_the_saddlepoint_tail_is_the_exact_one(mean: float, alpha: float, z: float) -> None:
    n0, n1 = 90, 30
    null = equal_cells(n0, n1, mean, alpha)
    variance = null.control_information * null.perturbed_information
    variance /= null.control_information + null.perturbed_information
    u = z * math.sqrt(variance)
    root = saddlepoint_root([null], u, variance, alpha)
    sign = math.copysign(1, z)
    if sign > 0:
        at, beyond = exact_tails(n0, n1, mean, alpha, u)
    else:
        at, beyond = (1 - p for p in reversed(exact_tails(n0, n1, mean, alpha, u)))
        beyond, at = min(at, beyond), max(at, beyond)
    assert at > 0
    # The scores of totals lie dense between lattice points; the approximation is smooth.
    assert norm.sf(sign * root) == pytest.approx((at + beyond) / 2, rel=0.2)


def test_the_normal_tail_is_wrong_where_the_saddlepoint_is_right() -> None:
    null = equal_cells(2_000, 50, 0.02, 0.5)
    variance = null.control_information * null.perturbed_information
    variance /= null.control_information + null.perturbed_information
    u = 5 * math.sqrt(variance)
    at, _ = exact_tails(2_000, 50, 0.02, 0.5, u)
    saddlepoint = norm.sf(saddlepoint_root([null], u, variance, 0.5))
    assert saddlepoint == pytest.approx(at, rel=0.6)
    assert norm.sf(5) < at / 500


@pytest.mark.parametrize("alpha", [1e-9, 0.3, 20.0])
def test_cumulants_are_derivatives_of_the_log_expectation(alpha: float) -> None:
    null = null_batch(*arms(0.6, 1.0, 0.4), alpha)
    total = null.control_information + null.perturbed_information
    t, step = 0.4, 1e-5

    def k(t: float) -> float:
        found = 0.0
        for mu, share in (
            (null.perturbed, null.control_information / total),
            (null.control, -null.perturbed_information / total),
        ):
            a = share / (1 + alpha * mu)
            inside = 1 - alpha * mu * np.expm1(t * a)
            found += np.sum(-np.log(inside) / alpha if alpha > 1e-6 else mu * np.expm1(t * a))
            found -= np.sum(t * a * mu)
        return found

    value, first, second = cumulants([null], t, alpha)
    assert value == pytest.approx(k(t), rel=1e-9)
    assert first == pytest.approx((k(t + step) - k(t - step)) / (2 * step), rel=1e-6)
    assert second == pytest.approx((k(t + step) - 2 * k(t) + k(t - step)) / step**2, rel=1e-4)


@pytest.mark.parametrize("fold", [0.05, 0.6, 4.0, 60.0])
@pytest.mark.parametrize("alpha", [1e-9, 0.4, 10.0])
def test_the_root_solves_the_saddlepoint_equation(fold: float, alpha: float) -> None:
    null = null_batch(*arms(0.6, fold, 0.4), alpha)
    i0, i1 = null.control_information, null.perturbed_information
    variance = i0 * i1 / (i0 + i1)
    u = null.score
    x = alpha * (null.perturbed if u > 0 else null.control).max()
    limit = (1 + x) * math.log1p(1 / x) * (i0 + i1) / (i0 if u > 0 else i1)
    ends = sorted((0.0, math.copysign(limit * (1 - 1e-12), u)))
    t = brentq(lambda t: cumulants([null], t, alpha)[1] - u, *ends, xtol=1e-14)
    k, _, second = cumulants([null], t, alpha)
    r = math.copysign(math.sqrt(2 * (t * u - k)), u)
    expected = r + math.log(t * math.sqrt(second) / r) / r
    assert saddlepoint_root([null], u, variance, alpha) == pytest.approx(expected, rel=1e-7)


def test_the_score_is_the_slope_of_the_likelihood_in_the_fold_change() -> None:
    from reference.nb_likelihood import log_likelihood

    control, perturbed = arms(1.1, 1.6, 0.4)
    null = null_batch(control, perturbed, 0.4)
    eta = math.log(null.control[0] / control.size_factors[0])

    def at(change: float) -> float:
        mu = perturbed.size_factors * math.exp(eta + change)
        return log_likelihood(perturbed.counts, mu, 0.4)

    assert null.score == pytest.approx((at(1e-5) - at(-1e-5)) / 2e-5, rel=1e-6)


def test_many_cells_make_it_the_normal_test() -> None:
    rng = np.random.default_rng(4)
    y, s = rng.negative_binomial(2, 0.1, 24_000), np.ones(24_000)
    test = score_test([(Arm.of(y[:12_000], s[:12_000]), Arm.of(y[12_000:], s[12_000:]))], 0.5)
    normal = test.score / math.sqrt(test.variance * test.overdispersion)
    assert abs(normal) > 0.1
    assert test.root == pytest.approx(normal, rel=2e-3)


def test_one_batch_of_many_is_the_test_without_batches() -> None:
    control, perturbed = arms(0.8, 2.0, 0.4)
    nobody = Arm.of([], [])
    empty = Arm.of(np.zeros(5), np.ones(5))
    alone = score_test([(control, perturbed)], 0.4)
    beside = [(nobody, perturbed), (control, perturbed), (control, nobody), (empty, empty)]
    assert score_test(beside, 0.4) == alone


def test_batches_are_compared_within() -> None:
    """Batches of other means, confounded with the perturbation, say nothing about it."""
    rng = np.random.default_rng(11)
    y0 = np.concatenate([rng.poisson(0.5, 900), rng.poisson(5, 100)])
    y1 = np.concatenate([rng.poisson(0.5, 20), rng.poisson(5, 180)])
    pooled = score_test([(Arm.of(y0, np.ones(1000)), Arm.of(y1, np.ones(200)))], 0.05)
    within = score_test(
        [
            (Arm.of(y0[:900], np.ones(900)), Arm.of(y1[:20], np.ones(20))),
            (Arm.of(y0[900:], np.ones(100)), Arm.of(y1[20:], np.ones(180))),
        ],
        0.05,
    )
    assert pooled.root > 20
    assert abs(within.root) < 3


def test_scatter_beyond_the_model_is_divided_out() -> None:
    rng = np.random.default_rng(5)
    y = rng.negative_binomial(1 / 3.0, 1 / (1 + 3.0 * 2), 4_000)  # alpha = 3
    pair = (Arm.of(y[:3_000], np.ones(3_000)), Arm.of(y[3_000:], np.ones(1_000)))
    assert overdispersion([pair], 3.0) < 1.15
    # Var / (mean + alpha mean^2) at mean 2 is (2 + 12) / (2 + 1.2).
    assert overdispersion([pair], 0.3) == pytest.approx(14 / 3.2, rel=0.15)
    assert overdispersion([pair], 30.0) == 1


def test_an_effect_is_not_scatter() -> None:
    control, _ = arms(0.5, 1.0, 0.4)
    _, raised = arms(0.5, 40.0, 0.4)
    assert overdispersion([(control, raised)], 0.4) < 1.4


@pytest.mark.parametrize("mean", [0.05, 2.0])
def test_an_absence_is_as_significant_as_its_own_tail(mean: float) -> None:
    control, _ = arms(mean, 1.0, 0.4)
    silent = Arm.of(np.zeros(200), np.ones(200))
    test = score_test([(control, silent)], 0.4)
    assert test.root < -1
    assert math.log(2) + log_ndtr(-abs(test.root)) < 0


def test_nothing_to_say_is_nan() -> None:
    empty = Arm.of(np.zeros(5), np.ones(5))
    assert math.isnan(score_test([(empty, empty)], 0.4).root)
