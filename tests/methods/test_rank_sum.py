"""Compiled rank sums against the reference, SciPy and exact integers."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import grouped, membership_of
from scipy import stats
from strategies import Design, cases

from crispyx._kernels import rank_sum as kernel
from crispyx._kernels.layout import GroupedGenes
from crispyx._stats import rank_sum as compiled
from crispyx._stats.rank_sum import rank_sum_statistics, rank_sum_tests
from reference.rank_sum import rank_sum


@given(cases(), st.booleans())
def test_u_z_and_p_are_the_references_for_the_cells_of_both_arms(case, tie_correct: bool) -> None:
    values, design = case
    tables = rank_sum_tests(design.block(values), tie_correct, "compiled", 2)
    for k, g in np.ndindex(tables[0].shape):
        u, z, p = (table[k, g] for table in tables)
        control, perturbed = values[design.control_of(k + 1), g], values[design.cells(k + 1), g]
        expected = rank_sum(control, perturbed, tie_correct)
        np.testing.assert_equal(u, expected.u)
        # The variance takes five roundings, its root and the quotient one each.
        np.testing.assert_allclose(z, expected.z, rtol=1e-15)
        # d ln p = z dz, and |z| stays below 5 for 24 cells.
        np.testing.assert_allclose(p, expected.pvalue, rtol=3e-14)


@given(cases(), st.booleans())
def test_statistics_are_the_references(case, tie_correct: bool) -> None:
    values, design = case
    block = design.block(values)
    excess, variance = rank_sum_statistics(block, tie_correct, "compiled", 2)
    expected, its_variance = rank_sum_statistics(block, tie_correct, "reference")
    np.testing.assert_array_equal(excess, expected)
    # Three products and a quotient are rounded, where the reference rounds once.
    np.testing.assert_allclose(variance, its_variance, rtol=1e-15)


PATHS = range(kernel.best_path() + 1)


@st.composite
def runs(draw: Any) -> GroupedGenes:
    """Draw float32 runs of any length up to 200, with ties within and between them."""
    seed, n_groups = draw(st.integers(0, 2**32 - 1)), draw(st.integers(2, 8))
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, draw(st.sampled_from([3, 20, 70, 200])), (3, n_groups))
    n_levels = draw(st.sampled_from([1, 3, 40, 3000]))
    levels = draw(
        st.sampled_from(
            [
                np.arange(1, n_levels + 1),
                np.log1p(rng.uniform(0, 30, n_levels)),
                np.concatenate([np.full(1, 1e30), rng.uniform(1, 1.001, n_levels)]),
                np.concatenate([[-3e38, 3e38], rng.normal(size=n_levels)]),
            ]
        )
    ).astype(np.float32)
    values = levels[levels != 0][rng.integers(0, np.count_nonzero(levels), sizes.sum())]
    run_ptr = np.zeros((3, n_groups + 1), dtype=np.int64)
    run_ptr[:, 1:] = np.cumsum(sizes).reshape(sizes.shape)
    run_ptr[1:, 0] = run_ptr[:-1, -1]
    return GroupedGenes(0, 3, values, run_ptr, sizes.max(axis=0).astype(np.int64) + 5)


@pytest.mark.parametrize("path", PATHS)
def test_every_set_of_loops_gives_the_integers_of_the_definition(
    path: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "PATH", path)

    @given(runs(), st.booleans())
    def check(block: GroupedGenes, tie_correct: bool) -> None:
        excess, variance = rank_sum_statistics(block, tie_correct, "compiled", 2)
        expected, its_variance = rank_sum_statistics(block, tie_correct, "reference")
        np.testing.assert_array_equal(excess, expected)
        np.testing.assert_allclose(variance, its_variance, rtol=1e-15)

    check()


@given(runs(), st.booleans())
def test_sets_of_loops_and_float64_give_the_same_bits(block: GroupedGenes, tie_correct) -> None:
    wide = replace(block, values=block.values.astype(np.float64))
    expected = rank_sum_statistics(wide, tie_correct, "compiled")
    for path in PATHS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(compiled, "PATH", path)
            found = rank_sum_statistics(block, tie_correct, "compiled")
        assert [table.tobytes() for table in found] == [table.tobytes() for table in expected]


@pytest.mark.parametrize("path", PATHS)
def test_thousands_of_ties_are_exact(path: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # 50,000 equal values leave the range in which t (t + 1) is taken in 32 bits.
    monkeypatch.setattr(compiled, "PATH", path)
    values = np.ones(50_040, dtype=np.float32)
    runs = np.array([[0, 50_000, 50_040]], dtype=np.int64)
    block = GroupedGenes(0, 1, values, runs, np.array([50_007, 45], dtype=np.int64))
    excess, variance = rank_sum_statistics(block, True, "compiled")
    n0, n1, ones, zeros = 50_007, 45, 50_040, 12
    n = n0 + n1
    assert excess[0, 0] == 40 * (2 * 7 + 50_000) + 5 * 7 - n0 * n1
    exact = Fraction(n0 * n1 * (n**3 - n - (ones**3 - ones) - (zeros**3 - zeros)), 12 * n * (n - 1))
    assert variance[0, 0] == pytest.approx(float(exact), rel=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_distinct", [1, 20, 3_000, 10**6])
@pytest.mark.parametrize("n_shared", [0, 40])
def test_ties_of_a_long_run_that_the_control_does_not_hold_are_exact(
    dtype: type, n_distinct: int, n_shared: int
) -> None:
    # Few of a million values are drawn twice, all of twenty very often; some are the control's.
    rng = np.random.default_rng(n_distinct + n_shared)
    control = (rng.permutation(400) - 500).astype(dtype)
    group = (1 + rng.integers(0, n_distinct, 2_500)).astype(dtype)
    group[rng.permutation(2_500)[:n_shared]] = control[:n_shared]
    block = all_zero_but(control.tolist(), 410, group.tolist(), 2_600)
    block = replace(block, values=block.values.astype(dtype))
    _, variance = rank_sum_statistics(block, True, "compiled")
    n0, n1, n = 410, 2_600, 3_010
    tied = Counter(np.concatenate([control, group]).tolist()) | Counter({0.0: 110})
    ties = sum(t**3 - t for t in tied.values())
    exact = Fraction(n0 * n1 * (n**3 - n - ties), 12 * n * (n - 1))
    assert variance[0, 0] == pytest.approx(float(exact), rel=1e-15)


@given(cases(), st.booleans())
def test_reference_engine_is_the_reference(case, tie_correct: bool) -> None:
    values, design = case
    tables = rank_sum_tests(design.block(values), tie_correct, "reference")
    for k, g in np.ndindex(tables[0].shape):
        control, perturbed = values[design.control_of(k + 1), g], values[design.cells(k + 1), g]
        expected = rank_sum(control, perturbed, tie_correct)
        np.testing.assert_equal(tuple(table[k, g] for table in tables), expected[:3])


@given(cases())
def test_only_the_order_of_the_values_matters(case) -> None:
    values, design = case
    level = np.array([np.unique(column, return_inverse=True)[1] for column in values.T]).T
    expected = rank_sum_tests(design.block(values), True, "compiled")
    for shift in (0, -2):  # zero becomes another value, and another value zero
        moved = rank_sum_tests(design.block(level + float(shift)), True, "compiled")
        np.testing.assert_array_equal(moved, expected)


@pytest.mark.parametrize("seed", range(5))
def test_long_runs_agree_with_scipy(seed: int) -> None:
    # Thousands of values with and without ties take the merge sort and the galloping search.
    rng = np.random.default_rng(seed)
    values = np.column_stack(
        [rng.normal(size=5000), rng.poisson(3, 5000), rng.exponential(size=5000).round(1) - 1]
    )
    label = rng.choice(3, 5000, p=[0.6, 0.35, 0.05])
    pooled = bool(seed % 2)
    groups = [[k] if k or not pooled else [] for k in label]
    design = Design(groups, 3, [True] * 5000 if pooled else None)
    u, _, p = rank_sum_tests(design.block(values), True, "compiled")
    for k in (1, 2):
        control = values[label != k] if pooled else values[label == 0]
        theirs = stats.mannwhitneyu(
            values[label == k], control, method="asymptotic", use_continuity=False
        )
        np.testing.assert_array_equal(u[k - 1], theirs.statistic)
        np.testing.assert_allclose(p[k - 1], theirs.pvalue, rtol=1e-12)


def all_zero_but(control: list[float], n0: int, group: list[float], n1: int) -> GroupedGenes:
    """Return one gene of n0 and n1 cells: zeros take no room, so that n may be of any size."""
    values = np.array(control + group, dtype=np.float64)
    runs = np.array([[0, len(control), len(values)]], dtype=np.int64)
    return GroupedGenes(0, 1, values, runs, np.array([n0, n1], dtype=np.int64))


@pytest.mark.parametrize("tie_correct", [True, False])
@pytest.mark.parametrize(("n0", "n1"), [(2_000_000, 300_000), (40_000_000, 3), (7, 90_000_000)])
def test_tie_terms_beyond_64_bits_are_exact(n0: int, n1: int, tie_correct: bool) -> None:
    block = all_zero_but([1.0, 2.0, 2.0], n0, [0.5, 2.0], n1)
    u, z, p = (table[0, 0] for table in rank_sum_tests(block, tie_correct, "compiled"))
    n, z0, z1 = n0 + n1, n0 - 3, n1 - 2
    assert n**3 > 2**63
    # Zeros tie with the control's zeros; 0.5 beats these; 2 beats them and 1 and ties with two.
    twice_u = z1 * z0 + 2 * z0 + (2 * (z0 + 1) + 2)
    ties = (z0 + z1) ** 3 - (z0 + z1) + (3**3 - 3) if tie_correct else 0
    variance = Fraction(n0 * n1 * (n**3 - n - ties), 12 * n * (n - 1))
    expected = (twice_u - n0 * n1) / 2 / math.sqrt(variance)
    assert u == twice_u / 2
    assert z == pytest.approx(expected, rel=2e-15)
    assert p == pytest.approx(math.erfc(abs(expected) / math.sqrt(2)), rel=1e-13)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.0])
@pytest.mark.parametrize("tie_correct", [True, False])
@pytest.mark.parametrize("pooled", [True, False])
def test_equal_values_have_z_zero_and_p_one(value: float, tie_correct: bool, pooled: bool) -> None:
    groups = [[] if pooled else [0]] * 4 + [[1]] * 2
    block = Design(groups, 2, [True] * 6 if pooled else None).block(np.full((6, 1), value))
    u, z, p = rank_sum_tests(block, tie_correct, "compiled")
    assert (u[0, 0], z[0, 0], p[0, 0]) == (4, 0, 1)


def test_empty_arm_has_no_test() -> None:
    block = grouped(np.array([[1.0], [2.0]]), membership_of([[1], [1]], 3))
    assert np.isnan(rank_sum_tests(block, True, "compiled")).all()


def test_group_of_all_cells_has_no_rest_to_be_compared_with() -> None:
    block = Design([[1], [1]], 2, [True, True]).block(np.array([[1.0], [2.0]]))
    assert np.isnan(rank_sum_tests(block, True, "compiled")).all()


def test_cell_of_both_arms_counts_in_both() -> None:
    block = grouped(np.array([[1.0], [0.0], [3.0]]), membership_of([[0, 1], [0], [1]], 2))
    u, _, _ = rank_sum_tests(block, True, "compiled")
    # Pairs of {1, 3} with {1, 0}: one tie, three won.
    assert u[0, 0] == 3.5


@given(cases())
def test_number_of_threads_changes_no_bit(case) -> None:
    values, design = case
    one, three = (rank_sum_tests(design.block(values, n), True, "compiled", n) for n in (1, 3))
    assert [table.tobytes() for table in one] == [table.tobytes() for table in three]
