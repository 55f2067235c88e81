"""The other axis of a matrix that lies in one piece, in memory or in a file that is mapped into it.

A block of vectors of the other axis is a stretch of every stored vector. All stored vectors are
visited once per block, each from where the block before ended: nothing but the block is copied.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from crispyx._io.compressed import CompressedStorage
from crispyx._io.matrix import READ_VALUES
from crispyx._io.rows_in_place import NUMBERS, mapped, require_whole
from crispyx._kernels import rearrange as kernel
from crispyx._kernels.layout import CompressedBlock
from crispyx._run.workers import in_parallel
from crispyx.errors import InputError

SHARES = 4  # of the stored vectors for each thread


class OtherAxis:
    """A matrix along the axis it is not stored by.

    Parameters
    ----------
    storage : CompressedStorage
        From :func:`crispyx._io.rows_in_place.mapped`.
    edges : numpy.ndarray (n_shares + 1,) int64
        Shares of the stored vectors.
    counts : numpy.ndarray (n_shares, n_minor) int64
        Values that each share has in each vector of the other axis.
    n_threads : int
        Threads of the kernel.

    Attributes
    ----------
    ptr : numpy.ndarray (n_minor + 1,) int64
        Where each vector starts.
    """

    def __init__(
        self, storage: CompressedStorage, edges: np.ndarray, counts: np.ndarray, n_threads: int
    ) -> None:
        self._storage, self._edges, self._counts = storage, edges, counts
        self._n_threads = n_threads
        self.ptr = np.concatenate([[0], np.cumsum(counts.sum(axis=0))])

    @classmethod
    def of(cls, storage: CompressedStorage, n_threads: int) -> OtherAxis | None:
        """Check the matrix and count its values; None if it is not in one piece, or not in order.

        Raises
        ------
        InputError
            The matrix is damaged.
        """
        there = mapped(storage, NUMBERS)
        if there is None:
            return None
        inner = np.linspace(there.indptr[0], there.indptr[-1], SHARES * n_threads + 1)[1:-1]
        cuts = np.searchsorted(there.indptr[:-1], inner)
        edges = np.array([0, *cuts, there.n_major], dtype=np.int64)
        counts = np.zeros((len(edges) - 1, there.n_minor), dtype=np.int64)

        def look(share: int) -> bool:
            start, stop = edges[share : share + 2].tolist()
            for block in there.blocks(
                start, stop, max_values=READ_VALUES, max_major=there.n_major, as_stored=True
            ):
                if len(block.minor) and not np.may_share_memory(block.minor, there.indices):
                    return False  # put in order, or of another type
                span = np.array([0, len(block.minor)])
                kernel.count_minor(block.minor, span, counts[share : share + 1], 1)
            return True

        if not all(in_parallel(look, range(len(counts)), n_threads)):
            return None
        return cls(there, edges, counts, n_threads)

    def blocks(self, first: int, most: int) -> Iterator[CompressedBlock]:
        """Yield blocks from vector ``first`` on, of up to ``most`` values (a longer vector alone).

        Raises
        ------
        InputError
            The matrix changed while it was read.
        """
        n_vectors = len(self.ptr) - 1
        begin = self._storage.indptr[:-1].copy()
        while first < n_vectors:
            limit = int(np.searchsorted(self.ptr, self.ptr[first] + most, side="right")) - 1
            stop = min(max(limit, first + 1), n_vectors)
            yield self._block(first, stop, begin)
            first = stop

    def _block(self, first: int, stop: int, begin: np.ndarray) -> CompressedBlock:
        storage = self._storage
        ptr = self.ptr[first : stop + 1] - self.ptr[first]
        ends = ptr[:-1] + np.cumsum(self._counts[:, first:stop], axis=0)
        cursor = ends - self._counts[:, first:stop]
        raw = np.dtype(f"u{storage.dtype.itemsize}")
        values, major = np.empty(ptr[-1], dtype=raw), np.empty(ptr[-1], dtype=np.int32)
        kernel.turn_stretches(
            np.asarray(storage.data).view(raw),
            np.asarray(storage.indices),
            storage.indptr,
            self._edges,
            first,
            begin,
            cursor,
            values,
            major,
            self._n_threads,
        )
        require_whole(storage)
        if not np.array_equal(cursor, ends):
            raise InputError(f"{storage.where} changed while it was read")
        return CompressedBlock(first, stop, values.view(storage.dtype), major, ptr)
