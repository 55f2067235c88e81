"""Library-size normalization against its definition, exact fractions and scanpy."""

from __future__ import annotations

from fractions import Fraction

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from reference.normalize import library_sizes, log1p_normalize, normalize_total

count_tables = arrays(np.int64, (5, 4), elements=st.integers(0, 10_000))


@given(count_tables)
@settings(deadline=None)
def test_every_value_is_the_exact_fraction_rounded_once(counts: np.ndarray) -> None:
    normalized = normalize_total(counts, target_sum=10_000)
    for cell, row in enumerate(counts.tolist()):
        total = sum(row)
        for gene, count in enumerate(row):
            expected = float(Fraction(count * 10_000, total)) if total else 0.0
            assert normalized[cell, gene] == expected


@given(count_tables)
@settings(deadline=None)
def test_library_sizes_are_exact_sums(counts: np.ndarray) -> None:
    assert library_sizes(counts).tolist() == [sum(row) for row in counts.tolist()]


@given(count_tables)
@settings(deadline=None)
def test_every_cell_with_counts_sums_to_the_target(counts: np.ndarray) -> None:
    totals = normalize_total(counts).sum(axis=1)
    # Four rounded values and three rounded additions.
    assert_allclose(totals, np.where(counts.sum(axis=1) > 0, 1e4, 0), rtol=1e-15)


@given(count_tables, st.integers(2, 9))
@settings(deadline=None)
def test_sequencing_a_cell_deeper_changes_nothing(counts: np.ndarray, depth: int) -> None:
    # Both are the same fraction, rounded once.
    assert_array_equal(normalize_total(counts * depth), normalize_total(counts))


def test_cell_without_counts_stays_zero() -> None:
    counts = np.array([[0, 0], [1, 3]])
    assert_array_equal(normalize_total(counts), [[0, 0], [2500, 7500]])
    assert_array_equal(log1p_normalize(counts)[0], [0, 0])


def test_given_library_sizes_replace_the_row_totals() -> None:
    assert_array_equal(
        normalize_total([[1, 3], [0, 0]], target_sum=100, library_size=[8, 0]),
        [[12.5, 37.5], [0, 0]],
    )


@pytest.mark.parametrize("size", [0.0, -4.0, np.nan])
def test_counts_without_a_positive_library_size_are_refused(size: float) -> None:
    with pytest.raises(ValueError, match="cell 1 has counts but library size"):
        normalize_total([[1, 1], [1, 3]], library_size=[2, size])


def test_agrees_with_scanpy() -> None:
    counts = np.random.default_rng(1).poisson(0.7, (50, 30)).astype(np.float64)
    theirs = ad.AnnData(counts.copy())
    sc.pp.normalize_total(theirs, target_sum=1e4)
    # scanpy divides by the rounded quotient total / target: one rounding more.
    assert_allclose(normalize_total(counts), theirs.X, rtol=4e-16)
    sc.pp.log1p(theirs)
    assert_allclose(log1p_normalize(counts), theirs.X, rtol=1e-15)
