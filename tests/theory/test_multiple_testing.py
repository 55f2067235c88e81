"""Corrections against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from reference.multiple_testing import (
    benjamini_hochberg,
    bonferroni,
    log_benjamini_hochberg,
    log_bonferroni,
)

pvalue = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.05, 1.0]))
row_with_gaps = st.lists(st.one_of(pvalue, st.just(math.nan)), min_size=1, max_size=25)


def by_definition(p: list[float]) -> list[float]:
    """For each p the smallest m q / (number of p-values up to q) over q at or above p."""
    m = len(p)
    return [min([1.0, *(m * q / sum(r <= q for r in p) for q in p if q >= one)]) for one in p]


@given(st.lists(pvalue, min_size=1, max_size=25))
@settings(deadline=None)
def test_benjamini_hochberg_is_its_definition(p: list[float]) -> None:
    # m / k * p and m * p / k round differently; a denormal p has few digits to round.
    assert_allclose(benjamini_hochberg(p), by_definition(p), rtol=1e-15, atol=1e-300)


def test_benjamini_hochberg_worked_example() -> None:
    # m = 5: raw m p / k = .05, .025, .1, .0625 (k = 4), .6 with the running minimum from the right.
    adjusted = benjamini_hochberg([0.01, 0.01, 0.06, 0.05, 0.6])
    assert_allclose(adjusted, [0.025, 0.025, 0.075, 0.075, 0.6], rtol=1e-15)


@given(st.lists(pvalue, min_size=1, max_size=25), st.floats(0.001, 0.999))
@settings(deadline=None)
def test_cut_at_q_rejects_what_the_step_up_procedure_rejects(p: list[float], q: float) -> None:
    def step_up(level: float) -> int:
        return max(
            (k for k, p_k in enumerate(sorted(p), 1) if p_k <= k / len(p) * level), default=0
        )

    # A p-value that meets k q / m to the last digit may fall on either side.
    rejected = np.count_nonzero(benjamini_hochberg(p) <= q)
    assert step_up(q * (1 - 1e-12)) <= rejected <= step_up(q * (1 + 1e-12))


@pytest.mark.parametrize("correct", [benjamini_hochberg, bonferroni])
def test_tests_not_made_stay_nan_and_do_not_count(correct) -> None:
    @given(row_with_gaps)
    @settings(deadline=None)
    def check(row: list[float]) -> None:
        p = np.array(row)
        made = ~np.isnan(p)
        adjusted = correct(p)
        assert np.isnan(adjusted[~made]).all()
        if made.any():
            assert_array_equal(adjusted[made], correct(p[made]))

    check()


@given(st.lists(pvalue, min_size=1, max_size=25))
@settings(deadline=None)
def test_adjusted_lies_between_p_and_bonferroni(p: list[float]) -> None:
    adjusted = benjamini_hochberg(p)
    # One rounded product and quotient.
    assert np.all(adjusted >= np.array(p) * (1 - 1e-15))
    assert np.all(adjusted <= bonferroni(p) * (1 + 1e-15))
    assert np.all(adjusted <= 1)


@given(st.lists(pvalue, min_size=1, max_size=25))
@settings(deadline=None)
def test_smaller_p_never_gets_the_larger_adjusted_value(p: list[float]) -> None:
    order = np.argsort(p, kind="stable")
    assert np.all(np.diff(benjamini_hochberg(p)[order]) >= 0)


def test_bonferroni_multiplies_by_the_tests_made() -> None:
    assert_array_equal(bonferroni([0.25, math.nan, 0.125, 1.0]), [0.75, math.nan, 0.375, 1.0])


@pytest.mark.parametrize("correct", [benjamini_hochberg, bonferroni])
def test_rows_without_any_test(correct) -> None:
    assert correct([]).shape == (0,)
    assert np.isnan(correct([math.nan, math.nan])).all()


@pytest.mark.parametrize("correct", [benjamini_hochberg, bonferroni])
@pytest.mark.parametrize("value", [-0.1, 1.5, math.inf])
def test_values_that_are_no_probability_are_refused(correct, value: float) -> None:
    with pytest.raises(ValueError, match="p-value 1 is"):
        correct([0.5, value])


@pytest.mark.parametrize("correct", [benjamini_hochberg, bonferroni])
def test_input_is_left_as_it_was(correct) -> None:
    p = np.array([0.01, 0.02, math.nan])
    correct(p)
    assert_array_equal(p, [0.01, 0.02, math.nan])


@pytest.mark.parametrize(
    ("on_logs", "correct"),
    [(log_benjamini_hochberg, benjamini_hochberg), (log_bonferroni, bonferroni)],
)
def test_logs_of_corrections_are_corrections_of_logs(on_logs, correct) -> None:
    normal = st.one_of(st.floats(1e-290, 1), st.just(math.nan))

    @given(st.lists(normal, min_size=1, max_size=25))
    @settings(deadline=None)
    def check(row: list[float]) -> None:
        # A rounding of log p, at most 670, and of p itself.
        assert_allclose(on_logs(np.log(row)), np.log(correct(row)), rtol=1e-15, atol=1e-12)

    check()


def test_corrections_of_logs_go_on_where_p_is_no_number() -> None:
    logs = [-2_000.0, -5_000.0, math.nan, -3_000.0, -0.5, -math.inf]
    m = math.log(5)
    expected = [-2_000 + m - math.log(4), -5_000 + m - math.log(2), math.nan]
    expected += [-3_000 + m - math.log(3), -0.5, -math.inf]
    assert_allclose(log_benjamini_hochberg(logs), expected, rtol=1e-15)
    assert_allclose(log_bonferroni(logs)[[0, 3, 4]], [-2_000 + m, -3_000 + m, 0], rtol=1e-15)
    # An exact check with fractions: powers of 2 are far below the smallest number.
    powers = np.array([-4_000, -4_001, -4_003])
    found = log_benjamini_hochberg(powers * math.log(2)) / math.log(2)
    # 3 / 3 of the largest, 3 / 2 of the next, capped by it: 2^-4000 > 1.5 * 2^-4001, then 3.
    assert_allclose(found, [-4_000, -4_001 + math.log2(1.5), -4_003 + math.log2(3)], rtol=1e-15)


@pytest.mark.parametrize("on_logs", [log_benjamini_hochberg, log_bonferroni])
def test_logs_of_no_probability_are_refused_and_rows_without_tests_stay_so(on_logs) -> None:
    with pytest.raises(ValueError, match="log p-value 1 is"):
        on_logs([-1.0, 0.1])
    assert on_logs([]).shape == (0,)
    assert np.isnan(on_logs([math.nan])).all()
