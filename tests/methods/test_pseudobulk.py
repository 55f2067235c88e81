"""Compiled totals from rows and from columns against the reference, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import gene_block, membership_of, sparse_parts
from strategies import GENES

from crispyx._kernels.layout import CompressedBlock
from crispyx._stats.pseudobulk import (
    Members,
    Transform,
    add_cells,
    add_genes,
    batch_weights,
    bootstrap_times,
    log_of_mean,
    weighted_difference,
)
from reference import pseudobulk as reference

SCALED = Transform(1e4)
TRANSFORMS = [Transform(), Transform(log1p=True), SCALED, Transform(1e4, log1p=True)]
COUNTS = Transform(whole=True)


@st.composite
def cases(draw):
    """Draw counts, the groups of every cell (several, one or none) and how often they count."""
    n_cells, n_genes = draw(st.integers(1, 14)), draw(st.integers(1, 5))
    column = st.lists(GENES["counts"], min_size=n_cells, max_size=n_cells)
    values = np.array([draw(column) for _ in range(n_genes)], dtype=float).T
    groups = draw(
        st.lists(st.lists(st.integers(0, 3), max_size=3), min_size=n_cells, max_size=n_cells)
    )
    membership = membership_of(groups, 4)
    n = len(membership.groups)
    times = np.array(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)), dtype=np.int32)
    return values, Members(membership, times)


def by_cells(values, members, transform, *, step, first=0, width=None, engine="compiled", n=1):
    """Add blocks of ``step`` cells to the totals of ``width`` genes."""
    data, indices, indptr = sparse_parts(values, "csr")
    n_cells, n_genes = values.shape
    totals = np.zeros((4, (width or n_genes)), dtype=transform.dtype)
    for start in range(0, n_cells, step):
        stop = min(start + step, n_cells)
        span = slice(indptr[start], indptr[stop])
        ptr = (indptr[start : stop + 1] - indptr[start]).astype(np.int64)
        block = CompressedBlock(start, stop, data[span], indices[span].astype(np.int32), ptr)
        sizes = values[start:stop].sum(axis=1)
        add_cells(totals, block, members, sizes, transform, first, n_genes, engine, n)
    return totals


def by_genes(values, members, transform, *, engine="compiled", n=1):
    totals = np.zeros((values.shape[1], 4), dtype=transform.dtype)
    sizes = values.sum(axis=1)
    add_genes(totals, gene_block(values), members, sizes, transform, engine, n)
    return totals.T


def expected(values, members, transform) -> np.ndarray:
    x = values
    if transform.target_sum is not None:
        sizes = values.sum(axis=1, keepdims=True)
        x = np.divide(values * transform.target_sum, sizes, out=np.zeros(x.shape), where=sizes > 0)
    if transform.log1p:
        x = np.log1p(x)
    ptr = members.membership.ptr
    places = [slice(ptr[i], ptr[i + 1]) for i in range(len(values))]
    return reference.group_totals(
        x,
        [members.membership.groups[place].tolist() for place in places],
        4,
        [members.times[place].tolist() for place in places],
        begin=np.zeros((4, values.shape[1]), dtype=transform.dtype),
    )


@pytest.mark.parametrize("transform", [COUNTS, *TRANSFORMS], ids=str)
@given(cases(), st.integers(1, 14), st.integers(1, 3))
def test_totals_are_the_references_from_rows_and_from_columns(
    transform: Transform, case, step: int, n_threads: int
) -> None:
    values, members = case
    wanted = expected(values, members, transform)
    rows = by_cells(values, members, transform, step=step, n=n_threads)
    columns = by_genes(values, members, transform, n=n_threads)
    np.testing.assert_array_equal(rows, columns)
    # NumPy's log1p and the C library's differ in the last bit.
    np.testing.assert_allclose(rows, wanted, rtol=4e-16 * len(values) if transform.log1p else 0)


@given(cases(), st.data())
def test_panel_of_genes_has_the_totals_of_the_whole(case, data) -> None:
    values, members = case
    first = data.draw(st.integers(0, values.shape[1] - 1))
    width = data.draw(st.integers(1, values.shape[1] - first))
    panel = by_cells(values, members, SCALED, step=5, first=first, width=width)
    whole = by_cells(values, members, SCALED, step=5)
    np.testing.assert_array_equal(panel, whole[:, first : first + width])


@pytest.mark.parametrize("transform", [COUNTS, *TRANSFORMS], ids=str)
@given(cases())
def test_reference_engine_is_the_reference(transform: Transform, case) -> None:
    values, members = case
    wanted = expected(values, members, transform)
    rows = by_cells(values, members, transform, step=3, engine="reference")
    np.testing.assert_array_equal(rows, wanted)
    np.testing.assert_array_equal(by_genes(values, members, transform, engine="reference"), wanted)


def test_counts_above_2_to_the_24_and_totals_above_2_to_the_53_are_exact() -> None:
    values = np.array([[2.0**53 - 1], [2.0**53 - 1], [1.0], [2.0**24 + 1]])
    members = Members.once(membership_of([[0], [0], [0], [1]], 4))
    assert by_cells(values, members, COUNTS, step=2)[:2, 0].tolist() == [2**54 - 1, 2**24 + 1]
    assert by_genes(values, members, COUNTS)[:2, 0].tolist() == [2**54 - 1, 2**24 + 1]


def test_stored_zero_of_an_empty_cell_adds_nothing() -> None:
    block = CompressedBlock(
        0, 1, np.zeros(1), np.zeros(1, dtype=np.int32), np.array([0, 1], dtype=np.int64)
    )
    totals = np.zeros((4, 1))
    members = Members.once(membership_of([[0]], 4))
    add_cells(totals, block, members, np.zeros(1), SCALED, 0, 1, "compiled")
    assert totals.tolist() == [[0.0]] * 4


@given(st.integers(1, 4), st.data())
def test_weights_and_differences_are_the_references(n_batches: int, data) -> None:
    sizes = st.lists(st.integers(0, 30), min_size=n_batches, max_size=n_batches)
    n0, n1 = np.array(data.draw(sizes)), np.array([data.draw(sizes) for _ in range(3)])
    both = [batch_weights(n0[None], n1, engine) for engine in ("compiled", "reference")]
    np.testing.assert_allclose(both[0], both[1], rtol=1e-15)
    rng = np.random.default_rng(0)
    control, perturbed = rng.normal(size=(2, n_batches, 6))
    for weights in both[0]:
        found, wanted = (
            weighted_difference(control, perturbed, weights, engine)
            for engine in ("compiled", "reference")
        )
        np.testing.assert_array_equal(found, wanted)


def test_logs_of_means_and_draws_are_the_references() -> None:
    means = np.array([[0.0, 1e-9, 3.0]])
    found, wanted = (log_of_mean(means, 2.0, engine) for engine in ("compiled", "reference"))
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(
        bootstrap_times(9, 20, 3, "KLF1"), reference.bootstrap_times(9, 20, 3, "KLF1")
    )
