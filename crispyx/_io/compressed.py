"""Blocks of a CSR or CSC matrix along the axis it is stored by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from crispyx._io.damage import reporting_damage
from crispyx._io.stored_array import stored_array
from crispyx._kernels import compressed as kernel
from crispyx._kernels.layout import CompressedBlock
from crispyx.errors import InputError

EXACT_IN_FLOAT32 = 1 << 24
EXACT_IN_FLOAT64 = 1 << 53


class CompressedStorage:
    """Arrays ``data``, ``indices``, ``indptr``: HDF5 datasets or NumPy arrays.

    Parameters
    ----------
    data, indices, indptr : array-like
        As stored; sliced, never read whole (but for ``indptr``).
    n_major, n_minor : int
        Length of the axis the matrix is stored by and of the other.
    where : str
        File and element, for messages.
    layout : {"csr", "csc"}
        Which axis that is, for messages.
    """

    def __init__(
        self,
        data: Any,
        indices: Any,
        indptr: Any,
        n_major: int,
        n_minor: int,
        where: str,
        layout: str = "csr",
    ) -> None:
        self.data, self.indices = stored_array(data), stored_array(indices)
        self.n_major, self.n_minor = n_major, n_minor
        self.where = where
        self.layout = layout
        self.dtype = np.dtype(data.dtype)
        self._axes = ("row", "column") if layout == "csr" else ("column", "row")
        for name, part in (("indices", indices), ("indptr", indptr)):
            if part.dtype.kind not in "iu":
                raise InputError(
                    f"{where}: {name} holds {part.dtype} where whole numbers are needed; "
                    "the file is damaged: copy or write it again"
                )
        if data.shape != indices.shape or len(data.shape) != 1:
            raise InputError(
                f"{where}: data {data.shape} and indices {indices.shape} differ in length; "
                "the file is damaged: copy or write it again"
            )
        if indptr.shape != (n_major + 1,):
            raise InputError(
                f"{where}: indptr has shape {indptr.shape} but the matrix needs ({n_major + 1},); "
                "the file is damaged: copy or write it again"
            )
        with reporting_damage(f"{where}: indptr"):
            self.indptr = np.ascontiguousarray(indptr[...], dtype=np.int64)
        bad = kernel.check_pointers(self.indptr, data.shape[0])
        if bad >= 0:
            raise InputError(
                f"{where}: indptr runs from {self.indptr[bad]} to {self.indptr[bad + 1]} at "
                f"{self._axes[0]} {bad} of {n_major} while {data.shape[0]} values are stored; "
                "the file is damaged: copy or write it again"
            )

    def with_indices(self, indices: np.ndarray) -> CompressedStorage:
        """Return the matrix with the same indices held in another array."""
        shape = self.n_major, self.n_minor
        return CompressedStorage(self.data, indices, self.indptr, *shape, self.where, self.layout)

    @property
    def n_stored(self) -> int:
        """Number of stored values, explicit zeros included."""
        return int(self.indptr[-1] - self.indptr[0])

    def blocks(
        self, start: int, stop: int, *, max_values: int, max_major: int, as_stored: bool = False
    ) -> Iterator[CompressedBlock]:
        """Yield blocks of whole vectors, up to ``max_values`` values (a longer one alone).

        With ``as_stored`` the values keep their type, which kernels that compute do not take.
        """
        for begin, end in self._cuts(start, stop, max_values, max_major):
            yield self._read(begin, end, as_stored)

    def minor_blocks(self, *, max_values: int) -> Iterator[np.ndarray]:
        """Yield the positions alone (nnz,) int32, checked to be in range, in storage order."""
        for start, stop in self._cuts(0, self.n_major, max_values, self.n_major):
            yield self._minor(start, stop)[0]

    def _cuts(
        self, start: int, stop: int, max_values: int, max_major: int
    ) -> Iterator[tuple[int, int]]:
        while start < stop:
            limit = np.searchsorted(self.indptr, self.indptr[start] + max_values, side="right") - 1
            end = int(min(max(limit, start + 1), start + max_major, stop))
            yield start, end
            start = end

    def _minor(self, start: int, stop: int) -> tuple[np.ndarray, int, int]:
        """Return positions, and where the first stands that is out of order or a duplicate."""
        ptr = self._ptr(start, stop)
        with self._reporting(start, stop):
            stored = native(self.indices[self.indptr[start] : self.indptr[stop]])
        if stored.dtype not in (np.int32, np.int64):
            stored = stored.astype(np.int64)
        outside, unordered, duplicate = kernel.check_minor(stored, ptr, self.n_minor)
        if outside >= 0:
            vector = start + int(np.searchsorted(ptr, outside, side="right")) - 1
            raise InputError(
                f"{self.where}: {self._axes[0]} {vector} has a value in {self._axes[1]} "
                f"{stored[outside]}, but there are {self.n_minor}; the file is damaged: copy "
                "or write it again"
            )
        return stored.astype(np.int32, copy=False), unordered, duplicate

    def _ptr(self, start: int, stop: int) -> np.ndarray:
        return self.indptr[start : stop + 1] - self.indptr[start]

    def _reporting(self, start: int, stop: int) -> AbstractContextManager[None]:
        return reporting_damage(f"{self.where}: {self._axes[0]}s {start} to {stop - 1}")

    def _read(self, start: int, stop: int, as_stored: bool) -> CompressedBlock:
        with self._reporting(start, stop):
            values = native(self.data[self.indptr[start] : self.indptr[stop]])
        if not as_stored:
            values = as_kernel_values(values, self.where)
        ptr = self._ptr(start, stop)
        minor, unordered, duplicate = self._minor(start, stop)
        if unordered >= 0:
            values, minor = _sorted(values, minor, ptr)
            duplicate = kernel.check_minor(minor, ptr, self.n_minor)[2]
        if duplicate >= 0:
            vector = start + int(np.searchsorted(ptr, duplicate, side="right")) - 1
            raise InputError(
                f"{self.where}: {self._axes[0]} {vector} has two values in {self._axes[1]} "
                f"{minor[duplicate]}; call sum_duplicates() on the matrix and write it again"
            )
        return CompressedBlock(start, stop, values, minor, ptr)


def _sorted(
    values: np.ndarray, minor: np.ndarray, ptr: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    vector = np.repeat(np.arange(len(ptr) - 1), np.diff(ptr))
    order = np.lexsort((minor, vector))
    return values[order], minor[order]


def native(values: np.ndarray) -> np.ndarray:
    """Return values in the byte order of this machine, contiguous."""
    values = np.ascontiguousarray(values)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def as_kernel_values(values: np.ndarray, where: str) -> np.ndarray:
    """Return values as float32 where that is exact, else float64, contiguous.

    Raises
    ------
    InputError
        Not a number type, or integers that float64 cannot hold exactly.
    """
    values = native(values)
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind == "f":
        return values.astype(np.float32 if size <= 4 else np.float64, copy=False)
    if kind == "b" or (kind in "iu" and size <= 2):
        return values.astype(np.float32)
    if kind not in "iu":
        raise InputError(f"{where} holds {values.dtype} values; numbers are needed")
    largest = kernel.largest_magnitude(values.ravel())
    # The magnitude itself is rounded: 2^53 + 1 reads 2^53, so that only integers can tell.
    if largest >= EXACT_IN_FLOAT64 and np.any(
        (values > EXACT_IN_FLOAT64) | (values < -EXACT_IN_FLOAT64)
    ):
        raise InputError(
            f"{where} holds the integer {int(largest)}, above 2^53, which cannot be computed with "
            "exactly; are these counts?"
        )
    return values.astype(np.float32 if largest <= EXACT_IN_FLOAT32 else np.float64)


def joined(parts: list[CompressedBlock]) -> CompressedBlock:
    """Return consecutive blocks as one."""
    if len(parts) == 1:
        return parts[0]
    dtype = np.result_type(*(part.values.dtype for part in parts))
    offsets = np.cumsum([0] + [len(part.values) for part in parts])
    ptr = np.concatenate(
        [part.ptr[:-1] + offset for part, offset in zip(parts, offsets[:-1], strict=True)]
        + [offsets[-1:]]
    )
    return CompressedBlock(
        parts[0].start,
        parts[-1].stop,
        np.concatenate([part.values.astype(dtype, copy=False) for part in parts]),
        np.concatenate([part.minor for part in parts]),
        ptr.astype(np.int64),
    )
