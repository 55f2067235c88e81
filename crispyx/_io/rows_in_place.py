"""Rows of a CSR matrix where they lie: in memory, or in a file that is mapped into it.

A matrix that is stored in one piece needs no copy turned around: a block of genes is a stretch of
every row, and all rows are visited once per block, group after group.
"""

from __future__ import annotations

import os
import weakref
from typing import Any

import h5py
import numpy as np

from crispyx._io.compressed import CompressedStorage
from crispyx._kernels import bus_guard
from crispyx._kernels import grouped_rows as kernel
from crispyx._kernels.layout import GroupedGenes, Membership
from crispyx.errors import InputError

VALUES = (np.float32, np.float64)
INDICES = (np.int32, np.int64)


def mapped(storage: Any) -> CompressedStorage | None:
    """Return the storage with arrays that are addressed directly; None where that cannot be."""
    if type(storage) is not CompressedStorage:  # a selection of columns is not in one piece
        return None
    data, indices = _addressed(storage.data, VALUES), _addressed(storage.indices, INDICES)
    if data is None or indices is None or storage.indptr[-1] > len(data):
        return None
    shape = storage.n_major, storage.n_minor
    return CompressedStorage(data, indices, storage.indptr, *shape, storage.where)


def _addressed(array: Any, kinds: tuple[type, ...]) -> np.ndarray | None:
    array = getattr(array, "dataset", array)
    if array.dtype not in kinds or not array.dtype.isnative or not array.size:
        return None
    if isinstance(array, np.ndarray):
        return array if array.flags.c_contiguous else None
    if not isinstance(array, h5py.Dataset) or array.file.driver != "sec2" or array.external:
        return None
    offset = array.id.get_offset()
    path = array.file.filename
    # A file that ends before the array would end the process when it is touched there; one that is
    # cut short later is MappedArray's business.
    if offset is None or os.path.getsize(path) < offset + array.size * array.dtype.itemsize:
        return None
    return MappedArray.of(path, array, offset)


class MappedArray(np.memmap):
    """An array of a file that does not end the process when the file is cut short."""

    place: int

    @classmethod
    def of(cls, path: str, array: Any, offset: int) -> MappedArray | None:
        """Map an HDF5 dataset; None where too many are mapped to be watched."""
        found = cls(path, dtype=array.dtype, mode="r", offset=offset, shape=array.shape)
        place = bus_guard.watch(found.ctypes.data, found.nbytes)
        if place < 0:
            return None
        found.place = place
        weakref.finalize(found, bus_guard.unwatch, place)
        return found


class RowsInPlace:
    """Grouped genes of a CSR matrix that is addressed directly.

    Parameters
    ----------
    storage : CompressedStorage
        From :func:`mapped`; checked, its rows in order.
    membership : Membership
        One group per cell at most.
    stored_zeros : bool
        The matrix holds zeros.
    n_threads : int
        Threads of the kernels.
    """

    def __init__(
        self, storage: CompressedStorage, membership: Membership, stored_zeros: bool, n_threads: int
    ) -> None:
        group = membership.group_of_cell
        assert group is not None  # one group per cell
        cells = np.argsort(group, kind="stable")[np.count_nonzero(group < 0) :].astype(np.int32)
        self._where = storage.where
        self._maps = [a for a in (storage.data, storage.indices) if isinstance(a, MappedArray)]
        values, genes = np.asarray(storage.data), np.asarray(storage.indices)
        group_ptr = np.concatenate([[0], np.cumsum(membership.sizes)])
        self._matrix = values, genes, storage.indptr, cells, group_ptr
        self._membership = membership
        self._stored_zeros = stored_zeros
        self._n_threads = n_threads
        self._counts = np.empty((len(membership.sizes), storage.n_minor), dtype=np.int32)
        kernel.count_genes(*self._matrix, stored_zeros, self._counts, n_threads)
        self._places = np.empty((len(membership.sizes), 0), dtype=np.int64)
        self._room = np.empty(0, dtype=values.dtype)
        self.rewind()

    def rewind(self) -> None:
        """Go back to the first gene; blocks come in rising order only."""
        _, _, ptr, cells, _ = self._matrix
        self._begin = ptr[cells]

    def block(self, start: int, stop: int, sizes: np.ndarray, target_sum: float) -> GroupedGenes:
        """Return genes ``start`` to ``stop``; the next block overwrites their values.

        Parameters
        ----------
        start, stop : int
            First gene and one past the last.
        sizes : numpy.ndarray (n_cells,) float64
            Library sizes, for ``log1p(value * target_sum / size)``; without any, the values.
        target_sum : float
            See there.
        """
        n_groups = len(self._counts)
        if self._places.shape[1] != stop - start:
            self._places = np.empty((n_groups, stop - start), dtype=np.int64)
        run_ptr = np.empty((stop - start, n_groups + 1), dtype=np.int64)
        kernel.place_runs(self._counts, start, self._places, run_ptr, self._n_threads)
        n_values = int(run_ptr[-1, -1])
        dtype = np.dtype(np.float64) if len(sizes) else self._matrix[0].dtype
        if self._room.dtype != dtype or len(self._room) < max(1, n_values):
            self._room = np.empty(1 + n_values + n_values // 8, dtype=dtype)
        kernel.fill_runs(
            *self._matrix,
            start,
            self._stored_zeros,
            self._begin,
            self._places,
            sizes,
            target_sum,
            self._room,
            self._n_threads,
        )
        if any(bus_guard.has_faulted(array.place) for array in self._maps):
            raise InputError(
                f"{self._where} was cut short while it was read; copy the file again, and leave it "
                "alone until the run has ended"
            )
        sizes, pooled = self._membership.sizes, self._membership.pooled
        return GroupedGenes(start, stop, self._room, run_ptr, sizes, pooled)
