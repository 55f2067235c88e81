"""Van Elteren's test against its definition in ranks, exact arithmetic and simulation."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from reference.rank_sum import rank_sum
from reference.van_elteren import ALTERNATIVES, normal_tail, van_elteren

COUNTS = st.lists(st.sampled_from([0.0, 0.0, 0.0, 1.0, 1.0, 2.0, 5.0]), max_size=7)


def by_definition(batches: list[tuple[list[float], list[float]]]) -> float:
    """Return z from midranks by pandas: weights, ranks and variances of ranks with fractions."""
    excess, variance = Fraction(0), Fraction(0)
    for control, perturbed in batches:
        n0, n1 = len(control), len(perturbed)
        if n0 == 0 or n1 == 0:
            continue
        weight = Fraction(1, n0 + n1 + 1)
        ranks = [Fraction(r) for r in pd.Series([*control, *perturbed]).rank(method="average")]
        center = Fraction(n0 + n1 + 1, 2)
        excess += weight * (sum(ranks[n0:]) - n1 * center)
        # Of a sum of n1 ranks drawn without replacement from those of the pool.
        spread = sum((r - center) ** 2 for r in ranks)
        variance += weight**2 * spread * n0 * n1 / ((n0 + n1) * (n0 + n1 - 1))
    return float(excess) / math.sqrt(variance) if variance else 0.0


@given(st.lists(st.tuples(COUNTS, COUNTS), min_size=1, max_size=4))
def test_z_is_the_weighted_rank_sum_over_the_root_of_its_variance(batches) -> None:
    found = van_elteren(batches)
    if not any(control and perturbed for control, perturbed in batches):
        assert math.isnan(found.z)
        assert math.isnan(found.pvalue)
        return
    # A handful of roundings of each batch, larger than z itself where batches cancel.
    np.testing.assert_allclose(found.z, by_definition(batches), rtol=1e-13, atol=1e-14)


@given(COUNTS, COUNTS, st.booleans())
def test_one_batch_is_the_rank_sum_test_to_the_last_bit(control, perturbed, tie_correct) -> None:
    found = van_elteren([(control, perturbed)], tie_correct)
    np.testing.assert_array_equal(found, rank_sum(control, perturbed, tie_correct))


@given(st.tuples(COUNTS, COUNTS), COUNTS)
def test_batches_without_one_of_the_arms_say_nothing(batch, lonely) -> None:
    found = van_elteren([batch, (lonely, []), ([], lonely)])
    np.testing.assert_array_equal(found, van_elteren([batch]))


@given(st.lists(st.tuples(COUNTS, COUNTS), min_size=1, max_size=4))
def test_swapping_the_arms_turns_the_sign(batches) -> None:
    forth = van_elteren(batches, alternative="greater")
    back = van_elteren([(p, c) for c, p in batches], alternative="less")
    # U is rounded once on each side.
    np.testing.assert_allclose(back.z, -forth.z, rtol=1e-13)
    np.testing.assert_allclose(back.effect_size, -forth.effect_size, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(back.pvalue, forth.pvalue, rtol=1e-12)


def test_shift_between_batches_hides_an_effect_from_the_plain_test_only() -> None:
    rng = np.random.default_rng(0)
    # The perturbed cells are mostly in the batch of low values, and a little higher within each.
    batches = [
        (rng.normal(0, 1, 30), rng.normal(0.8, 1, 90)),
        (rng.normal(5, 1, 90), rng.normal(5.8, 1, 30)),
    ]
    plain = rank_sum(*(np.concatenate(arm) for arm in zip(*batches, strict=True)))
    found = van_elteren(batches)
    assert plain.z < -3
    assert found.z > 5


def test_p_is_uniform_without_an_effect_whatever_the_batches() -> None:
    rng = np.random.default_rng(1)
    pvalues = []
    for _ in range(400):
        shifts = rng.normal(0, 3, 3)
        sizes = [(40, 5), (10, 20), (25, 25)]
        batches = [
            (rng.poisson(np.exp(s / 3), n0), rng.poisson(np.exp(s / 3), n1))
            for s, (n0, n1) in zip(shifts, sizes, strict=True)
        ]
        pvalues.append(van_elteren(batches).pvalue)
    assert stats.kstest(pvalues, "uniform").pvalue > 0.01


@pytest.mark.parametrize("z", [-3.0, 0.0, 0.4, 37.0])
def test_tails_are_those_of_the_normal_distribution(z: float) -> None:
    assert normal_tail(z, "greater") == pytest.approx(stats.norm.sf(z), rel=1e-13)
    assert normal_tail(z, "less") == pytest.approx(stats.norm.cdf(z), rel=1e-13)
    assert normal_tail(z) == pytest.approx(2 * stats.norm.sf(abs(z)), rel=1e-13)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_one_sided_tests_are_those_of_scipy(alternative: str) -> None:
    rng = np.random.default_rng(2)
    control, perturbed = rng.poisson(2, 40), rng.poisson(3, 30)
    expected = stats.mannwhitneyu(
        perturbed, control, alternative=alternative, method="asymptotic", use_continuity=False
    )
    found = van_elteren([(control, perturbed)], alternative=alternative)
    assert found.pvalue == pytest.approx(expected.pvalue, rel=1e-12)


def test_unknown_alternative_is_refused() -> None:
    with pytest.raises(ValueError, match="two-sided"):
        van_elteren([([0.0], [1.0])], alternative="both")
