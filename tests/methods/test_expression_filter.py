"""The compiled low-expression filter is the reference's, to the edge of every threshold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crispyx._stats import expression_filter
from crispyx._stats.expression_filter import ExpressionThresholds
from crispyx._stats.moments import Arm

shares = st.sampled_from([0.0, 0.25, 0.5, 1.0])
means = st.sampled_from([-1.0, 0.0, 0.05, 0.1, 2.0])
N_CELLS = 4


def arm(fraction: np.ndarray, mean: np.ndarray) -> Arm:
    n_cells = np.full((len(mean), 1), N_CELLS)
    return Arm(mean, np.zeros_like(mean), (fraction * N_CELLS).astype(np.int64), n_cells)


@pytest.mark.parametrize("n_controls", [1, 2])
@given(
    st.lists(st.tuples(shares, means), min_size=12, max_size=12),
    st.builds(ExpressionThresholds, shares, shares, means, means),
)
def test_agrees_with_the_reference(n_controls: int, genes, thresholds) -> None:
    fraction, mean = np.array(genes).T.reshape(2, 4, 3)
    arms = arm(fraction[:n_controls], mean[:n_controls]), arm(fraction[2:], mean[2:])
    compiled, reference = (
        expression_filter.tested_pairs(*arms, thresholds, engine, 2)
        for engine in ("compiled", "reference")
    )
    np.testing.assert_array_equal(compiled, reference)


@pytest.mark.parametrize("engine", ["compiled", "reference"])
@pytest.mark.parametrize(
    ("control", "perturbed", "tested"),
    [
        ((0.0, 0.0), (0.0, 0.0), False),
        ((0.25, 0.0), (0.0, 0.0), True),  # at its threshold, which is not below it
        ((0.0, 0.5), (0.0, 0.0), True),  # few control cells, but a high mean
        ((0.0, 0.0), (0.25, 0.0), True),
        ((0.0, 0.0), (0.0, 0.5), True),
    ],
)
def test_gene_is_left_out_only_when_all_four_values_are_low(
    control, perturbed, tested: bool, engine
) -> None:
    thresholds = ExpressionThresholds(0.25, 0.25, 0.5, 0.5)
    arms = (arm(np.array([[pct]]), np.array([[mean]])) for pct, mean in (control, perturbed))
    assert expression_filter.tested_pairs(*arms, thresholds, engine, 1)[0, 0] == tested
