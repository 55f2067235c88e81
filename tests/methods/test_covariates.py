"""The compiled fits beside covariates against reference.covariates."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import gene_block

from crispyx._jobs.batches import Batches
from crispyx._kernels.layout import Membership
from crispyx._stats.covariates import (
    AdjustedFits,
    Strata,
    adjusted_fits,
    by_rank,
    fit_control_slopes,
)
from crispyx._stats.nb_likelihood import Counts, grouped_cells

SE_METHODS = ("fisher", "robust")


def stratified_counts(
    values: np.ndarray, labels: np.ndarray, levels: np.ndarray, size_factors: np.ndarray
) -> tuple[Counts, Strata, Membership]:
    """Group a (n_cells, n_genes) matrix by the groups and the categories of its cells."""
    strata = Strata.of_levels(levels)
    batches = Batches(None, tuple("abcdefghijklmn"[: strata.n_strata]), strata.of_cell)
    membership = batches.split(Membership.from_labels(labels, int(labels.max()) + 1))
    table = grouped_cells(size_factors, membership)
    return Counts.of_block(gene_block(values), membership, table), strata, membership


def drawn(
    seed: int, n_levels: list[int], sizes: list[int], n_genes: int
) -> tuple[Counts, Strata, Membership]:
    """Draw counts with an effect of every category, some genes silent in an arm or category."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    levels = np.stack([rng.integers(0, n, labels.size) for n in n_levels], axis=1)
    s = np.exp(rng.normal(0, 0.5, labels.size))
    effects = [rng.normal(0, 0.7, (n, n_genes)) for n in n_levels]
    shift = sum(effect[column] for effect, column in zip(effects, levels.T, strict=True))
    mean, alpha = np.exp(rng.normal(-0.5, 1.2, n_genes)), np.exp(rng.normal(-1, 1, n_genes))
    noise = rng.gamma(1 / alpha, alpha, (labels.size, n_genes))
    y = rng.poisson(s[:, None] * mean * np.exp(shift) * noise).astype(float)
    y[labels == 1, 0] = 0
    y[labels == 0, 1] = 0
    y[:, 2] = 0
    y[levels[:, 0] == 1, 3] = 0
    y[levels[:, -1] != 0, 4] = 0
    return stratified_counts(y, labels, levels, s)


def few_counts(data: st.DataObject) -> tuple[Counts, Strata, Membership]:
    """Draw one gene of a few cells in two groups and a few categories."""
    n = data.draw(st.integers(4, 24))
    draw = lambda values: np.array(data.draw(st.lists(values, min_size=n, max_size=n)))  # noqa: E731
    labels = draw(st.integers(0, 1))
    labels[:2] = 0, 1
    levels = np.stack([draw(st.integers(0, 2)), draw(st.integers(0, 1))], axis=1)
    levels = levels[:, : data.draw(st.integers(1, 2))]
    y = draw(st.sampled_from([0, 0, 0, 1, 1, 2, 5, 40])).astype(float)[:, None]
    s = draw(st.sampled_from([1.0, 0.5, 2.0, 0.2, 1.7]))
    return stratified_counts(y, labels, levels, s)


def assert_same(compiled: AdjustedFits, defined: AdjustedFits, tolerance: float) -> None:
    for name in (f.name for f in fields(AdjustedFits)):
        a, b = getattr(compiled, name), getattr(defined, name)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("se_method", SE_METHODS)
@pytest.mark.parametrize("n_levels", [[1], [3], [7], [3, 2], [2, 3, 2]], ids=str)
def test_compiled_fits_are_the_defined_ones(n_levels: list[int], se_method: str) -> None:
    counts, strata, _ = drawn(3, n_levels, [160, 50, 14, 5], 12)
    with_ratio = se_method == "fisher"
    alpha = np.exp(np.random.default_rng(0).normal(-1, 1.2, (3, 12)))
    alpha[1, 5] = np.nan
    compiled, defined = (
        adjusted_fits(counts, alpha, strata, se_method, engine, with_ratio=with_ratio)
        for engine in ("compiled", "reference")
    )
    ratios = [fits.ratio_z**2 for fits in (compiled, defined)]
    # The root of a ratio close to 0 has half of the digits of the sums it is a difference of.
    np.testing.assert_allclose(*ratios, rtol=1e-8, atol=1e-9)
    # Sums over nodes and over cells differ in their last digits.
    unrooted = {"ratio_z": np.zeros(alpha.shape)}
    assert_same(replace(compiled, **unrooted), replace(defined, **unrooted), 1e-8)
    assert np.isfinite(compiled.ratio_z[0, [0, 1, 5, 6]]).all() == with_ratio
    assert np.isnan(compiled.log_fold_change[1, 5])
    assert np.isnan(compiled.log_fold_change[:, 2]).all()
    assert np.isfinite(compiled.log_fold_change[0, [0, 1, 5, 6]]).all()
    assert np.isfinite(compiled.silent_z[0, :2]).all()


@pytest.mark.parametrize("n_levels", [[1], [3], [3, 2]], ids=str)
def test_fits_beside_numbers_are_the_defined_ones(n_levels: list[int]) -> None:
    counts, strata, membership = drawn(7, n_levels, [90, 40, 9], 9)
    numbers = np.random.default_rng(1).normal(size=(139, 2))
    rows = by_rank(counts.table, membership, numbers)
    alpha = np.exp(np.random.default_rng(0).normal(-1, 1.2, (2, 9)))
    compiled, defined, plain = (
        adjusted_fits(counts, alpha, strata, "robust", engine, numbers=given)
        for engine, given in (("compiled", rows), ("reference", rows), ("compiled", None))
    )
    assert_same(compiled, defined, 1e-8)
    assert not np.allclose(compiled.log_fold_change[:, 5:], plain.log_fold_change[:, 5:], rtol=1e-3)


@pytest.mark.parametrize("n_levels", [[1], [4], [3, 2]], ids=str)
def test_slopes_of_the_control_are_the_defined_ones(n_levels: list[int]) -> None:
    counts, strata, membership = drawn(11, n_levels, [150, 30, 20], 9)
    numbers = by_rank(counts.table, membership, np.random.default_rng(2).normal(size=(200, 2)))
    alpha = np.exp(np.random.default_rng(0).normal(-1, 1, (2, 9)))
    alpha[:, 7], alpha[0, 8] = np.nan, np.nan
    once, twice, defined = (
        fit_control_slopes(counts, alpha, strata, numbers, engine, n_threads)
        for engine, n_threads in (("compiled", 1), ("compiled", 2), ("reference", 1))
    )
    # Both stop after a step of 1e-7; what is left is its square.
    np.testing.assert_allclose(once, defined, rtol=1e-9, atol=1e-11)
    np.testing.assert_array_equal(once, twice)
    assert (once[:, [1, 2, 7]] == 0).all()  # silent in the control, silent, not fitted
    assert (once[:, [0, 5, 6, 8]] != 0).all()


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_slopes_of_few_counts_are_the_defined_ones(data: st.DataObject) -> None:
    counts, strata, membership = few_counts(data)
    n = len(membership.ptr) - 1
    drawn_numbers = st.lists(st.sampled_from([-1.0, 0.0, 0.5]), min_size=n, max_size=n)
    numbers = by_rank(counts.table, membership, np.array(data.draw(drawn_numbers))[:, None])
    alpha = np.full((1, 1), data.draw(st.sampled_from([0.01, 0.3, 2.0])))
    compiled, defined = (
        fit_control_slopes(counts, alpha, strata, numbers, engine)
        for engine in ("compiled", "reference")
    )
    # A slope on its way to infinity stops where its information ends, wherever that is.
    if abs(defined[0, 0]) < 8:
        np.testing.assert_allclose(compiled, defined, rtol=1e-6, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_few_counts_are_fitted_as_defined(data: st.DataObject) -> None:
    counts, strata, _ = few_counts(data)
    alpha = np.full((1, 1), data.draw(st.sampled_from([0.01, 0.3, 2.0])))
    compiled, defined = (
        adjusted_fits(counts, alpha, strata, "fisher", engine)
        for engine in ("compiled", "reference")
    )
    np.testing.assert_array_equal(
        np.isnan(compiled.log_fold_change), np.isnan(defined.log_fold_change)
    )
    # A coefficient on its way to infinity stops where its information ends, wherever that is.
    ends = defined.converged & (defined.standard_error < 30)
    for name in ("log_fold_change", "standard_error", "silent_z"):
        a, b = getattr(compiled, name)[ends], getattr(defined, name)[ends]
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6, err_msg=name)


def test_a_category_without_one_arm_changes_nothing() -> None:
    rng = np.random.default_rng(4)
    labels = np.repeat([0, 1], [120, 60])
    levels = rng.integers(0, 2, 180)
    levels[rng.permutation(120)[:50]] = 2
    y, s = rng.poisson(1.5, (180, 8)).astype(float), np.exp(rng.normal(0, 0.4, 180))
    alpha = np.full((1, 8), 0.4)
    kept = levels < 2
    fits = [
        adjusted_fits(
            *stratified_counts(y[at], labels[at], levels[at, None], s[at])[:1],
            alpha,
            Strata.of_levels(levels[at, None]),
            "fisher",
            "compiled",
        )
        for at in (np.ones(180, dtype=bool), kept)
    ]
    # The same maximum, to the length of the last step squared.
    for name in ("log_fold_change", "standard_error"):
        np.testing.assert_allclose(
            getattr(fits[0], name), getattr(fits[1], name), rtol=1e-11, atol=1e-11
        )


def test_a_perturbation_that_shares_no_category_with_the_control_is_not_fitted() -> None:
    rng = np.random.default_rng(5)
    labels, s = np.repeat([0, 1, 2], 40), np.ones(120)
    levels = np.where(labels == 1, 1, 0)[:, None]
    counts, strata, _ = stratified_counts(rng.poisson(2, (120, 3)).astype(float), labels, levels, s)
    fits = adjusted_fits(counts, np.full((2, 3), 0.2), strata, "fisher", "compiled")
    assert np.isnan(fits.log_fold_change[0]).all()
    assert np.isfinite(fits.log_fold_change[1]).all()


@pytest.mark.parametrize("n_levels", [[4], [3, 2]], ids=str)
def test_fits_do_not_depend_on_threads(n_levels: list[int]) -> None:
    counts, strata, _ = drawn(6, n_levels, [80, 30, 9], 11)
    alpha = np.full((2, 11), 0.6)
    assert_same(
        adjusted_fits(counts, alpha, strata, "robust", "compiled", 3),
        adjusted_fits(counts, alpha, strata, "robust", "compiled", 1),
        0,
    )
