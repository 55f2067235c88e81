"""The other axis of a matrix is the same from memory and from a scratch file."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from layouts import sparse_parts
from strategies import matrices

from crispyx._io.segments import MAX_SEGMENT_MAJOR, SegmentStore
from crispyx._kernels.layout import CompressedBlock


def blocks_of(values: np.ndarray, cuts: list[int]) -> list[CompressedBlock]:
    """Cut the rows of a matrix into blocks, each of the narrowest type that holds its values."""
    edges = sorted({0, len(values), *cuts})
    blocks = []
    for start, stop in pairwise(edges):
        data, indices, ptr = sparse_parts(values[start:stop], "csr", stored_zeros=True)
        narrow = data.astype(np.float32)
        data = narrow if np.array_equal(narrow, data) else data
        blocks.append(CompressedBlock(start, stop, data, indices.astype("i4"), ptr.astype("i8")))
    return blocks


@given(
    matrices(9, 4),
    st.lists(st.integers(1, 8)),
    st.lists(st.booleans(), min_size=9, max_size=9),
    st.booleans(),
)
def test_columns_are_those_of_the_rows_kept(values, cuts, use, on_disk: bool) -> None:
    store = SegmentStore(4, Path("/tmp") if on_disk else None)
    use = np.array(use)
    for block in blocks_of(values, cuts):
        store.append(block, use[block.start : block.stop])
    expected = np.where(use[:, None], values, 0)
    for start in range(4):
        for stop in range(start + 1, 5):
            block = store.block(start, stop)
            parts = (block.values, block.minor, block.ptr)
            found = sp.csc_matrix(parts, shape=(9, stop - start))
            np.testing.assert_array_equal(found.toarray(), expected[:, start:stop])
            # Stored zeros are dropped, and the rows of a column come in order.
            assert len(block.values) == np.count_nonzero(expected[:, start:stop])
            assert found.has_sorted_indices
    store.close()


def test_memory_and_scratch_file_give_the_same_arrays(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.poisson(1, (300, 20)) * rng.random((300, 1))
    stores = [SegmentStore(20), SegmentStore(20, tmp_path)]
    for block in blocks_of(values, [64, 65, 200]):
        for store in stores:
            store.append(block)
    for start in range(0, 20, 3):
        memory, disk = (store.block(start, min(start + 3, 20)) for store in stores)
        for name in ("values", "minor", "ptr"):
            one, other = getattr(memory, name), getattr(disk, name)
            assert one.dtype == other.dtype
            assert one.tobytes() == other.tobytes()
    for store in stores:
        store.close()
    assert list(tmp_path.iterdir()) == []


def test_last_row_of_the_longest_segment_keeps_its_number() -> None:
    n = MAX_SEGMENT_MAJOR
    store = SegmentStore(1)
    ptr = np.concatenate([np.zeros(n, dtype=np.int64), [1]])
    one = np.ones(1, dtype=np.float32)
    for start in (0, n):
        store.append(CompressedBlock(start, start + n, one, np.zeros(1, dtype=np.int32), ptr))
    np.testing.assert_array_equal(store.block(0, 1).minor, [n - 1, 2 * n - 1])


@pytest.mark.parametrize("kept", [0, 1])
def test_wide_values_widen_only_where_they_are_kept(kept: int) -> None:
    store = SegmentStore(2)
    block = CompressedBlock(
        0,
        1,
        np.array([1.0, 2.0**40 + 1]),
        np.array([0, 1], dtype=np.int32),
        np.array([0, 2], dtype=np.int64),
    )
    store.append(block)
    assert store.block(kept, kept + 1).values.tolist() == [block.values[kept]]
