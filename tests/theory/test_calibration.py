"""The definitions of the calibration study against SciPy, fractions and closed forms."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, chi2, chisquare, kstest, nbinom

from reference.calibration import (
    KINDS,
    binomial_interval,
    cell_generator,
    groups_that_fit,
    inflation,
    quantiles,
    random_split,
    ranks_of,
    share_below,
    split_generator,
    split_within_batches,
    thinned,
)


@given(st.integers(1, 5_000), st.floats(0, 1), st.sampled_from([0.9, 0.95, 0.99]))
def test_the_interval_is_that_of_clopper_and_pearson(n: int, share: float, level: float) -> None:
    hits = round(share * n)
    expected = binomtest(hits, n).proportion_ci(level, "exact")
    # SciPy's root finder stops at about 1e-11.
    assert binomial_interval(hits, n, level) == pytest.approx(tuple(expected), rel=1e-9, abs=1e-11)


def test_the_ends_of_the_interval_leave_half_a_percent_on_either_side() -> None:
    low, high = (Fraction(end) for end in binomial_interval(3, 20))

    def at_least(p: Fraction, hits: int) -> Fraction:
        return sum((comb(20, k) * p**k * (1 - p) ** (20 - k) for k in range(hits, 21)), Fraction())

    assert float(at_least(low, 3)) == pytest.approx(0.005, rel=1e-12)
    assert float(1 - at_least(high, 4)) == pytest.approx(0.005, rel=1e-12)
    assert binomial_interval(0, 0) == (0.0, 1.0)
    assert binomial_interval(0, 100) == (0.0, pytest.approx(1 - 0.005 ** (1 / 100), rel=1e-12))
    assert binomial_interval(100, 100)[1] == 1.0


def test_the_interval_covers_at_least_as_often_as_it_says() -> None:
    n, p = 50, 0.05
    hits = np.arange(n + 1)
    chance = np.array([comb(n, k) * p**k * (1 - p) ** (n - k) for k in hits.tolist()])
    ends = np.array([binomial_interval(k, n) for k in hits.tolist()])
    covered = (ends[:, 0] <= p) & (p <= ends[:, 1])
    assert 0.99 <= chance[covered].sum() < 1


def test_a_p_value_at_the_level_is_not_below_it() -> None:
    share, low, high = share_below([0.05, 0.049, 1.0, 0.0], 0.05)
    assert share == 0.5
    assert (low, high) == binomial_interval(2, 4)
    assert np.isnan(share_below([], 0.05)[0])


@given(st.lists(st.floats(1e-300, 1), min_size=1, max_size=31).filter(lambda p: len(p) % 2 == 1))
def test_inflation_is_the_median_chi_square_over_that_of_the_distribution(p: list[float]) -> None:
    expected = np.median(chi2.isf(p, 1)) / chi2.ppf(0.5, 1)
    # SciPy's inverse is good to about 1e-13 of its value, or of 1 where p is close to 1.
    assert inflation(p) == pytest.approx(expected, rel=1e-10, abs=1e-14)


def test_inflation_of_discrete_p_values_takes_them_as_they_are() -> None:
    assert inflation([1.0, 1.0, 1.0, 0.001]) == 0  # no chi-square above 0 in the middle
    assert inflation([0.5] * 3) == pytest.approx(1, rel=1e-14)
    assert np.isnan(inflation([]))
    assert inflation([0.0]) == np.inf


def test_quantiles_of_uniform_values_lie_within_their_envelope_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    ranks, n_draws = ranks_of(200, 12), 2_000
    assert ranks[0] == 1
    assert ranks[-1] == 200
    inside = np.zeros(len(ranks))
    for _ in range(n_draws):
        expected, observed, low, high = quantiles(rng.random(200), ranks)
        inside += (low <= observed) & (observed <= high)
    np.testing.assert_array_equal(expected, ranks / 201)
    # Standard error of a share of .99 among 2,000: .0022.
    np.testing.assert_allclose(inside / n_draws, 0.99, atol=0.0089)


def test_ends_of_the_envelope_are_those_of_the_smallest_of_n() -> None:
    _, _, low, high = quantiles(np.linspace(0, 1, 50), [1])
    # P(smallest > x) = (1 - x)^n.
    np.testing.assert_allclose([(1 - low[0]) ** 50, (1 - high[0]) ** 50], [0.995, 0.005], rtol=1e-9)


def test_every_set_of_cells_is_drawn_equally_often() -> None:
    rng = np.random.default_rng(1)
    sets = list(combinations(range(5), 2))
    drawn = [tuple(np.flatnonzero(random_split(5, [2], rng)).tolist()) for _ in range(3_000)]
    seen = [drawn.count(one) for one in sets]
    assert sum(seen) == 3_000
    assert chisquare(seen).pvalue > 1e-3  # the seed is fixed


def test_weights_are_chances_in_proportion() -> None:
    rng = np.random.default_rng(2)
    weights = [1.0, 2.0, 0.0, 3.0]
    taken = [int(np.flatnonzero(random_split(4, [1], rng, weights))[0]) for _ in range(3_000)]
    seen = np.bincount(taken, minlength=4)
    assert seen[2] == 0
    assert chisquare(seen[[0, 1, 3]], [500, 1_000, 1_500]).pvalue > 1e-3


def test_groups_have_their_sizes_in_every_batch() -> None:
    batch = np.array([0, 1] * 20 + [2] * 3)
    sizes = np.array([[3, 1, 0], [2, 4, 1]])
    labels = split_within_batches(batch, sizes, np.random.default_rng(3))
    for k, wanted in enumerate(sizes, 1):
        assert np.bincount(batch[labels == k], minlength=3).tolist() == wanted.tolist()
    with pytest.raises(ValueError, match="less than half"):
        random_split(9, [3, 2], np.random.default_rng(0))


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6),
    st.tuples(st.integers(0, 30), st.integers(0, 30)),
    st.integers(1, 4),
)
def test_half_of_the_control_is_left_in_every_batch(
    in_batch: list[tuple[int, int]], controls: tuple[int, int], most: int
) -> None:
    order = list(range(len(in_batch)))[::-1]
    chosen, sizes = groups_that_fit(in_batch, controls, order, most)
    assert 1 <= len(chosen) <= most
    assert (2 * sizes.sum(axis=0) <= controls).all()
    if (sizes == np.array(in_batch)[chosen]).all():
        assert [k for k in order if k in chosen] == chosen.tolist()
    else:  # not even one fits, and the first is cut
        fits = 2 * np.array(in_batch) <= controls
        assert not fits.all(axis=1).any()
        assert chosen.tolist() == order[:1]


def test_thinned_counts_keep_their_dispersion() -> None:
    rng = np.random.default_rng(4)
    # Size 2 is a dispersion of one half: of mean 6, and of mean 1.8 after thinning to .3.
    counts = nbinom(2, 2 / (2 + 6)).rvs(20_000, random_state=rng)
    left = thinned(counts, 0.3, rng)
    assert (left <= counts).all()
    law = nbinom(2, 2 / (2 + 1.8))
    seen = np.bincount(np.minimum(left, 8), minlength=9)
    expected = 20_000 * np.append(law.pmf(np.arange(8)), law.sf(7))
    assert chisquare(seen, expected).pvalue > 1e-3
    np.testing.assert_array_equal(thinned(counts, 1.0, rng), counts)


def test_a_split_of_one_p_value_for_each_cell_is_uniform_under_the_null() -> None:
    """A test by ranks among all splits of cells whose values differ is exact."""
    values = np.random.default_rng(5).normal(size=40)
    found = []
    for split in range(400):
        labels = random_split(40, [12], split_generator(0, "splits", split))
        draws = [
            random_split(40, [12], split_generator(1, "splits", 99 * split + k)) for k in range(99)
        ]
        means = [values[one == 1].mean() for one in (labels, *draws)]
        found.append(np.mean(np.array(means) >= means[0]))
    assert kstest(found, "uniform").pvalue > 1e-3


def test_random_numbers_of_kinds_splits_and_cells_differ() -> None:
    keys = [split_generator(0, kind, split).random() for kind in KINDS for split in range(3)]
    keys += [
        cell_generator(0, "depth", split, cell).random() for split in (0, 1) for cell in (0, 1)
    ]
    assert len(set(keys)) == len(keys)
    assert split_generator(0, "depth", 1).random() == split_generator(0, "depth", 1).random()
