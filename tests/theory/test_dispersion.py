"""reference.dispersion against the dense definition, SciPy and simulated truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import polygamma
from scipy.stats import nbinom, norm

from reference.dispersion import (
    Prior,
    adjusted_loss,
    adjusted_slopes,
    final_dispersion,
    fit_prior,
    fitted_means,
    genewise_dispersion,
    minimize_on_interval,
    posterior_mode,
    rough_moments,
    within_group_moments,
)
from reference.nb_coefficients import Arm

RNG = np.random.default_rng(11)


def drawn(n: int, mean: float, alpha: float) -> Arm:
    s = np.exp(RNG.normal(0, 0.3, n))
    return Arm.of(RNG.poisson(s * mean * RNG.gamma(1 / alpha, alpha, n)), s)


ARMS = [drawn(80, 3.0, 0.5), drawn(30, 6.0, 0.5)]
EVEN = [Arm.of(np.arange(20) % 2 + 3, np.ones(20)), Arm.of(np.arange(9) % 3 + 1, np.ones(9))]


def test_the_loss_is_the_cox_reid_adjusted_likelihood() -> None:
    alpha = 0.4
    y = np.concatenate([arm.counts for arm in ARMS])
    mu = np.concatenate([fitted_means(arm) for arm in ARMS])
    design = np.column_stack([np.ones(y.size), np.arange(y.size) >= ARMS[0].counts.size])
    weights = mu / (1 + alpha * mu)
    expected = -nbinom.logpmf(y, 1 / alpha, 1 / (1 + alpha * mu)).sum()
    expected += 0.5 * np.linalg.slogdet((design.T * weights) @ design)[1]
    means = [fitted_means(arm) for arm in ARMS]
    assert adjusted_loss(math.log(alpha), ARMS, means) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("a", [-6.0, -1.0, 2.0])
def test_slopes_are_derivatives_of_the_loss(a: float) -> None:
    means, h = [fitted_means(arm, 0.5) for arm in ARMS], 1e-5
    loss = [adjusted_loss(x, ARMS, means) for x in (a - h, a + h)]
    slope = [adjusted_slopes(x, ARMS, means)[0] for x in (a - h, a + h)]
    first, second = adjusted_slopes(a, ARMS, means)
    assert first == pytest.approx((loss[1] - loss[0]) / (2 * h), rel=1e-6, abs=1e-6)
    assert second == pytest.approx((slope[1] - slope[0]) / (2 * h), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("start", [1e-8, 0.01, 100.0])
def test_the_genewise_dispersion_minimizes_the_loss(start: float) -> None:
    means = [fitted_means(arm) for arm in ARMS]
    found = minimize_scalar(
        lambda a: adjusted_loss(a, ARMS, means),
        bounds=(-18, 4),
        method="bounded",
        options={"xatol": 1e-9},
    )
    alpha = genewise_dispersion(ARMS, 110, start=start)
    assert math.log(alpha) == pytest.approx(found.x, abs=1e-6)  # of SciPy's bracketing


def test_counts_without_overdispersion_end_at_the_lower_bound() -> None:
    assert genewise_dispersion(EVEN, 29, start=0.1) == pytest.approx(1e-8, rel=1e-12)


def test_where_the_start_is_flat_the_literal_rule_stays_there() -> None:
    assert genewise_dispersion(ARMS, 110, start=1e-8, stop_where_flat=True) == 1e-8
    moving = genewise_dispersion(ARMS, 110, start=0.2, stop_where_flat=True)
    assert moving == pytest.approx(genewise_dispersion(ARMS, 110, start=1.0), rel=1e-9)


def test_an_arm_without_counts_says_nothing() -> None:
    silent = Arm.of(np.zeros(15), np.linspace(0.5, 2, 15))
    together = genewise_dispersion([*ARMS, silent], 110, start=0.3)
    assert together == genewise_dispersion(ARMS, 110, start=0.3)


def test_the_posterior_mode_lies_between_gene_and_trend() -> None:
    own = genewise_dispersion(ARMS, 110, start=0.3)
    modes = [posterior_mode(ARMS, 5.0, variance, 110) for variance in (1e-8, 0.01, 0.25, 1e6)]
    assert sorted(modes, reverse=True) == modes
    assert modes[0] == pytest.approx(5.0, rel=1e-5)  # the prior alone: slope times 1e-8
    assert modes[-1] == pytest.approx(own, rel=1e-5)


def test_the_prior_takes_the_sampling_variance_off() -> None:
    spread = 1.3
    quantiles = norm.ppf((np.arange(2001) + 0.5) / 2001) * spread
    alpha = 0.2 * np.exp(quantiles)
    prior = fit_prior(np.append(alpha, [1e-8, np.nan]), np.full(2003, 0.2), 12)
    # Exact but for the grid of quantiles.
    assert prior.variance == pytest.approx(spread**2 - polygamma(1, 6), rel=5e-3)
    assert prior.outlier_distance == pytest.approx(2 * spread, rel=5e-3)
    assert fit_prior(np.full(5, 0.2), np.full(5, 0.2), 12) == Prior(0.25, 0.0)
    assert fit_prior(np.full(5, 1e-8), np.full(5, 0.2), 12) == Prior(0.25, 0.0)


def test_a_dispersion_far_above_the_trend_is_kept() -> None:
    prior = Prior(0.25, math.log(4))
    assert final_dispersion(0.9, 0.2, 0.5, prior) == 0.9
    assert final_dispersion(0.7, 0.2, 0.5, prior) == 0.5
    assert final_dispersion(0.001, 0.2, 0.1, prior) == 0.1


def test_moments_of_one_group_are_the_textbook_estimate() -> None:
    q = ARMS[0].counts / ARMS[0].size_factors
    expected = (q.var(ddof=1) - q.mean() * np.mean(1 / ARMS[0].size_factors)) / q.mean() ** 2
    assert within_group_moments(ARMS[:1], 99) == pytest.approx(expected, rel=1e-12)


def test_within_group_moments_do_not_take_an_effect_for_dispersion() -> None:
    many = [drawn(4000, 2.0, 0.3), drawn(4000, 20.0, 0.3)]
    assert within_group_moments(many, 99) == pytest.approx(0.3, rel=0.1)
    pool = Arm.of(*(np.concatenate(parts) for parts in zip(*many, strict=True)))
    assert within_group_moments([pool], 99) > 0.8


def test_rough_moments_are_the_smaller_of_two_estimates() -> None:
    y = [np.array([0.0, 2, 7, 3]), np.array([9.0, 1, 4])]
    arms = [Arm(counts, np.ones(counts.size)) for counts in y]
    pool = np.concatenate(y)
    whole = (pool.var(ddof=1) - pool.mean()) / pool.mean() ** 2
    within = (
        sum((x - max(c.mean(), 1)) ** 2 - max(c.mean(), 1) for c in y[:1] for x in c) / 5 / 9
        + sum((x - y[1].mean()) ** 2 - y[1].mean() for x in y[1]) / 5 / y[1].mean() ** 2
    )
    assert rough_moments(arms, 10) == pytest.approx(min(whole, within), rel=1e-13)


def test_rare_genes_have_no_rough_overdispersion() -> None:
    # The floor of 1 under the group means hides it; PyDESeq2 then keeps 1e-8.
    burst = Arm.of(np.where(np.arange(100) == 0, 30, 0), np.ones(100))
    assert rough_moments([burst, burst], 200) > 1
    rare = Arm.of(np.where(np.arange(100) % 25 == 0, 2, 0), np.ones(100))
    assert rough_moments([rare, rare], 200) == 1e-8
    assert within_group_moments([rare, rare], 200) > 5


def test_the_minimizer_stops_at_the_ends_and_within() -> None:
    def parabola(center: float):
        return lambda x: (2 * (x - center), 2.0)

    assert minimize_on_interval(parabola(-9), 1, -3, 5) == -3
    assert minimize_on_interval(parabola(40), 1, -3, 5) == 5
    assert minimize_on_interval(parabola(0.25), 4, -3, 5) == pytest.approx(0.25, abs=1e-12)
    # Concave beyond 1: a bump whose second derivative cannot be trusted there.
    well = minimize_on_interval(
        lambda x: (x * math.exp(-x * x / 2), (1 - x * x) * math.exp(-x * x / 2)), 4, -5, 5
    )
    assert well == pytest.approx(0, abs=1e-7)
