"""The definition of the energy distance against SciPy, closed forms and exhaustive permutation."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import cdist

from reference.energy_distance import energy_distance, permutation_pvalue


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4), st.integers(0, 10**6))
def test_distance_is_that_of_all_pairs(n1: int, n0: int, d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n1, d)), rng.normal(0.5, 2.0, size=(n0, d))
    expected = 2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean()
    # Means near 1 are subtracted; their rounding is left.
    assert energy_distance(x, y) == pytest.approx(expected, rel=1e-12, abs=1e-13)


@given(st.integers(1, 15), st.integers(1, 15), st.integers(0, 10**6))
def test_distance_on_a_line_is_the_square_of_scipys(n1: int, n0: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=n1), rng.normal(0.5, 2.0, size=n0)
    found = energy_distance(x[:, None], y[:, None])
    assert found == pytest.approx(stats.energy_distance(x, y) ** 2, rel=1e-9, abs=1e-13)


def test_equal_clouds_have_distance_zero_whatever_their_sizes() -> None:
    points = np.random.default_rng(0).normal(size=(6, 3))
    assert energy_distance(points, np.tile(points, (3, 1))) == pytest.approx(0, abs=1e-14)


def test_a_wider_cloud_with_the_same_mean_is_seen() -> None:
    directions = np.vstack([np.eye(3), -np.eye(3)])
    # Opposite points are 2 r apart, others sqrt(2) r, and sqrt(1 + 4) = sqrt(5) or 3, 1 between.
    within = (2 + 4 * math.sqrt(2)) / 6
    between = (1 + 3 + 4 * math.sqrt(5)) / 6
    expected = 2 * between - within - 2 * within
    assert energy_distance(directions, 2 * directions) == pytest.approx(expected, rel=1e-13)


def test_p_is_the_share_of_relabelled_screens_that_are_as_far_apart() -> None:
    rng = np.random.default_rng(1)
    pool = np.concatenate([rng.normal(1.5, 1, (3, 2)), rng.normal(0, 1, (5, 2))])
    splits = [list(own) for own in combinations(range(8), 3)]
    energies = [energy_distance(pool[own], np.delete(pool, own, axis=0)) for own in splits]
    observed = energies[0]
    assert splits[0] == [0, 1, 2]
    n_as_far = sum(energy >= observed for energy in energies)
    assert permutation_pvalue(observed, energies[1:]) == n_as_far / len(splits)


def test_p_of_labels_drawn_at_random_is_uniform() -> None:
    rng = np.random.default_rng(2)
    found = []
    for _ in range(200):
        pool = rng.normal(size=(10, 2))
        energies = [
            energy_distance(pool[own], np.delete(pool, own, axis=0))
            for own in (rng.permutation(10)[:4] for _ in range(20))
        ]
        found.append(permutation_pvalue(energies[0], energies[1:]))
    # Steps of 1/20 are all that 19 permutations can show.
    assert stats.kstest(np.array(found) - rng.uniform(0, 0.05, 200), "uniform").pvalue > 0.01


def test_p_counts_ties_and_is_never_zero() -> None:
    assert permutation_pvalue(2.0, [2.0 * (1 - 1e-12), 1.0]) == pytest.approx(2 / 3)
    assert permutation_pvalue(2.0, [1.0] * 9) == pytest.approx(0.1)
    assert permutation_pvalue(2.0, []) == 1
    assert math.isnan(permutation_pvalue(math.nan, [1.0]))
