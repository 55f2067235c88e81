"""The low-expression filter against its truth table."""

from __future__ import annotations

from itertools import product

import pytest

from reference.expression_filter import ExpressionThresholds, is_tested

DEFAULT = ExpressionThresholds()


@pytest.mark.parametrize("low", list(product([True, False], repeat=4)))
def test_only_four_low_values_leave_a_gene_out(low: tuple[bool, ...]) -> None:
    pct_ctrl, mean_ctrl, pct_pert, mean_pert = (
        0.5 * threshold if is_low else 2 * threshold
        for is_low, threshold in zip(low, (0.01, 0.05, 0.002, 0.005), strict=True)
    )
    assert is_tested(pct_ctrl, mean_ctrl, pct_pert, mean_pert, DEFAULT) is (not all(low))


@pytest.mark.parametrize("at", range(4))
def test_value_equal_to_its_threshold_is_not_low(at: int) -> None:
    values = [0.0, 0.0, 0.0, 0.0]
    values[at] = (0.01, 0.05, 0.002, 0.005)[at]
    assert is_tested(*values, DEFAULT)
    assert not is_tested(0.0, 0.0, 0.0, 0.0, DEFAULT)


def test_fraction_that_equals_a_decimal_threshold_is_not_low() -> None:
    # 7 cells of 700 are 0.01 in float64 as in decimal: both are rounded from the same number.
    assert all(is_tested(k / (100 * k), 0.0, 0.0, 0.0, DEFAULT) for k in range(1, 20_000))


@pytest.mark.parametrize("field", ["min_pct_ctrl", "min_pct_pert"])
def test_fraction_of_zero_switches_the_filter_off(field: str) -> None:
    assert is_tested(0.0, 0.0, 0.0, 0.0, ExpressionThresholds(**{field: 0.0}))


def test_silenced_and_switched_on_genes_are_tested() -> None:
    assert is_tested(0.4, 0.5, 0.0, 0.0, DEFAULT)
    assert is_tested(0.0, 0.0, 0.1, 0.1, DEFAULT)
