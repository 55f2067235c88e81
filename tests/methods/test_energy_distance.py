"""Compiled energy distances against the reference; threads and tiles change no bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import crispyx._stats.energy_distance as engine
import reference.energy_distance as reference


def subsets_of(n: int, k: int, n_subsets: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    drawn = [np.sort(rng.permutation(n)[:k]) for _ in range(n_subsets)]
    return np.array([np.arange(k), *drawn], dtype=np.int32)


def clouds(n1: int, n0: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0.3, 1.0, (n1, d)), rng.normal(0.0, 1.5, (n0, d))


def compiled(x: np.ndarray, y: np.ndarray, subsets: np.ndarray, n_threads: int) -> np.ndarray:
    control = engine.whole_pool(engine.padded(y), "compiled", n_threads)
    pool = engine.joined_pool(engine.padded(x), control, "compiled", n_threads)
    return engine.energies(pool, subsets, "compiled", n_threads)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 19), st.integers(0, 10**6))
def test_energies_agree_with_the_reference(n1: int, n0: int, d: int, seed: int) -> None:
    x, y = clouds(n1, n0, d, seed)
    subsets = subsets_of(n1 + n0, n1, 3, seed)
    found = compiled(x, y, subsets, 1)
    points = np.concatenate([x, y])
    expected = [
        reference.energy_distance(points[own], np.delete(points, own, axis=0)) for own in subsets
    ]
    # Sums of up to 6,400 distances, of which the energy is a small difference.
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    pool = engine.joined_pool(
        engine.padded(x), engine.whole_pool(engine.padded(y), "reference", 1), "reference", 1
    )
    by_name = engine.energies(pool, subsets, "reference", 1)
    np.testing.assert_allclose(by_name, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("d", [3, 8, 20])
def test_threads_change_no_bit(d: int) -> None:
    x, y = clouds(37, 150, d, 4)
    subsets = subsets_of(187, 37, 10, 5)
    expected = compiled(x, y, subsets, 1)
    for n_threads in (2, 3, 7):
        np.testing.assert_array_equal(compiled(x, y, subsets, n_threads), expected)


def test_columns_of_zeros_and_the_number_of_subsets_at_once_change_no_bit() -> None:
    x, y = clouds(20, 50, 8, 6)
    subsets = subsets_of(70, 20, 9, 7)
    expected = compiled(x, y, subsets, 1)
    wide = [np.hstack([cloud, np.zeros((len(cloud), 8))]) for cloud in (x, y)]
    np.testing.assert_array_equal(compiled(*wide, subsets, 1), expected)
    for k in range(len(subsets)):
        np.testing.assert_array_equal(compiled(x, y, subsets[k : k + 1], 1), expected[k : k + 1])


def test_equal_clouds_are_never_below_zero() -> None:
    points = np.random.default_rng(8).normal(size=(30, 5))
    found = compiled(points, np.tile(points, (2, 1)), np.arange(30, dtype=np.int32)[None], 2)
    assert 0 <= found[0] <= 1e-13
