"""Welch's test against SciPy, closed forms and exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from reference.welch import log_fold_change, log_student_tail, welch_t

arm = st.lists(st.integers(0, 50), min_size=2, max_size=15)


def exact_parts(x: list[int]) -> tuple[Fraction, Fraction]:
    """Mean, and variance over n, of integers."""
    n = len(x)
    center = Fraction(sum(x), n)
    return center, sum((v - center) ** 2 for v in x) / Fraction((n - 1) * n)


def arms_of_a_gene(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    n0, n1 = rng.integers(3, 300, 2)
    shift, level = rng.uniform(0.1, 3, 2)
    return np.log1p(rng.poisson(level, n0)), np.log1p(rng.poisson(level * shift, n1))


def test_hand_computed_case() -> None:
    # Means 1 and 5, variances 2 and 4: q = 1 and 4/3, nu = (7/3)^2 / (1 + (4/3)^2 / 2) = 49/17.
    t, df, p = welch_t([0, 2], [3, 5, 7])
    assert t == pytest.approx(4 / math.sqrt(7 / 3), rel=1e-15)
    assert df == pytest.approx(49 / 17, rel=1e-15)
    assert p == pytest.approx(2 * stats.t.sf(4 / math.sqrt(7 / 3), 49 / 17), rel=1e-12)


def test_two_degrees_of_freedom_have_a_closed_form() -> None:
    # Two cells each and equal variances: nu = 2 and p = 1 - |t| / sqrt(2 + t^2).
    t, df, p = welch_t([0, 2], [5, 7])
    assert df == pytest.approx(2, rel=1e-15)
    assert p == pytest.approx(1 - t / math.sqrt(2 + t * t), rel=1e-13)


@given(arm, arm)
@settings(deadline=None)
def test_statistic_and_degrees_of_freedom_are_the_exact_fractions(
    control: list[int], perturbed: list[int]
) -> None:
    m0, q0 = exact_parts(control)
    m1, q1 = exact_parts(perturbed)
    assume(q0 + q1 > 0)
    t, df, _ = welch_t(control, perturbed)
    exact_df = (q0 + q1) ** 2 / (q0**2 / (len(control) - 1) + q1**2 / (len(perturbed) - 1))
    # Some ten roundings; the difference of means below 50 may cancel one digit or two.
    assert t == pytest.approx(float(m1 - m0) / math.sqrt(q0 + q1), rel=1e-12, abs=1e-12)
    assert df == pytest.approx(float(exact_df), rel=1e-13)


@pytest.mark.parametrize("seed", range(200))
def test_agrees_with_scipy(seed: int) -> None:
    control, perturbed = arms_of_a_gene(np.random.default_rng(seed))
    t, df, p = welch_t(control, perturbed)
    theirs = stats.ttest_ind(perturbed, control, equal_var=False)
    # Sums are taken in another order; the absolute term is for means that nearly cancel.
    assert t == pytest.approx(theirs.statistic, rel=1e-10, abs=1e-13)
    assert df == pytest.approx(theirs.df, rel=1e-10)
    assert p == pytest.approx(theirs.pvalue, rel=1e-10)


def test_far_tails_agree_with_scipy() -> None:
    rng = np.random.default_rng(0)
    control, perturbed = rng.normal(0, 1, 500), rng.normal(3, 1, 500)
    ours, theirs = welch_t(control, perturbed), stats.ttest_ind(control, perturbed, equal_var=False)
    assert 0 < ours.pvalue < 1e-200
    # A relative error e of t = 47 moves ln p by about t^2 e = 2000 e.
    assert ours.pvalue == pytest.approx(theirs.pvalue, rel=1e-10, abs=0)


@given(st.floats(-300, 300), st.floats(1, 1e5), st.sampled_from(["two-sided", "greater", "less"]))
@settings(deadline=None)
def test_logs_of_tails_are_those_of_scipy(t: float, df: float, alternative: str) -> None:
    low, high = stats.t.logcdf(t, df), stats.t.logsf(t, df)
    both = math.log(2) + min(low, high)
    theirs = {"two-sided": both, "greater": high, "less": low}[alternative]
    assume(theirs > -700)
    # SciPy takes the log of a p that has some 1e-13 of its value in far tails.
    assert log_student_tail(t, df, alternative) == pytest.approx(theirs, rel=1e-11, abs=1e-12)


def test_two_degrees_of_freedom_have_logs_in_closed_form() -> None:
    # p = 1 - t / sqrt(2 + t^2) = 2 / (r (r + t)) with r^2 = 2 + t^2; far out it is 1 / t^2.
    for t in (0.5, 3.0, 1e4):
        r = math.sqrt(2 + t * t)
        assert log_student_tail(t, 2) == pytest.approx(math.log(2 / (r * (r + t))), rel=1e-12)
    assert log_student_tail(1e200, 2) == pytest.approx(-400 * math.log(10), rel=1e-13)


def test_logs_of_tails_approach_those_of_the_normal_distribution() -> None:
    expected = math.log(2) + stats.norm.logsf(60)
    # t^4 / (4 df) = 3e-6 of p at df 1e12.
    assert log_student_tail(60, 1e12) == pytest.approx(expected, abs=1e-5)
    assert expected < -1800


@given(arm, arm)
@settings(deadline=None)
def test_swapping_the_arms_changes_only_the_sign(control: list[int], perturbed: list[int]) -> None:
    forth, back = welch_t(control, perturbed), welch_t(perturbed, control)
    assume(not math.isnan(forth.statistic))
    assert back == (-forth.statistic, forth.degrees_of_freedom, forth.pvalue)


@given(arm, arm, st.integers(-600, 600))
@settings(deadline=None)
def test_unit_of_the_values_does_not_matter(
    control: list[int], perturbed: list[int], power: int
) -> None:
    # A power of two scales every intermediate exactly unless a square leaves the range of doubles.
    assume(abs(power) < 400)
    scale = 2.0**power
    scaled = welch_t([v * scale for v in control], [v * scale for v in perturbed])
    assert str(scaled) == str(welch_t(control, perturbed))


def test_tiny_variances_keep_their_degrees_of_freedom() -> None:
    # The squares of q = 1e-200 are 0 in float64.
    plain = welch_t([0, 2], [3, 5, 7])
    tiny = welch_t(np.array([0, 2]) * 1e-100, np.array([3, 5, 7]) * 1e-100)
    assert tiny.degrees_of_freedom == pytest.approx(plain.degrees_of_freedom, rel=1e-14)


@pytest.mark.parametrize(
    ("control", "perturbed"),
    [([], [1, 2]), ([1, 2], []), ([1], [1, 2]), ([1, 2], [1]), ([0, 0], [0, 0]), ([1, 1], [2, 2])],
)
def test_without_two_cells_or_variation_there_is_no_test(control, perturbed) -> None:
    assert all(map(math.isnan, welch_t(control, perturbed)))


def test_equal_values_in_both_arms_give_no_spurious_statistic() -> None:
    # Their rounded means differ in the last digit.
    assert math.isnan(welch_t(np.full(3, 0.1), np.full(5, 0.1)).statistic)


def test_one_silent_arm_is_tested_on_the_variance_of_the_other() -> None:
    control = [0, 1, 2, 3]
    t, df, _ = welch_t(control, [0] * 10)
    assert t == pytest.approx(-1.5 / math.sqrt((5 / 3) / 4), rel=1e-15)
    assert df == 3


def test_fold_change_closed_forms() -> None:
    assert log_fold_change(0, 0) == 0
    assert log_fold_change(1.3, 1.3) == 0
    # Means ln 2 and ln 5 are counts of 1 and 4; the offset of 1e-9 moves the ratio by 1e-9.
    assert log_fold_change(math.log(2), math.log(5)) == pytest.approx(2, abs=2e-9)
    assert log_fold_change(0, math.log(2)) == pytest.approx(math.log2(1e9), abs=1e-8)
    assert log_fold_change(math.log(2), 0) == pytest.approx(-math.log2(1e9), abs=1e-8)


@given(st.floats(0, 20), st.floats(0, 20))
@settings(deadline=None)
def test_fold_change_has_the_sign_of_the_difference(m0: float, m1: float) -> None:
    lfc = log_fold_change(m0, m1)
    assert (lfc >= 0) if m1 >= m0 else (lfc <= 0)
    # Two logarithms of the same two numbers, their ratio inverted.
    assert log_fold_change(m1, m0) == pytest.approx(-lfc, rel=1e-12, abs=1e-15)


def test_fold_change_without_a_value_is_nan() -> None:
    # exp(800) leaves the range of doubles: counts were given where log1p was meant.
    assert math.isnan(log_fold_change(800, 900))
    assert math.isnan(log_fold_change(1, -1))
