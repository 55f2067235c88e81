"""The compiled permutation tests against reference.permutation_test."""

from __future__ import annotations

import numpy as np
import pytest
from grouped_counts import drawn_counts

from crispyx._stats.permutation_test import permutation_pvalues

MOST = 3_000


@pytest.mark.parametrize("n_batches", [1, 3])
def test_compiled_pvalues_are_the_defined_ones(n_batches: int) -> None:
    counts = drawn_counts(5, [30, 14, 5] * n_batches, 8)
    alpha = np.exp(np.random.default_rng(0).normal(-1, 1.5, (2, 8)))
    alpha[1, 5] = np.nan
    compiled, defined = (
        permutation_pvalues(counts, alpha, n_batches, 7, e, 2, MOST)
        for e in ("compiled", "reference")
    )
    np.testing.assert_array_equal(compiled, defined)
    assert np.isnan(compiled[1, 5])
    assert (compiled[0, [0, 1, 3, 4, 5, 6]] > 0).all()


def test_a_small_pvalue_sees_every_round_and_a_large_one_the_first() -> None:
    counts = drawn_counts(8, [200, 80], 30)
    alpha = np.full((1, 30), 0.3)
    first, both = (
        permutation_pvalues(counts, alpha, 1, 3, "compiled", 1, most) for most in (1_000, MOST)
    )
    settled = first >= 2 * 21 / 1_001
    assert settled.any()
    np.testing.assert_array_equal(both[settled], first[settled])
    silenced = both[0, 0]  # counts of the control, none in the perturbed cells
    assert silenced < first[0, 0] <= 2 / 1_001 * 20


def test_random_sets_do_not_depend_on_the_genes_beside() -> None:
    counts = drawn_counts(8, [60, 20, 20], 12)
    alpha = np.full((2, 12), 0.3)
    whole = permutation_pvalues(counts, alpha, 1, 3, "compiled", 3, 1_000)
    alpha[:, ::2] = np.nan
    part = permutation_pvalues(counts, alpha, 1, 3, "compiled", 1, 1_000)
    np.testing.assert_array_equal(part[:, 1::2], whole[:, 1::2])
