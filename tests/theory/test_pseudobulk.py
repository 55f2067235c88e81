"""Totals, weights and draws against fractions, least squares and scanpy."""

from __future__ import annotations

from fractions import Fraction

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from hypothesis import given
from hypothesis import strategies as st

from reference.pseudobulk import (
    batch_weights,
    bootstrap_times,
    group_totals,
    log_of_mean,
    weighted_difference,
)

SIZES = st.lists(st.integers(0, 30), min_size=1, max_size=5)


def test_totals_are_those_of_scanpy() -> None:
    rng = np.random.default_rng(0)
    counts, label = rng.poisson(1.5, (50, 7)), rng.integers(0, 4, 50)
    adata = anndata.AnnData(
        counts.astype(float),
        obs=pd.DataFrame({"k": pd.Categorical(label)}, index=map(str, range(50))),
    )
    expected = sc.get.aggregate(adata, by="k", func="sum").layers["sum"]
    np.testing.assert_array_equal(group_totals(counts, label[:, None].tolist(), 4), expected)


def test_whole_totals_are_exact_beyond_what_floating_point_holds() -> None:
    counts = np.array([[2**53 - 1], [2**53 - 1], [1]], dtype=np.int64)
    begin = np.zeros((1, 1), dtype=np.int64)
    assert group_totals(counts, [[0]] * 3, 1, begin=begin)[0, 0] == 2**54 - 1


def test_cells_count_in_each_of_their_groups_as_often_as_told() -> None:
    found = group_totals([[1.0], [10.0]], [[0, 1], [1]], 3, times=[[2, 0], [3]])
    assert found.ravel().tolist() == [2, 30, 0]


def test_totals_of_two_parts_go_on_to_those_of_all_cells() -> None:
    rng = np.random.default_rng(1)
    x, groups = rng.normal(size=(20, 3)), rng.integers(0, 2, (20, 1)).tolist()
    first = group_totals(x[:8], groups[:8], 2)
    np.testing.assert_array_equal(
        group_totals(x[8:], groups[8:], 2, begin=first), group_totals(x, groups, 2)
    )


@given(SIZES, st.data())
def test_weights_are_proportional_to_the_harmonic_mean_of_both_arms(n0, data) -> None:
    n1 = data.draw(st.lists(st.integers(0, 30), min_size=len(n0), max_size=len(n0)))
    exact = [
        Fraction(a * b, a + b) if a and b else Fraction(0) for a, b in zip(n0, n1, strict=True)
    ]
    found = batch_weights(n0, n1)
    if not sum(exact):
        assert np.isnan(found).all()
        return
    expected = [float(weight / sum(exact)) for weight in exact]
    np.testing.assert_allclose(found, expected, rtol=1e-14)


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_one_batch_weighs_one_exactly(n0: int, n1: int) -> None:
    assert batch_weights([n0], [n1]).tolist() == [1.0]


def test_weighted_difference_of_means_is_the_least_squares_coefficient() -> None:
    rng = np.random.default_rng(2)
    batch, arm = rng.integers(0, 3, 60), rng.integers(0, 2, 60)
    y = rng.normal(batch + 0.5 * arm)
    design = np.column_stack([arm, *(batch == b for b in range(3))]).astype(float)
    coefficient = np.linalg.lstsq(design, y, rcond=None)[0][0]
    sizes = [[np.count_nonzero((batch == b) & (arm == k)) for b in range(3)] for k in (0, 1)]
    means = [[y[(batch == b) & (arm == k)].mean() for b in range(3)] for k in (0, 1)]
    found, low, high = weighted_difference(*means, batch_weights(*sizes))
    assert found == pytest.approx(coefficient, rel=1e-12)
    assert found == high - low


def test_batches_that_weigh_nothing_may_have_no_value() -> None:
    assert weighted_difference([1.0, np.nan], [3.0, np.nan], [1.0, 0.0]) == (2.0, 1.0, 3.0)


def test_log_of_a_mean_keeps_small_means() -> None:
    assert log_of_mean(0.0) == 0
    assert log_of_mean(1e-20, 2.0) == 2e-20
    assert log_of_mean(np.e - 1) == pytest.approx(1, rel=1e-15)


@given(st.integers(1, 40), st.integers(1, 200), st.integers(0, 5))
def test_draws_of_a_group_depend_on_seed_name_and_size_only(n: int, size: int, seed: int) -> None:
    times = bootstrap_times(n, size, seed, "KLF1|rep1")
    assert times.shape == (n,)
    assert times.sum() == size
    np.testing.assert_array_equal(times, bootstrap_times(n, size, seed, "KLF1|rep1"))


def test_draws_are_uniform_and_differ_between_groups_and_seeds() -> None:
    times = bootstrap_times(10, 100_000, 0, "KLF1")
    # Binomial with mean 10,000 and standard deviation 95.
    assert np.abs(times - 10_000).max() < 5 * 95
    assert not np.array_equal(times, bootstrap_times(10, 100_000, 1, "KLF1"))
    assert not np.array_equal(times, bootstrap_times(10, 100_000, 0, "GATA1"))
