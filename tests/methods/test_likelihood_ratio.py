"""The compiled likelihood ratios against reference.likelihood_ratio."""

from __future__ import annotations

import numpy as np
from grouped_counts import drawn_counts, small_counts
from hypothesis import given, settings
from hypothesis import strategies as st

from crispyx._stats.likelihood_ratio import likelihood_ratio_roots
from crispyx._stats.nb_likelihood import Counts


def test_compiled_roots_are_the_defined_ones() -> None:
    counts = drawn_counts(5, [120, 40, 12, 5], 14)
    alpha = np.exp(np.random.default_rng(0).normal(-1, 1.5, (3, 14)))
    alpha[1, 5] = np.nan
    compiled, defined = (
        likelihood_ratio_roots(counts, alpha, e) for e in ("compiled", "reference")
    )
    # The square root turns an error of 1e-14 of likelihoods into 1e-7 of a root near 0.
    np.testing.assert_allclose(compiled, defined, rtol=1e-9, atol=1e-6)
    assert np.isnan(compiled[1, 5])
    assert np.isfinite(compiled[0, :2]).all()
    assert np.isnan(compiled[:, 2]).all()


@settings(max_examples=40, deadline=None)
@given(small_counts(), st.floats(-8, 2))
def test_any_counts_are_compared_as_defined(counts: Counts, log_alpha: float) -> None:
    alpha = np.full((counts.table.n_groups - 1, counts.n_genes), np.exp(log_alpha))
    compiled, defined = (
        likelihood_ratio_roots(counts, alpha, e) for e in ("compiled", "reference")
    )
    np.testing.assert_allclose(np.abs(compiled), np.abs(defined), rtol=0, atol=3e-6)


def test_roots_do_not_depend_on_threads() -> None:
    counts = drawn_counts(5, [60, 20, 9], 11)
    alpha = np.full((2, 11), 0.6)
    one, three = (likelihood_ratio_roots(counts, alpha, "compiled", n) for n in (1, 3))
    np.testing.assert_array_equal(one, three)
