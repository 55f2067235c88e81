"""Compiled moments against the reference and against NumPy, cells in any number of groups."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from layouts import grouped, membership_of
from strategies import Design, cases

from crispyx._stats.moments import Arm, comparison_arms, group_moments

EPS = np.finfo(float).eps


@given(cases())
def test_groups_hold_the_non_zeros_of_their_cells_in_the_order_of_the_cells(case) -> None:
    values, design = case
    block = design.block(values, n_threads=2)
    for g, k in np.ndindex(values.shape[1], design.n_groups):
        expected = values[design.cells(k), g]
        run = block.values[block.run_ptr[g, k] : block.run_ptr[g, k + 1]]
        assert run.tolist() == expected[expected != 0].tolist()
        assert block.group_sizes[k] == len(expected)


def assert_close(compiled: Arm, reference: Arm, values: np.ndarray) -> None:
    np.testing.assert_array_equal(compiled.n_cells, reference.n_cells)
    np.testing.assert_array_equal(compiled.n_expressing, reference.n_expressing)
    np.testing.assert_array_equal(compiled.fraction_expressing, reference.fraction_expressing)
    np.testing.assert_array_equal(compiled.pts(), np.float32(reference.fraction_expressing))
    np.testing.assert_array_equal(np.isnan(compiled.mean), np.isnan(reference.mean))
    np.testing.assert_array_equal(np.isnan(compiled.variance), np.isnan(reference.variance))
    # n additions in a row, each rounded once, against a sum rounded once.
    n, largest = len(values), np.abs(values).max(axis=0)
    assert np.all(np.nan_to_num(np.abs(compiled.mean - reference.mean)) <= n * EPS * largest)
    # A center that is off by e adds e^2; otherwise n roundings of positive terms, or, when a group
    # is taken out of the pool, of terms as large as the pool's.
    difference = np.nan_to_num(np.abs(compiled.variance - reference.variance))
    scale = np.square(values - values.mean(axis=0)).sum(axis=0)
    assert np.all(difference <= 4 * (n * EPS * largest) ** 2 + 4 * n * EPS * scale)


@given(cases())
def test_moments_of_groups_agree_with_the_reference(case) -> None:
    values, design = case
    block = design.block(values)
    compiled, reference = (group_moments(block, engine) for engine in ("compiled", "reference"))
    assert_close(compiled, reference, values)
    # Where one engine says that a group does not vary the other does: there is no t then.
    np.testing.assert_array_equal(compiled.variance == 0, reference.variance == 0)


@given(cases())
def test_both_arms_are_those_of_the_cells_they_name(case) -> None:
    values, design = case
    arms = comparison_arms(design.block(values), "compiled")
    expected = comparison_arms(design.block(values), "reference")
    for arm, reference in zip(arms, expected, strict=True):
        assert_close(arm, reference, values)
    control = np.broadcast_to(arms[0].n_expressing, arms[1].n_expressing.shape)
    for k, g in np.ndindex(arms[1].mean.shape):
        assert control[k, g] == np.count_nonzero(values[design.control_of(k + 1), g] > 0)
        assert arms[1].n_expressing[k, g] == np.count_nonzero(values[design.cells(k + 1), g] > 0)


@pytest.mark.parametrize("value", [0.1, -0.3, 1e-200, 2.0**53 + 2, 0.0])
@pytest.mark.parametrize("n", [2, 3, 7, 1000])
def test_equal_values_have_variance_zero_exactly(value: float, n: int) -> None:
    block = grouped(np.full((n, 1), value), membership_of([[0]] * n, 2))
    assert group_moments(block, "compiled").variance[0, 0] == 0


@pytest.mark.parametrize("engine", ["compiled", "reference"])
@pytest.mark.parametrize("seed", range(10))
def test_cells_outside_a_group_that_are_all_zero_do_not_vary(seed: int, engine) -> None:
    # The group holds every non-zero: taking its sums out of the pool's would leave roundings.
    group = np.random.default_rng(seed).normal(3, 1, 9)
    values = np.concatenate([group, np.zeros(30)])[:, None]
    design = Design([[1]] * 9 + [[]] * 30, 2, [True] * 39)
    control, _ = comparison_arms(design.block(values), engine)
    assert (control.mean[0, 0], control.variance[0, 0]) == (0, 0)


def test_values_far_from_zero_do_not_cancel() -> None:
    # The sum of squares minus n times the squared mean would lose all 16 digits.
    block = grouped(1e9 + np.array([[1.0], [2.0], [3.0]]), membership_of([[0]] * 3, 1))
    assert group_moments(block, "compiled").variance[0, 0] == 1


@pytest.mark.parametrize("engine", ["compiled", "reference"])
def test_groups_of_no_and_of_one_cell_have_no_variance(engine) -> None:
    moments = group_moments(grouped(np.array([[3.0]]), membership_of([[1]], 3)), engine)
    assert moments.mean[1, 0] == 3
    assert np.isnan(moments.mean[[0, 2], 0]).all()
    assert np.isnan(moments.variance).all()
    np.testing.assert_array_equal(moments.fraction_expressing[:, 0], [np.nan, 1, np.nan])
    np.testing.assert_array_equal(moments.pts()[:, 0], [np.nan, 1, np.nan])


def test_negative_values_are_not_expression() -> None:
    block = grouped(np.array([[-1.0], [2.0], [0.0], [-3.0]]), membership_of([[0]] * 4, 1))
    assert group_moments(block, "compiled").fraction_expressing[0, 0] == 0.25


@given(cases())
def test_number_of_threads_changes_no_bit(case) -> None:
    values, design = case
    one, three = (group_moments(design.block(values, n), "compiled", n) for n in (1, 3))
    assert one.mean.tobytes() == three.mean.tobytes()
    assert one.variance.tobytes() == three.variance.tobytes()
