"""The compiled shrinkage of fold changes against reference.apeglm."""

from __future__ import annotations

import numpy as np
import pytest
from grouped_counts import drawn_counts, grouped_counts, small_counts
from hypothesis import given, settings
from hypothesis import strategies as st

from crispyx._stats.apeglm import Searching, Shrunk, shrink_counts, shrink_statistics
from crispyx._stats.nb_likelihood import Counts

COUNTS = drawn_counts(3, [120, 40, 12, 5], 14)
ALPHA = np.exp(np.random.default_rng(1).normal(-1, 1.5, (3, 14)))
SCALE = np.array([0.3, 1.0, 0.02])
SEARCHES = {
    "as it is": Searching(),
    "PyDESeq2's standard error": Searching(literal=True),
    "another intercept prior": Searching(intercept_spread=2.0),
    "few steps": Searching(max_iterations=2),
}


def assert_same(ours: Shrunk, defined: Shrunk) -> None:
    for name in ("intercept", "log_fold_change"):
        found = getattr(ours, name), getattr(defined, name)
        # Both stop after a step of at most 1e-8; the next one is its square.
        np.testing.assert_allclose(*found, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(ours.standard_error, defined.standard_error, rtol=1e-7)
    np.testing.assert_array_equal(ours.converged, defined.converged)


@pytest.mark.parametrize("searching", SEARCHES.values(), ids=SEARCHES)
def test_compiled_modes_are_the_defined_ones(searching: Searching) -> None:
    ours = shrink_counts(COUNTS, ALPHA, SCALE, searching, "compiled")
    defined = shrink_counts(COUNTS, ALPHA, SCALE, searching, "reference")
    assert_same(ours, defined)
    assert np.isfinite(ours.log_fold_change).sum() >= 3 * 13


def test_compiled_modes_with_a_clamp_are_the_defined_ones() -> None:
    """Away from the kinks, where the order of a sum can decide which cells are held."""
    abundant = drawn_counts(5, [90, 30, 12], 6, spread=0.3)
    alpha = np.full((2, 6), 0.3)
    searching = Searching(min_mu=0.02)
    ours = shrink_counts(abundant, alpha, SCALE[:2], searching, "compiled")
    defined = shrink_counts(abundant, alpha, SCALE[:2], searching, "reference")
    free = np.exp(defined.intercept) * abundant.table.size_factors.min() > 0.02
    free &= np.exp(defined.intercept + defined.log_fold_change) > 0.02 * 4
    assert free.sum() >= 4
    np.testing.assert_allclose(ours.log_fold_change[free], defined.log_fold_change[free], rtol=1e-6)
    without = shrink_counts(abundant, alpha, SCALE[:2], Searching(), "compiled")
    np.testing.assert_allclose(ours.log_fold_change[free], without.log_fold_change[free], rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(counts=small_counts(), alpha=st.sampled_from([0.0, 1e-8, 0.3, 9.0]))
def test_compiled_modes_of_any_few_cells_are_the_defined_ones(counts: Counts, alpha: float) -> None:
    shape = (counts.table.n_groups - 1, counts.n_genes)
    scale = np.full(shape[0], 0.4)
    tables = [
        shrink_counts(counts, np.full(shape, alpha), scale, Searching(), engine)
        for engine in ("compiled", "reference")
    ]
    assert_same(*tables)


def test_threads_change_no_digit() -> None:
    one = shrink_counts(COUNTS, ALPHA, SCALE, Searching(), "compiled", 1)
    four = shrink_counts(COUNTS, ALPHA, SCALE, Searching(), "compiled", 4)
    np.testing.assert_array_equal(one.log_fold_change, four.log_fold_change)
    np.testing.assert_array_equal(one.standard_error, four.standard_error)


def test_compiled_shrinkage_of_fits_is_the_defined_one() -> None:
    rng = np.random.default_rng(4)
    fitted, error = rng.normal(0, 1, (3, 200)), np.exp(rng.normal(-1, 1, (3, 200)))
    fitted[0, 0], error[1, 1], error[2, 2] = np.nan, np.nan, 0.0
    tables = [
        shrink_statistics(fitted, error, SCALE[:, None], engine, 2)
        for engine in ("compiled", "reference")
    ]
    assert_same(*tables)
    np.testing.assert_array_equal(np.argwhere(~tables[0].converged), [[0, 0], [1, 1], [2, 2]])


def test_pairs_without_a_dispersion_or_a_count_are_left_out() -> None:
    alpha = ALPHA.copy()
    alpha[1, 4] = np.nan
    found = shrink_counts(COUNTS, alpha, SCALE, Searching(), "compiled")
    assert np.isnan(found.log_fold_change[:, 2]).all()  # a gene without counts
    assert np.isnan(found.log_fold_change[1, 4])
    assert not found.converged[1, 4]


@pytest.mark.parametrize("left_out", [[0], [0, 1], [1, 2]])
def test_perturbations_left_out_change_nothing_of_the_others(left_out: list[int]) -> None:
    alpha = ALPHA.copy()
    alpha[left_out] = np.nan
    kept = [k for k in range(3) if k not in left_out]
    whole = shrink_counts(COUNTS, ALPHA, SCALE, Searching(), "compiled")
    found = shrink_counts(COUNTS, alpha, SCALE, Searching(), "compiled")
    for name in ("intercept", "log_fold_change", "standard_error", "iterations"):
        np.testing.assert_array_equal(getattr(found, name)[kept], getattr(whole, name)[kept])
        assert not np.any(getattr(found, name)[left_out] > 0)


def test_a_gene_silent_in_control_and_first_perturbation_is_shrunk_in_the_others() -> None:
    labels = np.repeat([0, 1, 2, 3], [9, 5, 5, 5])
    rng = np.random.default_rng(3)
    y = rng.poisson(2.0, (24, 4)).astype(float)
    y[labels <= 1, 1] = 0
    counts, shape = grouped_counts(y, labels, np.exp(rng.normal(0, 0.4, 24))), (3, 4)
    found = shrink_counts(counts, np.full(shape, 0.4), SCALE, Searching(), "compiled")
    defined = shrink_counts(counts, np.full(shape, 0.4), SCALE, Searching(), "reference")
    assert np.isnan(found.log_fold_change[0, 1])
    assert np.isfinite(found.log_fold_change[1:, 1]).all()
    assert_same(found, defined)


def test_genes_with_two_modes_end_where_the_definition_does() -> None:
    """Effects about where a narrow prior lets a second mode appear, found by one search or two."""
    rng = np.random.default_rng(7)
    n, n_genes = np.array([150, 40, 40, 40]), 120
    labels = np.repeat([0, 1, 2, 3], n)
    effect = np.zeros((4, n_genes))
    effect[1:] = rng.uniform(0.2, 1.5, (3, n_genes)) * rng.choice([-1, 1], (3, n_genes))
    s, mean = np.exp(rng.normal(0, 0.3, labels.size)), np.exp(rng.normal(0, 1, n_genes))
    y = rng.poisson(s[:, None] * mean * np.exp(effect[labels]) * rng.gamma(5, 0.2, (270, n_genes)))
    counts = grouped_counts(y.astype(float), labels, s)
    alpha, scale = np.full((3, n_genes), 0.2), np.array([0.01, 0.03, 0.1])
    found, near = (
        shrink_counts(counts, alpha, scale, Searching(literal=literal), "compiled")
        for literal in (False, True)
    )
    assert_same(found, shrink_counts(counts, alpha, scale, Searching(), "reference"))
    two = np.abs(found.log_fold_change - near.log_fold_change) > 0.1
    # One in three is a case for the second search, and where it is made it is not always for good.
    assert two.sum() > 20
    assert (np.abs(near.log_fold_change) > 0.1).sum() > 20
    assert found.converged.all()


@settings(max_examples=25, deadline=None)
@given(counts=small_counts(), scale=st.floats(1e-3, 1))
def test_compiled_shrinkage_never_expands_an_effect(counts: Counts, scale: float) -> None:
    shape = (counts.table.n_groups - 1, counts.n_genes)
    alpha = np.full(shape, 0.4)
    tables = [
        shrink_counts(counts, alpha, np.full(shape[0], width), Searching(), "compiled")
        for width in (scale, 1e9)
    ]
    shrunk, free = (table.log_fold_change for table in tables)
    used = np.isfinite(free)
    assert (np.abs(shrunk) <= np.abs(free) + 1e-7)[used].all()
    assert (shrunk * free >= -1e-12)[used].all()
