"""A sparse matrix with its vectors in another order, or stored by the other axis, in a stream.

The number of values of every output vector is found first. Then the input is passed over and its
values are put into their places in a panel: as many consecutive output vectors as the memory budget
holds, one pass for each panel. A matrix in one piece that memory holds is turned around where it
lies instead. Values are moved as they are stored, zeros included.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import cached_property

import numpy as np

from crispyx._io.compressed import CompressedStorage
from crispyx._io.matrix import READ_VALUES, STREAM_VALUES, Storage
from crispyx._io.other_axis import SHARES, OtherAxis
from crispyx._kernels import rearrange as kernel
from crispyx._kernels.layout import CompressedBlock
from crispyx._run.budget import require
from crispyx._run.prefetch import prefetch
from crispyx._run.threads import resolve_threads
from crispyx.errors import InputError

BYTES_PER_READ = 40  # a value being read: stored, converted, checked; or two blocks that wait
BYTES_PER_VECTOR = 64  # pointers and counts of an output vector, for two threads
BLOCKS = 3  # being filled, waiting and being written, where the input stays where it is


class Rearranged:
    """The rearranged matrix.

    Parameters
    ----------
    storage : CompressedStorage or DenseStorage
        The input; of a dense matrix the zeros are left out.
    turned : bool
        The output is stored by the other axis.
    place : numpy.ndarray (n_output,) or None
        Output vector that each vector of the output's axis becomes, a permutation; None keeps the
        order.
    budget : int
        Bytes that may be used.
    max_major : int
        Input vectors read at a time, at most.

    Raises
    ------
    MemoryBudgetError
        Not even one output vector at a time fits.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        turned: bool,
        place: np.ndarray | None,
        budget: int,
        max_major: int,
    ) -> None:
        self._storage = storage
        self._turned = turned
        self.n_vectors = storage.n_minor if turned else storage.n_major
        self.dtype = storage.dtype.newbyteorder("=")
        self._reordered = place is not None
        if place is None:
            place = np.arange(self.n_vectors)
        self._place = place.astype(np.int32)
        fixed = BYTES_PER_VECTOR * self.n_vectors
        self._max_values = max(1, min(STREAM_VALUES, (budget - fixed) // (4 * BYTES_PER_READ)))
        self._max_major = max_major
        self._budget = budget - fixed - 2 * BYTES_PER_READ * self._max_values

    @cached_property
    def ptr(self) -> np.ndarray:
        """Where each output vector starts (n_vectors + 1,) int64; found by a pass if need be."""
        if self._in_place is not None:
            return self._in_place.ptr
        counts = np.zeros(self.n_vectors, dtype=np.int64)
        if self._turned:
            counts[self._place] = self._count_minor()
        elif isinstance(self._storage, CompressedStorage):
            counts[self._place] = np.diff(self._storage.indptr)
        else:
            for block in self._blocks():
                counts[self._place[block.start : block.stop]] = np.diff(block.ptr)
        return np.concatenate([[0], np.cumsum(counts)])

    @cached_property
    def _in_place(self) -> OtherAxis | None:
        """The matrix where it lies, if it can be turned around there and memory can hold it."""
        storage = self._storage
        if not self._turned or self._reordered or not isinstance(storage, CompressedStorage):
            return None
        n_threads = resolve_threads()
        # Pages of a mapped file count as memory of the process as well.
        left = self._budget - self._bytes_per_value * storage.n_stored
        left -= 8 * SHARES * n_threads * self.n_vectors
        if BLOCKS * self._bytes_per_value * min(READ_VALUES, storage.n_stored) > left:
            return None
        there = OtherAxis.of(storage, n_threads)
        if there is None:
            return None
        longest = int(np.diff(there.ptr).max(initial=0))
        return there if BLOCKS * self._bytes_per_value * longest <= left else None

    @property
    def n_blocks(self) -> int:
        """About how many blocks there will be."""
        return max(1, self.n_values // (STREAM_VALUES if self._in_place is None else READ_VALUES))

    @property
    def n_values(self) -> int:
        """Number of values."""
        return int(self.ptr[-1])

    def blocks(self, first: int = 0) -> Iterator[CompressedBlock]:
        """Yield blocks of output vectors from ``first`` on, values in the type of the input.

        Raises
        ------
        InputError
            The input is damaged, or changed while it was read.
        """
        if self._in_place is not None:
            yield from self._in_place.blocks(first, READ_VALUES)
            return
        ptr = self.ptr
        longest = int(np.diff(ptr).max(initial=0)) * self._bytes_per_value
        require(3 * longest, self._budget, f"{self._storage.where}: rearranging")
        # One panel being filled, one being written, and room to breathe.
        most = max(1, self._budget // (3 * self._bytes_per_value))
        while first < self.n_vectors:
            limit = int(np.searchsorted(ptr, ptr[first] + most, side="right")) - 1
            stop = min(max(limit, first + 1), self.n_vectors)
            yield from self._panel(first, stop)
            first = stop

    @property
    def _bytes_per_value(self) -> int:
        return self.dtype.itemsize + 4

    def _blocks(self) -> Iterator[CompressedBlock]:
        return self._storage.blocks(
            0,
            self._storage.n_major,
            max_values=self._max_values,
            max_major=self._max_major,
            as_stored=True,
        )

    def _count_minor(self) -> np.ndarray:
        n_threads = resolve_threads()
        counts = np.zeros((n_threads, self.n_vectors), dtype=np.int64)
        if isinstance(self._storage, CompressedStorage):
            parts = self._storage.minor_blocks(max_values=self._max_values)
        else:
            parts = (block.minor for block in self._blocks())
        for minor in parts:
            edges = np.linspace(0, len(minor), n_threads + 1).astype(np.int64)
            kernel.count_minor(minor, edges, counts, n_threads)
        return counts.sum(axis=0)

    def _panel(self, first: int, stop: int) -> Iterator[CompressedBlock]:
        ptr = self.ptr[first : stop + 1] - self.ptr[first]
        raw = np.dtype(f"u{self.dtype.itemsize}")
        values, minor = np.empty(ptr[-1], dtype=raw), np.empty(ptr[-1], dtype=np.int32)
        (self._turn if self._turned else self._move)(first, stop, ptr, values, minor)
        start = 0
        while start < stop - first:
            limit = int(np.searchsorted(ptr, ptr[start] + self._max_values, side="right")) - 1
            end = min(max(limit, start + 1), stop - first)
            span = slice(int(ptr[start]), int(ptr[end]))
            yield CompressedBlock(
                first + start,
                first + end,
                values[span].view(self.dtype),
                minor[span],
                ptr[start : end + 1] - ptr[start],
            )
            start = end

    def _turn(
        self, first: int, stop: int, ptr: np.ndarray, values: np.ndarray, minor: np.ndarray
    ) -> None:
        n_threads = resolve_threads()
        shares = np.linspace(0, ptr[-1], n_threads + 1)[1:-1]
        cuts = np.searchsorted(ptr, shares)
        edges = np.array([first, *(first + cuts), stop], dtype=np.int64)
        cursor = self.ptr[:-1] - self.ptr[first]
        with closing(prefetch(self._blocks())) as blocks:
            for block in blocks:
                kernel.turn(
                    block.values.view(values.dtype),
                    block.minor,
                    block.ptr,
                    block.start,
                    self._place,
                    edges,
                    cursor,
                    values,
                    minor,
                    n_threads,
                )
        self._require_same(np.array_equal(cursor[first:stop], ptr[1:]))

    def _move(
        self, first: int, stop: int, ptr: np.ndarray, values: np.ndarray, minor: np.ndarray
    ) -> None:
        for block in self._blocks():
            place = self._place[block.start : block.stop] - first
            inside = (place >= 0) & (place < stop - first)
            if not inside.any():
                continue
            places = place[inside]
            n_values = np.diff(block.ptr)[inside]
            self._require_same(np.array_equal(n_values, ptr[places + 1] - ptr[places]))
            slots = np.full(block.n_major, -1, dtype=np.int64)
            slots[inside] = ptr[places]
            kernel.place_vectors(
                block.values.view(values.dtype),
                block.minor,
                block.ptr,
                slots,
                values,
                minor,
                resolve_threads(),
            )

    def _require_same(self, same: bool) -> None:
        if not same:
            raise InputError(f"{self._storage.where} changed while it was read")
