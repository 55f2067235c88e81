"""The compiled dispersions against reference.dispersion."""

from __future__ import annotations

import numpy as np
import pytest
from grouped_counts import drawn_counts, grouped_counts, small_counts
from hypothesis import given, settings
from hypothesis import strategies as st

from crispyx._stats.dispersion import (
    Prior,
    final_dispersions,
    genewise_dispersions,
    normalized_moments,
    posterior_modes,
    rough_moments,
    within_group_moments,
)
from crispyx._stats.nb_likelihood import Counts
from reference.dispersion import final_dispersion

ENGINES = ("compiled", "reference")
COUNTS = drawn_counts(7, [120, 40, 12, 5], 16)
PAIRS = [[0, k] for k in (1, 2, 3)]
EVERYONE = [[0, 1, 2, 3]]
UPPER = np.array([160.0, 132, 125])


def starts(counts: Counts, shared: bool, literal: bool) -> np.ndarray:
    moments = normalized_moments(counts, "compiled")
    n = counts.table.n_cells
    if literal:
        return rough_moments(counts, moments, np.maximum(10.0, n[0] + n[1:]), "compiled")
    groups = range(1, counts.table.n_groups)
    everyone = list(range(counts.table.n_groups))
    fits = [everyone] if shared else [[0, k] for k in groups]
    return within_group_moments(counts, moments, fits, "compiled")


def test_moments_are_the_defined_ones() -> None:
    ours, defined = (normalized_moments(COUNTS, e) for e in ENGINES)
    np.testing.assert_allclose(ours.mean, defined.mean, rtol=1e-13)
    np.testing.assert_allclose(ours.squares, defined.squares, rtol=1e-12)
    pool = np.concatenate([COUNTS.dense(4, k) / COUNTS.table.of_group(k) for k in (0, 2)])
    assert ours.pooled_mean([0, 2])[4] == pytest.approx(pool.mean(), rel=1e-13)


def test_a_group_without_cells_does_not_hide_the_others() -> None:
    counts = grouped_counts(np.array([[2.0], [4], [0]]), np.array([0, 2, 2]), np.ones(3))
    assert counts.table.n_cells.tolist() == [1, 0, 2]
    moments = normalized_moments(counts, "compiled")
    np.testing.assert_array_equal(moments.pooled_mean([0, 1, 2]), [2.0])
    assert np.isnan(moments.mean[1]).all()


@pytest.mark.parametrize("groups", [PAIRS, EVERYONE])
def test_moment_dispersions_are_the_defined_ones(groups: list[list[int]]) -> None:
    moments = normalized_moments(COUNTS, "compiled")
    within = [within_group_moments(COUNTS, moments, groups, e) for e in ENGINES]
    np.testing.assert_allclose(*within, rtol=1e-10)
    rough = [rough_moments(COUNTS, moments, UPPER, e) for e in ENGINES]
    np.testing.assert_allclose(*rough, rtol=1e-10)
    assert np.isnan(rough[0][:, 2]).all()


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("min_mu", "literal"), [(0.0, False), (0.5, False), (0.5, True)])
def test_compiled_dispersions_are_the_defined_ones(
    shared: bool, min_mu: float, literal: bool
) -> None:
    if shared and literal:
        literal = False  # PyDESeq2 compares one pair at a time
    first = starts(COUNTS, shared, literal)
    options = {"shared": shared, "min_mu": min_mu}
    genewise = [
        genewise_dispersions(COUNTS, first, stop_where_flat=literal, engine=e, **options)
        for e in ENGINES
    ]
    np.testing.assert_array_equal(np.isnan(genewise[0]), np.isnan(first))
    # log alpha to 1e-8, the goal; the search stops after a step of 1e-7 that squares its error
    np.testing.assert_allclose(np.log(genewise[0]), np.log(genewise[1]), rtol=0, atol=1e-8)
    trend = np.where(np.isnan(first), np.nan, 0.7)
    variance = np.linspace(0.25, 1, len(first))
    modes = [posterior_modes(COUNTS, trend, variance, engine=e, **options) for e in ENGINES]
    np.testing.assert_allclose(np.log(modes[0]), np.log(modes[1]), rtol=0, atol=1e-8)


@settings(max_examples=40, deadline=None)
@given(small_counts(), st.booleans(), st.sampled_from([0.0, 0.5]))
def test_posterior_modes_hold_for_any_counts(counts: Counts, shared: bool, min_mu: float) -> None:
    first = starts(counts, shared, False)
    trend, variance = np.where(np.isnan(first), np.nan, 0.3), np.full(len(first), 0.5)
    modes = [
        posterior_modes(counts, trend, variance, shared=shared, min_mu=min_mu, engine=e)
        for e in ENGINES
    ]
    np.testing.assert_allclose(np.log(modes[0]), np.log(modes[1]), rtol=0, atol=1e-8)


def test_final_dispersions_are_the_defined_ones() -> None:
    genewise, trend = np.array([0.9, 0.7, 0.001, np.nan]), np.array([0.2, 0.2, 0.2, np.nan])
    mode, prior = np.array([0.5, 0.5, 0.1, np.nan]), Prior(0.25, np.log(4))
    found = final_dispersions(genewise, trend, mode, prior)
    expected = [final_dispersion(*row, prior) for row in zip(genewise, trend, mode, strict=True)]
    np.testing.assert_array_equal(found, expected)


def test_dispersions_do_not_depend_on_threads() -> None:
    for shared in (False, True):
        first = starts(COUNTS, shared, False)
        one, three = (
            genewise_dispersions(
                COUNTS, first, shared=shared, min_mu=0.0, stop_where_flat=False,
                engine="compiled", n_threads=n,
            )
            for n in (1, 3)
        )  # fmt: skip
        np.testing.assert_array_equal(one, three)
