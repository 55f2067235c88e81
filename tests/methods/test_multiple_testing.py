"""Compiled corrections against the reference (SciPy's) and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crispyx._stats.multiple_testing import CORRECTIONS, SCOPES, adjust, adjust_logs, adjust_rows

pvalues = arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(1, 12)),
    elements=st.one_of(st.sampled_from([0.0, 1.0, np.nan, 0.04, 1e-300]), st.floats(0, 1)),
)


@given(pvalues, st.sampled_from(CORRECTIONS))
def test_agrees_with_the_reference(table: np.ndarray, method) -> None:
    compiled, reference = (adjust_rows(table, method, e) for e in ("compiled", "reference"))
    # p m / k and p (m / k): two roundings each; below 1e-300 a unit in the last place is absolute.
    np.testing.assert_allclose(compiled, reference, rtol=5e-16, atol=1e-320)


@given(pvalues, st.sampled_from(CORRECTIONS))
def test_adjusted_values_keep_order_and_bounds(table: np.ndarray, method) -> None:
    for p, adjusted in zip(table, adjust_rows(table, method, "compiled"), strict=True):
        order = np.argsort(p)[: np.isfinite(p).sum()]
        assert np.all(np.diff(adjusted[order]) >= 0)
        assert np.all(adjusted[order] >= p[order])
        assert np.all(adjusted[order] <= 1)


@given(pvalues, st.sampled_from(CORRECTIONS))
def test_tests_that_were_not_made_do_not_count(table: np.ndarray, method) -> None:
    more = np.insert(table, [0, table.shape[1]], np.nan, axis=1)
    found = adjust_rows(more, method, "compiled")
    np.testing.assert_array_equal(found[:, 1:-1], adjust_rows(table, method, "compiled"))
    assert np.isnan(found[:, [0, -1]]).all()


@given(pvalues, st.sampled_from(CORRECTIONS))
def test_each_row_is_corrected_alone_and_the_input_left_as_it_was(
    table: np.ndarray, method
) -> None:
    before = table.copy()
    whole = adjust_rows(table, method, "compiled")
    rows = [adjust_rows(table[i : i + 1], method, "compiled") for i in range(len(table))]
    np.testing.assert_array_equal(whole, np.concatenate(rows))
    np.testing.assert_array_equal(table, before)


@pytest.mark.parametrize("engine", ["compiled", "reference"])
def test_hand_computed_row(engine) -> None:
    row = np.array([[0.01, np.nan, 0.04, 0.03, 0.5]])
    bh = adjust_rows(row, "benjamini-hochberg", engine)
    # m = 4: 0.01 * 4 / 1, 0.03 * 4 / 2 capped by 0.04 * 4 / 3, 0.5.
    np.testing.assert_allclose(bh, [[0.04, np.nan, 0.16 / 3, 0.16 / 3, 0.5]], rtol=1e-15)
    bonferroni = adjust_rows(row, "bonferroni", engine)
    np.testing.assert_allclose(bonferroni, [[0.04, np.nan, 0.16, 0.12, 1]], rtol=1e-15)


logs = arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(1, 12)),
    elements=st.one_of(st.sampled_from([0.0, -np.inf, np.nan, -3.0]), st.floats(-1e5, 0)),
)


@given(logs, st.sampled_from(CORRECTIONS), st.sampled_from(SCOPES))
def test_corrections_of_logs_agree_with_the_reference(table: np.ndarray, method, scope) -> None:
    both = [adjust_logs(table, method, scope, engine) for engine in ("compiled", "reference")]
    np.testing.assert_array_equal(*both)


@given(pvalues, st.sampled_from(CORRECTIONS), st.sampled_from(SCOPES))
def test_corrections_of_logs_are_logs_of_corrections(table: np.ndarray, method, scope) -> None:
    table = np.where(table < 1e-290, 1e-290, table)  # NaN stays
    found = adjust_logs(np.log(table), method, scope, "compiled")
    # A rounding of log p, at most 670, and of p itself.
    expected = np.log(adjust(table, method, scope, "compiled"))
    np.testing.assert_allclose(found, expected, rtol=1e-15, atol=1e-12)
