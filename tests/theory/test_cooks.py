"""reference.cooks against the hat matrix and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import f, trim_mean

from reference.cooks import (
    cooks_distances,
    cutoff,
    is_outlier,
    robust_dispersion,
    without_outliers,
)
from reference.nb_coefficients import RIDGE, Arm

RNG = np.random.default_rng(8)
CONTROL = Arm.of(RNG.poisson(3.0, 30), np.linspace(0.6, 1.6, 30))
PERTURBED = Arm.of(RNG.poisson(6.0, 10), np.linspace(0.8, 1.2, 10))
SPIKED = PERTURBED._replace(counts=np.where(np.arange(10) == 4, 400.0, PERTURBED.counts))


def test_distances_are_those_of_the_hat_matrix() -> None:
    intercept, change, alpha, min_mu = 0.1, 0.9, 0.2, 2.0
    y = np.concatenate([CONTROL.counts, PERTURBED.counts])
    s = np.concatenate([CONTROL.size_factors, PERTURBED.size_factors])
    design = np.column_stack([np.ones(40), np.arange(40) >= 30])
    mu = s * np.exp(design @ [intercept, change])
    w = np.maximum(mu, min_mu) / (1 + alpha * np.maximum(mu, min_mu))
    root = np.sqrt(w)[:, None] * design
    hat = np.diag(root @ np.linalg.inv((design.T * w) @ design + RIDGE * np.eye(2)) @ root.T)
    robust = robust_dispersion(CONTROL, PERTURBED)
    expected = (y - mu) ** 2 / (mu + robust * mu**2) / 2 * hat / (1 - hat) ** 2
    found = cooks_distances(CONTROL, PERTURBED, intercept, change, alpha, min_mu)
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-11)


def test_the_robust_dispersion_takes_the_larger_trimmed_variance() -> None:
    q = [arm.counts / arm.size_factors for arm in (CONTROL, PERTURBED)]
    variances = [
        1.51 * trim_mean((q[0] - trim_mean(q[0], 1 / 8)) ** 2, 1 / 8),
        1.86 * trim_mean((q[1] - trim_mean(q[1], 1 / 4)) ** 2, 1 / 4),
    ]
    mean = np.concatenate(q).mean()
    expected = max((max(variances) - mean) / mean**2, 0.04)
    assert robust_dispersion(CONTROL, PERTURBED) == pytest.approx(expected, rel=1e-12)


def test_one_huge_count_hardly_raises_the_robust_dispersion() -> None:
    before, after = (robust_dispersion(CONTROL, arm) for arm in (PERTURBED, SPIKED))
    q = SPIKED.counts / SPIKED.size_factors
    assert after < 1 < (q.var() - q.mean()) / q.mean() ** 2
    assert before < 1


def test_the_cutoff_is_the_99th_percentile_of_f() -> None:
    assert cutoff(40) == pytest.approx(f.ppf(0.99, 2, 38), rel=1e-10)


def test_an_outlying_count_becomes_the_typical_count_of_its_depth() -> None:
    distances = cooks_distances(CONTROL, SPIKED, 1.1, 2.6, 0.1)
    control, perturbed, beyond = without_outliers(CONTROL, SPIKED, distances)
    assert beyond
    np.testing.assert_array_equal(control.counts, CONTROL.counts)
    changed = np.flatnonzero(perturbed.counts != SPIKED.counts)
    assert changed.tolist() == [4]
    q = np.concatenate([arm.counts / arm.size_factors for arm in (CONTROL, SPIKED)])
    assert perturbed.counts[4] == int(trim_mean(q, 0.2) * SPIKED.size_factors[4])


def test_a_p_value_is_withheld_when_it_rests_on_one_count() -> None:
    distances = cooks_distances(CONTROL, SPIKED, 1.1, 2.6, 0.1)
    assert is_outlier(CONTROL, SPIKED, distances, refitted=False)
    assert not is_outlier(CONTROL, SPIKED, distances, refitted=True)
    calm = cooks_distances(CONTROL, PERTURBED, 1.1, 0.7, 0.1)
    assert not is_outlier(CONTROL, PERTURBED, calm, refitted=False)


def test_small_arms_are_neither_replaced_nor_judged() -> None:
    pair = Arm.of([2, 900], [1.0, 1.0])
    distances = (np.zeros(30), np.array([0.0, 99.0]))
    _, kept, beyond = without_outliers(CONTROL, pair, distances)
    assert beyond
    np.testing.assert_array_equal(kept.counts, pair.counts)
    assert not is_outlier(CONTROL, pair, distances, refitted=False)


def test_a_count_that_three_others_exceed_is_no_outlier() -> None:
    tall = CONTROL._replace(counts=np.where(np.arange(30) < 3, 500.0, CONTROL.counts))
    distances = (np.zeros(30), np.where(np.arange(10) == 4, 99.0, 0.0))
    assert not is_outlier(tall, SPIKED, distances, refitted=False)
    assert is_outlier(CONTROL, SPIKED, distances, refitted=False)
