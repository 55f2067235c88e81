"""Grouping of guide counts and the gate before every fit."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

import reference.mixtures
from crispyx._stats.mixtures import Bins, GuideColumns, gate


def columns_of(dense: np.ndarray) -> GuideColumns:
    matrix = sp.csc_matrix(dense)
    ptr = matrix.indptr.astype(np.int64)
    return GuideColumns(dense.shape[0], ptr, matrix.indices, matrix.data.astype(np.int64))


@given(
    st.lists(st.lists(st.integers(0, 2**40), max_size=60), max_size=5),
    st.sampled_from([1, 2]),
)
def test_distinct_keys_are_those_of_numpy(guides: list[list[int]], n_threads: int) -> None:
    ptr = np.concatenate([[0], np.cumsum([len(keys) for keys in guides])]).astype(np.int64)
    keys = np.array([key for guide in guides for key in guide], dtype=np.int64)
    given_keys = keys.copy()
    bins = Bins.of(ptr, keys, n_threads)
    assert np.array_equal(keys, given_keys)
    for g, guide in enumerate(guides):
        distinct, n = np.unique(np.array(guide, dtype=np.int64), return_counts=True)
        assert np.array_equal(bins.keys[bins.ptr[g] : bins.ptr[g + 1]], distinct)
        assert np.array_equal(bins.n[bins.ptr[g] : bins.ptr[g + 1]], n)
    # Every key finds its own bin again.
    found = bins.spread(np.arange(len(bins.keys), dtype=np.float64), ptr, keys, n_threads)
    assert np.array_equal(bins.keys[found.astype(np.int64)], keys)


def test_long_guides_are_sorted() -> None:
    keys = np.random.default_rng(2).integers(0, 1000, 5000)
    bins = Bins.of(np.array([0, 5000]), keys, 1)
    distinct, n = np.unique(keys, return_counts=True)
    assert np.array_equal(bins.keys, distinct)
    assert np.array_equal(bins.n, n)


@pytest.mark.parametrize(
    ("counts", "status"),
    [
        ([0, 0, 0, 0], "no_counts"),
        ([0, 50, 0, 0], "too_few"),
        ([1, 1, 1, 0], "no_separation"),
        ([7, 7, 7, 7], "no_separation"),
        ([9, 60, 0, 0], "ok"),
    ],
)
def test_gate_says_what_the_reference_says(counts: list[int], status: str) -> None:
    assert gate(columns_of(np.array([counts]).T)).tolist() == [status]
    assert (reference.mixtures.gate(np.array(counts)) or "ok") == status
