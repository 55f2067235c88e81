"""Compiled Welch tests and fold changes against the reference and SciPy."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import grouped, membership_of
from scipy import stats
from strategies import Design, cases, designs

from crispyx._stats.moments import comparison_arms
from crispyx._stats.welch import log_fold_changes, welch_tests

EPS = np.finfo(float).eps


def both_engines(values: np.ndarray, design: Design):
    """Yield arms, t, p and fold changes by the compiled and by the reference engine."""
    block = design.block(values)
    for engine in ("compiled", "reference"):
        arms = comparison_arms(block, engine)
        yield arms, *welch_tests(block, *arms, engine), log_fold_changes(*arms, engine)


def partition(label: Iterable[int], n_groups: int) -> Design:
    return Design([[int(k)] for k in label], n_groups)


@given(cases())
def test_t_and_p_agree_with_the_reference(case) -> None:
    values, design = case
    (_, t, p, _), (arms, exact_t, exact_p, _) = both_engines(values, design)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(sum(arm.variance / arm.n_cells for arm in arms))
    # Means are off by one rounding of the largest value for each addition. Where the standard error
    # is as small as that (2^53 - 1 beside 2^53) float64 cannot tell t.
    rounding = len(values) * EPS * np.abs(values).max(axis=0)
    known = ~(error < 1e7 * rounding) | (error == 0) & (design.pool is None)
    np.testing.assert_array_equal(np.isnan(t)[known], np.isnan(exact_t)[known])
    known &= np.isfinite(exact_t)
    bound = 1e-6 * np.abs(exact_t) * error + 4 * rounding
    assert np.all((np.abs(t - exact_t) * error)[known] <= bound[known])
    # d ln p is at most (df + 1) d ln t with df < 24, and an absolute error near t = 0.
    np.testing.assert_allclose(p[known], exact_p[known], rtol=3e-5, atol=1e-6)


@given(designs(), st.data())
def test_ordinary_values_agree_to_the_last_digits(design: Design, data) -> None:
    ordinary = st.sampled_from([0, 0, 0] + [float(np.log1p(x)) for x in range(1, 9)])
    n_cells = len(design.groups)
    column = data.draw(st.lists(ordinary, min_size=n_cells, max_size=n_cells))
    values = np.array([column], dtype=float).T
    (_, t, p, change), (_, exact_t, exact_p, exact_change) = both_engines(values, design)
    # 24 additions of values below 2.3 and a standard error above 0.01; 1e-12 where the means meet.
    np.testing.assert_allclose(t, exact_t, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(p, exact_p, rtol=3e-11)
    np.testing.assert_allclose(change, exact_change, rtol=1e-12, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_t_and_p_agree_with_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.log1p(rng.poisson(rng.gamma(1, 1, 20), (3000, 20)) * rng.uniform(0.5, 2, (3000, 1)))
    label = rng.choice(3, 3000, p=[0.6, 0.39, 0.01])
    values[label == 1] *= 1.3
    (_, t, p, _), _ = both_engines(values, partition(label, 3))
    for k in (1, 2):
        theirs = stats.ttest_ind(values[label == k], values[label == 0], equal_var=False)
        # The absolute term is for means that nearly meet.
        np.testing.assert_allclose(t[k - 1], theirs.statistic, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(p[k - 1], theirs.pvalue, rtol=1e-10)


@pytest.mark.parametrize("engine", ["compiled", "reference"])
@pytest.mark.parametrize(
    ("control", "perturbed"), [([1, 1], [2, 2]), ([0, 0], [0, 0]), ([1], [1, 2]), ([], [1, 2])]
)
def test_without_two_cells_or_variation_there_is_no_t(control, perturbed, engine) -> None:
    groups = [[0]] * len(control) + [[1]] * len(perturbed)
    block = grouped(np.array([[*control, *perturbed]], dtype=float).T, membership_of(groups, 2))
    assert np.isnan(welch_tests(block, *comparison_arms(block, engine), engine)).all()


def test_tiny_variances_keep_their_degrees_of_freedom() -> None:
    # The squares of variances of 1e-200 are 0 in float64.
    values = np.array([[0.0, 2, 3, 5, 7]]).T
    design = partition([0, 0, 1, 1, 1], 2)
    (_, _, plain, _), _ = both_engines(values, design)
    (_, _, tiny, _), _ = both_engines(values * 1e-100, design)
    np.testing.assert_allclose(tiny, plain, rtol=1e-13)


def test_far_tails_do_not_vanish() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1, 500), rng.normal(3, 1, 500)])[:, None]
    (_, _, p, _), _ = both_engines(values, partition(np.arange(1000) // 500, 2))
    expected = stats.ttest_ind(values[500:, 0], values[:500, 0], equal_var=False)
    assert 0 < p[0, 0] < 1e-200
    # A relative error e of t = 47 moves ln p by about t^2 e = 2000 e.
    assert p[0, 0] == pytest.approx(expected.pvalue, rel=1e-10)


def test_fold_change_is_scanpys() -> None:
    # log2((expm1(mean) + 1e-9) / (expm1(mean) + 1e-9)): means ln 2 and ln 5 are counts 1 and 4.
    values = np.array([[np.log(2), np.log(2), np.log(5), np.log(5), 0, 0]]).T
    (_, _, _, change), _ = both_engines(values, partition(np.arange(6) // 2, 3))
    assert change[0, 0] == pytest.approx(2, abs=2e-9)
    assert change[1, 0] == pytest.approx(-np.log2(1e9), abs=1e-8)
