"""reference.size_factors against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from reference.size_factors import (
    median_of_ratios,
    positive_counts,
    scaled,
    sparse_median_of_ratios,
    total_counts,
)

DEPTH = np.array([1, 2, 4, 8])
PROFILE = np.array([3, 1, 10])
METHODS = [median_of_ratios, sparse_median_of_ratios, positive_counts, total_counts]


@pytest.mark.parametrize("method", METHODS)
def test_cells_that_differ_in_depth_alone_get_their_depth(method) -> None:
    dominated = {"dominant_share": 1.0} if method is total_counts else {}
    s = scaled(method(np.outer(DEPTH, PROFILE), **dominated))
    np.testing.assert_allclose(s, DEPTH / 2**1.5, rtol=1e-14)


def test_median_of_ratios_ignores_genes_with_a_zero() -> None:
    counts = np.outer(DEPTH, PROFILE)
    wild = np.column_stack([counts, [0, 900, 3, 500]])
    np.testing.assert_array_equal(median_of_ratios(wild), median_of_ratios(counts))


def test_median_of_ratios_says_that_it_has_no_gene_to_stand_on() -> None:
    with pytest.raises(ValueError, match="none of the 2 genes is expressed in all 2 cells"):
        median_of_ratios([[0, 1], [1, 0]])


def test_without_zeros_the_sparse_median_is_the_median_of_ratios() -> None:
    counts = 1 + np.random.default_rng(0).poisson(3, (9, 6))
    np.testing.assert_allclose(
        sparse_median_of_ratios(counts), median_of_ratios(counts), rtol=1e-14
    )


def test_sparse_median_by_hand() -> None:
    # Geometric means of the non-zeros: 2 and 3. Cell 2 has only the second gene.
    s = sparse_median_of_ratios([[1, 9], [4, 0], [0, 1]])
    np.testing.assert_allclose(s, [np.sqrt(1 / 2 * 3), 2, 1 / 3], rtol=1e-15)


def test_positive_counts_leave_out_genes_of_ones() -> None:
    # The first gene has log mean 0; the second (log 2 + log 8) / 3 = log 2^(4/3).
    s = positive_counts([[1, 2], [1, 8], [1, 0]])
    np.testing.assert_allclose(s, [0.5, 2.0, np.nan], rtol=1e-14)


def test_a_dominant_gene_does_not_count_as_depth() -> None:
    counts = np.full((2, 30), 4)
    counts[0, 0] = 4000
    np.testing.assert_array_equal(total_counts(counts), [116, 116])


@pytest.mark.parametrize("method", [sparse_median_of_ratios, positive_counts, total_counts])
def test_a_cell_without_counts_has_no_size_factor(method) -> None:
    counts = np.outer([0, 1, 2], np.arange(2, 30))
    assert np.isnan(method(counts)).tolist() == [True, False, False]
    assert np.isfinite(scaled(method(counts))[1:]).all()
