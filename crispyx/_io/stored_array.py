"""Arrays of an HDF5 file, read by worker threads beside HDF5.

HDF5 reads and decompresses under one lock, on one core. Where the file itself tells the place of
every byte, it is read directly (``pread``) and decompressed by several threads. Whatever is unusual
(another filter, a place that is not plain, a chunk that does not decompress) is left to h5py, so
that the values, and the errors of damaged files, are the same.
"""

from __future__ import annotations

import itertools
import os
import weakref
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import h5py
import numpy as np

from crispyx._io.chunk_filters import ChunkError, Filters
from crispyx._run.threads import resolve_threads
from crispyx._run.workers import in_parallel

MIN_PART = 1 << 20  # bytes of a contiguous read that are worth a thread
MAX_KEPT = 64 << 20  # bytes of decompressed chunks kept for the next block


def stored_array(array: Any) -> Any:
    """Return an array that reads an HDF5 dataset in parallel; anything else as it is."""
    if not isinstance(array, h5py.Dataset) or not _is_plain(array):
        return array
    if array.chunks is None:
        return array if array.id.get_offset() is None else ContiguousArray(array)
    filters = Filters.of(array)
    known = filters is not None and hasattr(array.id, "chunk_iter")
    return ChunkedArray(array, filters) if known else array  # type: ignore[arg-type]


def is_compressed(array: Any) -> bool:
    """Tell whether reading the array means decompressing it."""
    if isinstance(array, ChunkedArray):
        return bool(array.filters.codes)
    if isinstance(array, h5py.Dataset):
        return array.id.get_create_plist().get_nfilters() > 0
    return False


def _is_plain(dataset: h5py.Dataset) -> bool:
    """Tell whether the bytes in the file are those of the NumPy type, in an ordinary file."""
    return (
        _is_at_its_path(dataset.file)
        and dataset.ndim in (1, 2)
        and dataset.size > 0
        and dataset.dtype.kind in "biuf"
        and not dataset.is_virtual
        and not dataset.external
        and dataset.id.get_type() == h5py.h5t.py_create(dataset.dtype, logical=True)
    )


def _is_at_its_path(file: h5py.File) -> bool:
    if file.driver != "sec2" or file.userblock_size:
        return False
    try:
        return os.path.samestat(os.stat(file.filename), os.fstat(file.id.get_vfd_handle()))
    except OSError:
        return False


class StoredArray(ABC):
    """A dataset that is sliced along its first axis.

    Parameters
    ----------
    dataset : h5py.Dataset
        The array in the file; asked for everything that is no plain slice.
    """

    def __init__(self, dataset: h5py.Dataset) -> None:
        self.dataset = dataset
        self.shape: tuple[int, ...] = dataset.shape
        self.dtype: np.dtype = dataset.dtype
        # Opened anew: a duplicate of HDF5's descriptor would keep its lock on the file.
        self._handle = os.open(dataset.file.filename, os.O_RDONLY)
        weakref.finalize(self, os.close, self._handle)

    def __getitem__(self, key: Any) -> np.ndarray:
        if not isinstance(key, slice) or key.step not in (None, 1):
            return self.dataset[key]
        start, stop, _ = key.indices(self.shape[0])
        if stop <= start:
            return np.empty((0, *self.shape[1:]), dtype=self.dtype)
        try:
            return self._read(start, stop)
        except (ChunkError, OSError):
            return self.dataset[start:stop]

    @abstractmethod
    def _read(self, start: int, stop: int) -> np.ndarray:
        """Return rows ``start`` to ``stop``."""

    def _fill(self, out: memoryview, offset: int) -> None:
        while out:  # a read may be cut short, by a signal or beyond 2 GB
            n_read = os.preadv(self._handle, [out], offset)
            if not n_read:
                raise ChunkError("the file ends before the array does")
            out, offset = out[n_read:], offset + n_read


class ContiguousArray(StoredArray):
    """An array that lies in the file in one piece."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        super().__init__(dataset)
        self._offset = int(dataset.id.get_offset())
        self._width = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))

    def _read(self, start: int, stop: int) -> np.ndarray:
        out = np.empty((stop - start, *self.shape[1:]), dtype=self.dtype)
        target = out.reshape(-1).view(np.uint8).data
        n_parts = max(1, min(resolve_threads(), len(target) // MIN_PART))
        edges = [len(target) * part // n_parts for part in range(n_parts + 1)]
        place = self._offset + start * self._width

        def fill(part: tuple[int, int]) -> None:
            self._fill(target[part[0] : part[1]], place + part[0])

        in_parallel(fill, list(itertools.pairwise(edges)))
        return out


@dataclass(frozen=True)
class _ChunkPlaces:
    """Where the chunks lie: arrays over the grid of chunks; size 0 for one that is not there."""

    offsets: np.ndarray
    sizes: np.ndarray
    masks: np.ndarray


class ChunkedArray(StoredArray):
    """An array in compressed chunks.

    Chunks at the end of one read are kept for the next one, which starts in their middle.

    Parameters
    ----------
    dataset : h5py.Dataset
        The array in the file.
    filters : Filters
        How its chunks are compressed.
    """

    def __init__(self, dataset: h5py.Dataset, filters: Filters) -> None:
        super().__init__(dataset)
        self.filters = filters
        self._chunk: tuple[int, ...] = dataset.chunks
        self._n_bytes = self.dtype.itemsize * int(np.prod(self._chunk, dtype=np.int64))
        self._kept: dict[tuple[int, ...], np.ndarray] = {}

    @cached_property
    def _places(self) -> _ChunkPlaces:
        grid = tuple(-(-n // c) for n, c in zip(self.shape, self._chunk, strict=True))
        found = _ChunkPlaces(*(np.zeros(grid, dtype=np.int64) for _ in range(3)))

        def note(chunk: Any) -> None:
            place = tuple(o // c for o, c in zip(chunk.chunk_offset, self._chunk, strict=True))
            found.offsets[place] = chunk.byte_offset
            found.sizes[place] = chunk.size
            found.masks[place] = chunk.filter_mask

        try:
            self.dataset.id.chunk_iter(note)
        except (RuntimeError, IndexError) as error:  # damaged; what cannot be read is an OSError
            raise OSError(str(error)) from error
        return found

    def _read(self, start: int, stop: int) -> np.ndarray:
        out = np.empty((stop - start, *self.shape[1:]), dtype=self.dtype)
        step = self._chunk[0]
        others = [range(n) for n in self._places.sizes.shape[1:]]
        wanted = list(itertools.product(range(start // step, -(-stop // step)), *others))
        before, self._kept = self._kept, {}
        # The last chunks are wanted again when this read ends in their middle.
        last = stop // step if stop % step and stop < self.shape[0] else -1
        keep = self._n_bytes * int(np.prod([len(other) for other in others], dtype=np.int64))

        def decode(places: list[tuple[int, ...]]) -> None:
            for place in places:
                if not self.filters.codes and out.ndim == 1:
                    self._copy_plain(place, out, start)
                    continue
                values = before.get(place)
                if values is None:
                    values = self._decoded(place)
                self._copy(values, place, out, start)
                if place[0] == last and keep <= MAX_KEPT:
                    self._kept[place] = values

        n_parts = min(len(wanted), 4 * resolve_threads())
        in_parallel(decode, [wanted[part::n_parts] for part in range(n_parts)])
        return out

    def _copy(
        self, values: np.ndarray, place: tuple[int, ...], out: np.ndarray, start: int
    ) -> None:
        """Copy what a chunk and the read have in common; chunks at the edges reach beyond it."""
        into, taken = [], []
        for axis, (index, size) in enumerate(zip(place, self._chunk, strict=True)):
            first = index * size - (start if axis == 0 else 0)
            begin, end = max(first, 0), min(first + size, out.shape[axis])
            into.append(slice(begin, end))
            taken.append(slice(begin - first, end - first))
        out[tuple(into)] = values[tuple(taken)]

    def _copy_plain(self, place: tuple[int, ...], out: np.ndarray, start: int) -> None:
        """Read the part of a chunk that is wanted, of an array without filters, into its place."""
        first = place[0] * self._chunk[0] - start
        begin, end = max(first, 0), min(first + self._chunk[0], len(out))
        if self._places.sizes[place] != self._n_bytes:
            out[begin:end] = self.dataset.fillvalue
            return
        skipped = (begin - first) * self.dtype.itemsize
        target = out[begin:end].view(np.uint8).data
        self._fill(target, int(self._places.offsets[place]) + skipped)

    def _decoded(self, place: tuple[int, ...]) -> np.ndarray:
        values = np.empty(self._chunk, dtype=self.dtype)
        size = int(self._places.sizes[place])
        if not size:
            values[...] = self.dataset.fillvalue
            return values
        mask = int(self._places.masks[place])
        if self.filters.codes and size == self._n_bytes and not mask:
            # Not smaller than before: HDF5 can be told to leave chunks at the edges as they are.
            raise ChunkError("a chunk that may not be compressed")
        packed = bytearray(size)
        self._fill(memoryview(packed), int(self._places.offsets[place]))
        self.filters.undo(packed, mask, values.reshape(-1).view(np.uint8))
        return values
