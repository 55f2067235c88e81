"""Moments against exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from reference.moments import fraction_expressing, mean, variance

values = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40)


def exact_mean(x: list[float]) -> Fraction:
    return sum(map(Fraction, x)) / len(x)


def exact_variance(x: list[float]) -> Fraction:
    center = exact_mean(x)
    return sum((Fraction(v) - center) ** 2 for v in x) / (len(x) - 1)


@given(values)
@settings(deadline=None)
def test_mean_is_exact_up_to_two_roundings(x: list[float]) -> None:
    # The sum is rounded once and the division once; below 1e-300 doubles lose digits.
    exact = exact_mean(x)
    assume(exact == 0 or abs(exact) > 1e-300)
    assert abs(Fraction(mean(x)) - exact) <= abs(exact) / 2**52


@given(st.lists(st.integers(0, 5000), min_size=2, max_size=40), st.sampled_from([0, 1e5, 1e8]))
@settings(deadline=None)
def test_variance_survives_values_far_from_zero(counts: list[int], offset: float) -> None:
    x = [count + offset for count in counts]
    exact = exact_variance(x)
    # The rounded mean is off by 1e-16 of its size, which enters squared: (1e8 * 1e-16)^2 = 1e-16.
    assert variance(x) == pytest.approx(float(exact), rel=1e-12, abs=0)


@given(values, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_moments_do_not_depend_on_the_order_of_the_cells(x: list[float], random) -> None:
    shuffled = random.sample(x, len(x))
    assert mean(shuffled) == mean(x)
    assert variance(shuffled) == variance(x)


@given(st.floats(-1e6, 1e6), st.integers(2, 30))
@settings(deadline=None)
def test_equal_values_have_variance_exactly_zero(value: float, n: int) -> None:
    assert variance([value] * n) == 0


def test_rounded_mean_would_give_equal_values_a_variance() -> None:
    x = np.full(3, 0.1)
    assert mean(x) != 0.1
    assert variance(x) == 0


def test_too_few_cells_have_no_moments() -> None:
    assert math.isnan(mean([]))
    assert math.isnan(variance([]))
    assert math.isnan(variance([3.0]))
    assert math.isnan(fraction_expressing([]))
    assert mean([3.0]) == 3.0


def test_variance_divides_by_n_minus_one() -> None:
    assert variance([1, 2, 3, 4]) == 5 / 3


@given(arrays(np.float32, st.integers(1, 40), elements=st.floats(-2, 2, width=32)))
@settings(deadline=None)
def test_only_values_above_zero_are_expression(x: np.ndarray) -> None:
    assert fraction_expressing(x) == sum(v > 0 for v in x.tolist()) / len(x)


def test_stored_and_negative_zeros_are_not_expression() -> None:
    assert fraction_expressing([0.0, -0.0, -1.0, 2.0]) == 0.25
