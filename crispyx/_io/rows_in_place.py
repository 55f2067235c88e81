"""Rows of a CSR matrix where they lie: in memory, or in a file that is mapped into it.

A matrix that is stored in one piece needs no copy turned around: a block of genes is a stretch of
every row, and all rows are visited once per block, group after group.
"""

from __future__ import annotations

import mmap
import os
import weakref
from typing import Any

import numpy as np

from crispyx._io.compressed import CompressedStorage
from crispyx._io.stored_array import ContiguousArray
from crispyx._kernels import bus_guard
from crispyx._kernels import grouped_rows as kernel
from crispyx._kernels.layout import GroupedGenes, Membership
from crispyx.errors import InputError

VALUES = "f4 f8"
NUMBERS = "b1 i1 u1 i2 u2 f2 i4 u4 f4 i8 u8 f8"
INDICES = "i4 i8"
# Of the values, and of the runs, that are copied at a time: visiting every row costs as much as
# copying some values of each, so blocks are cut from wider panels.
PANEL_BYTES = 1 << 26
BYTES_PER_RUN = 16


def mapped(storage: Any, kinds: str = VALUES) -> CompressedStorage | None:
    """Return the storage with arrays that are addressed directly; None where that cannot be.

    Parameters
    ----------
    storage : Storage
        The matrix.
    kinds : str
        Types its values may have.
    """
    if type(storage) is not CompressedStorage:  # a selection of columns is not in one piece
        return None
    data, indices = _addressed(storage.data, kinds), _addressed(storage.indices, INDICES)
    if data is None or indices is None or storage.indptr[-1] > len(data):
        return None
    shape = storage.n_major, storage.n_minor
    return CompressedStorage(data, indices, storage.indptr, *shape, storage.where, storage.layout)


def require_whole(storage: CompressedStorage) -> None:
    """Raise when a file that a storage of :func:`mapped` lies in was cut short meanwhile.

    Raises
    ------
    InputError
        Zeros were read in place of what is gone.
    """
    maps = [a for a in (storage.data, storage.indices) if isinstance(a, MappedArray)]
    if any(bus_guard.has_faulted(array.place) for array in maps):
        raise InputError(
            f"{storage.where} was cut short while it was read; copy the file again, and leave it "
            "alone until the run has ended"
        )


def _addressed(array: Any, kinds: str) -> np.ndarray | None:
    plain = isinstance(array, (np.ndarray, ContiguousArray))
    array = getattr(array, "dataset", array)
    if not plain or array.dtype.str[1:] not in kinds or not array.dtype.isnative or not array.size:
        return None
    if isinstance(array, np.ndarray):
        return array if array.flags.c_contiguous else None
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
    _mmap: mmap.mmap

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

    def let_go(self, start: int, stop: int) -> None:
        """Take a part out of memory; it is read again when it is touched again."""
        if not hasattr(mmap, "MADV_DONTNEED"):
            return
        before = self.offset % mmap.ALLOCATIONGRANULARITY  # of the mapping, which begins on a page
        first = -(-(before + start * self.itemsize) // mmap.PAGESIZE) * mmap.PAGESIZE
        last = (before + stop * self.itemsize) // mmap.PAGESIZE * mmap.PAGESIZE
        if last > first:
            self._mmap.madvise(mmap.MADV_DONTNEED, first, last - first)


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
        self._storage = storage
        values, genes = np.asarray(storage.data), np.asarray(storage.indices)
        group_ptr = np.concatenate([[0], np.cumsum(membership.sizes)])
        self._matrix = values, genes, storage.indptr, cells, group_ptr
        self._membership = membership
        self._stored_zeros = stored_zeros
        self._n_threads = n_threads
        self._counts = np.empty((len(membership.sizes), storage.n_minor), dtype=np.int32)
        kernel.count_genes(*self._matrix, stored_zeros, self._counts, n_threads)
        self._n_before = np.concatenate([[0], np.cumsum(self._counts.sum(axis=0, dtype=np.int64))])
        self._places = np.empty((len(membership.sizes), 0), dtype=np.int64)
        self._room = np.empty(0, dtype=values.dtype)
        self.rewind(storage.n_minor)

    def rewind(self, stop: int) -> None:
        """Go back to the first gene; blocks come in rising order only, up to gene ``stop``."""
        _, _, ptr, cells, _ = self._matrix
        self._begin = ptr[cells]
        self._first = self._behind = 0  # genes of the panel
        self._stop = stop

    def block(self, start: int, stop: int, sizes: np.ndarray, target_sum: float) -> GroupedGenes:
        """Return genes ``start`` to ``stop``; a later block overwrites their values.

        Parameters
        ----------
        start, stop : int
            First gene and one past the last.
        sizes : numpy.ndarray (n_cells,) float64
            Library sizes, for ``log1p(value * target_sum / size)``; without any, the values.
        target_sum : float
            See there.
        """
        if stop > self._behind:
            self._fill(start, stop, sizes, target_sum)
        run_ptr = self._run_ptr[start - self._first : stop - self._first]
        sizes, pooled = self._membership.sizes, self._membership.pooled
        return GroupedGenes(start, stop, self._room, run_ptr, sizes, pooled)

    def _fill(self, start: int, stop: int, sizes: np.ndarray, target_sum: float) -> None:
        """Copy a panel of blocks, the first of which is genes ``start`` to ``stop``."""
        n_groups = len(self._counts)
        dtype = np.dtype(np.float64) if len(sizes) else self._matrix[0].dtype
        limit = self._n_before[start] + PANEL_BYTES // dtype.itemsize
        behind = int(np.searchsorted(self._n_before, limit, side="right")) - 1
        behind = min(behind, start + PANEL_BYTES // (BYTES_PER_RUN * n_groups), self._stop)
        if behind < self._stop:  # whole blocks
            behind = start + max(1, (behind - start) // (stop - start)) * (stop - start)
        self._first, self._behind = start, behind
        n_genes = self._behind - start
        if self._places.shape[1] != n_genes:
            self._places = np.empty((n_groups, n_genes), dtype=np.int64)
            self._run_ptr = np.empty((n_genes, n_groups + 1), dtype=np.int64)
        kernel.place_runs(self._counts, start, self._places, self._run_ptr, self._n_threads)
        n_values = int(self._run_ptr[-1, -1])
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
        require_whole(self._storage)
