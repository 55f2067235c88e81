"""The rank-sum test against SciPy, exact rational arithmetic and the engine's closed forms."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reference.rank_sum import rank_sum, tie_term, twice_midranks

# Few distinct values, zeros in plenty, negative ones: every kind of tie.
tied_arm = st.lists(st.sampled_from([-1.5, -0.0, 0.0, 0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=12)
any_arm = st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=12)
expression_arm = st.lists(st.sampled_from([0, 0, 0, 1, 2, 3, 5]), min_size=1, max_size=15)


def exact_u(control: list[float], perturbed: list[float]) -> Fraction:
    """U by counting pairs."""
    return sum(
        (Fraction(1) if x > y else Fraction(1, 2) if x == y else Fraction(0))
        for x in perturbed
        for y in control
    )


def exact_ties(pool: list[float]) -> int:
    return sum(t**3 - t for t in Counter(pool).values())


def exact_z_squared(control: list[float], perturbed: list[float]) -> Fraction:
    n0, n1 = len(control), len(perturbed)
    n = n0 + n1
    ties = exact_ties(control + perturbed)
    if ties == n**3 - n:
        return Fraction(0)
    factor = 1 - Fraction(ties, n**3 - n)
    sigma2 = Fraction(n0 * n1 * (n + 1), 12) * factor
    return (exact_u(control, perturbed) - Fraction(n0 * n1, 2)) ** 2 / sigma2


def arms_of_a_gene(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    n0, n1 = rng.integers(20, 600, 2)
    depth0, depth1 = rng.uniform(0.5, 2, n0), rng.uniform(0.5, 2, n1)
    shift, level = rng.uniform(0.3, 2.5), rng.uniform(0.1, 3)
    return (
        np.log1p(rng.poisson(level * depth0) / depth0),
        np.log1p(rng.poisson(level * shift * depth1) / depth1),
    )


@pytest.mark.parametrize("arm", [tied_arm, any_arm], ids=["tied", "any"])
def test_u_and_z_are_the_exact_rationals(arm) -> None:
    @given(arm, arm)
    @settings(deadline=None, max_examples=300)
    def check(control: list[float], perturbed: list[float]) -> None:
        result = rank_sum(control, perturbed)
        u, z2 = exact_u(control, perturbed), exact_z_squared(control, perturbed)
        assert Fraction(result.u) == u
        # z has three roundings (variance, root, quotient), its square six half units at most.
        assert abs(Fraction(result.z) ** 2 - z2) <= z2 * Fraction(3, 2**52)
        assert np.sign(result.z) == np.sign(float(u - Fraction(len(control) * len(perturbed), 2)))

    check()


@given(tied_arm, tied_arm)
@settings(deadline=None)
def test_effect_is_the_share_of_pairs_won_minus_one_half(control, perturbed) -> None:
    pairs = len(control) * len(perturbed)
    exact = exact_u(control, perturbed) / pairs - Fraction(1, 2)
    # One rounded quotient of at most 1.
    assert abs(Fraction(rank_sum(control, perturbed).effect_size) - exact) <= Fraction(1, 2**53)


@pytest.mark.parametrize("seed", range(200))
def test_agrees_with_scipy(seed: int) -> None:
    control, perturbed = arms_of_a_gene(np.random.default_rng(seed))
    ours = rank_sum(control, perturbed)
    theirs = stats.mannwhitneyu(
        perturbed, control, alternative="two-sided", method="asymptotic", use_continuity=False
    )
    assert ours.u == theirs.statistic
    # SciPy's variance and normal tail round differently; z^2 amplifies the error of z in p.
    assert ours.pvalue == pytest.approx(theirs.pvalue, rel=1e-12, abs=0)


@pytest.mark.parametrize("seed", range(20))
def test_without_tie_correction_the_variance_is_that_of_distinct_values(seed: int) -> None:
    control, perturbed = arms_of_a_gene(np.random.default_rng(seed))
    n0, n1 = len(control), len(perturbed)
    result = rank_sum(control, perturbed, tie_correct=False)
    expected = (result.u - n0 * n1 / 2) / math.sqrt(n0 * n1 * (n0 + n1 + 1) / 12)
    assert result.z == pytest.approx(expected, rel=1e-14)
    assert abs(result.z) < abs(rank_sum(control, perturbed).z)


@given(any_arm, any_arm)
@settings(deadline=None)
def test_only_the_order_of_the_values_matters(control, perturbed) -> None:
    level = {value: index for index, value in enumerate(sorted({*control, *perturbed}))}
    assert rank_sum([level[v] for v in control], [level[v] for v in perturbed]) == rank_sum(
        control, perturbed
    )


@given(tied_arm, tied_arm)
@settings(deadline=None)
def test_swapping_the_arms_negates_z(control, perturbed) -> None:
    forth, back = rank_sum(control, perturbed), rank_sum(perturbed, control)
    assert (back.z, back.pvalue) == (-forth.z, forth.pvalue)
    assert forth.u + back.u == len(control) * len(perturbed)


@given(tied_arm, tied_arm)
@settings(deadline=None)
def test_negating_the_values_negates_z(control, perturbed) -> None:
    forth, back = rank_sum(control, perturbed), rank_sum(np.negative(control), -np.array(perturbed))
    assert (back.z, back.pvalue) == (-forth.z, forth.pvalue)


@given(tied_arm, tied_arm, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_order_of_the_cells_does_not_matter(control, perturbed, random) -> None:
    shuffled = random.sample(control, len(control)), random.sample(perturbed, len(perturbed))
    assert rank_sum(*shuffled) == rank_sum(control, perturbed)


@given(tied_arm)
@settings(deadline=None)
def test_midranks_and_tie_term_follow_their_definitions(pool: list[float]) -> None:
    ordered = np.sort(np.array(pool))
    assert (
        twice_midranks(ordered, np.array(pool)).tolist()
        == (2 * stats.rankdata(pool, method="average")).tolist()
    )
    assert tie_term(ordered) == exact_ties(pool)


@pytest.mark.parametrize("tie_correct", [True, False])
@pytest.mark.parametrize("value", [0.0, 0.1, -3.0])
def test_equal_values_give_z_zero_and_p_one(value: float, tie_correct: bool) -> None:
    result = rank_sum([value] * 4, [value] * 3, tie_correct)
    assert result == (6.0, 0.0, 1.0, 0.0)


@pytest.mark.parametrize(("control", "perturbed"), [([], [1.0]), ([1.0], []), ([], [])])
def test_empty_arm_gives_nan(control: list[float], perturbed: list[float]) -> None:
    assert all(map(math.isnan, rank_sum(control, perturbed)))


def test_one_cell_against_one() -> None:
    # N = 2: U is 0 or 1, its variance 1/4, z = +-1.
    assert rank_sum([0.0], [1.0])[:2] == (1.0, 1.0)
    assert rank_sum([1.0], [0.0])[:2] == (0.0, -1.0)


def test_separated_arms_reach_the_ends_of_the_scale() -> None:
    low, high = [0.0, 0.0, 1.0], [2.0, 3.0]
    assert rank_sum(low, high).effect_size == 0.5
    assert rank_sum(high, low).effect_size == -0.5


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_value_without_a_rank_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="perturbed cell 1 has value"):
        rank_sum([0.0, 1.0], [0.0, value])


def test_tie_term_beyond_64_bits_is_exact() -> None:
    # 2,200,000 cells: N^3 is above 2^63, where a 64-bit tie term would wrap around.
    n0, n1, positive0, positive1 = 2_000_000, 200_000, 300_000, 40_000
    control, perturbed = np.zeros(n0), np.zeros(n1)
    control[:positive0] = perturbed[:positive1] = 1.0
    n, positive = n0 + n1, positive0 + positive1
    assert n**3 > 2**63
    # With two values 2 U - n0 n1 = N k - a n1 for k perturbed cells among the a at the upper value:
    # hypergeometric, so that sigma^2 = n0 n1 a (N - a) / (4 (N - 1)).
    twice_shift = n * positive1 - positive * n1
    sigma2 = Fraction(n0 * n1 * positive * (n - positive), 4 * (n - 1))
    z2 = Fraction(twice_shift, 2) ** 2 / sigma2
    result = rank_sum(control, perturbed)
    assert abs(Fraction(result.z) ** 2 - z2) <= z2 * Fraction(3, 2**52)


def engine_u_and_ties(control: list[int], perturbed: list[int]) -> tuple[int, int]:
    """Twice U and T from the non-zero values alone, as docs/methods/rank_sum.md derives them."""
    nonzero = Counter(v for v in control if v)
    zeros0, zeros1 = control.count(0), perturbed.count(0)
    twice_u = zeros1 * zeros0
    ties = sum(t**3 - t for t in nonzero.values()) + (zeros0 + zeros1) ** 3 - (zeros0 + zeros1)
    seen: Counter[int] = Counter()
    for x in perturbed:
        if x:
            equal = nonzero[x]
            below = sum(count for value, count in nonzero.items() if value < x)
            twice_u += 2 * zeros0 + 2 * below + equal
            t = equal + seen[x]
            ties += 3 * t * (t + 1)
            seen[x] += 1
    return twice_u, ties


@given(expression_arm, expression_arm)
@settings(deadline=None, max_examples=300)
def test_u_and_ties_follow_from_the_non_zero_values_alone(control, perturbed) -> None:
    twice_u, ties = engine_u_and_ties(control, perturbed)
    assert twice_u == 2 * rank_sum(control, perturbed).u
    assert ties == tie_term(np.sort(np.array(control + perturbed, dtype=float)))


def test_six_cells_of_the_readme() -> None:
    result = rank_sum([0, 0, 1.5], [0, 1.5, 2])
    assert result.u == 6.5
    assert result.effect_size == pytest.approx(2 / 9, rel=1e-15)
    assert result.z == pytest.approx(2 * math.sqrt(2) / 3, rel=1e-15)
    assert result.pvalue == pytest.approx(math.erfc(2 / 3), rel=1e-15)
    # Twice the values, so that the engine's walk runs on integers.
    assert engine_u_and_ties([0, 0, 3], [0, 3, 4]) == (13, 30)
