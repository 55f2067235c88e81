"""Blocks of rows of a dense matrix, as compressed blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from crispyx._io.compressed import as_kernel_values, native
from crispyx._io.damage import reporting_damage
from crispyx._io.stored_array import stored_array
from crispyx._kernels import compressed as kernel
from crispyx._kernels.layout import CompressedBlock


class DenseStorage:
    """A two-dimensional HDF5 dataset or NumPy array; rows are its major axis.

    Parameters
    ----------
    array : array-like (n_major, n_minor)
        Sliced by rows, never read whole.
    where : str
        File and element, for messages.
    """

    def __init__(self, array: Any, where: str) -> None:
        self.array = stored_array(array)
        self.where = where
        self.dtype = np.dtype(array.dtype)
        self.n_major, self.n_minor = array.shape
        self.n_stored = int(self.n_major) * int(self.n_minor)

    def blocks(
        self, start: int, stop: int, *, max_values: int, max_major: int, as_stored: bool = False
    ) -> Iterator[CompressedBlock]:
        """Yield blocks of rows of at most ``max_values`` matrix entries, zeros included.

        With ``as_stored`` the values keep their type.
        """
        step = min(max_major, max(1, max_values // max(1, self.n_minor)))
        for begin in range(start, stop, step):
            end = min(begin + step, stop)
            with reporting_damage(f"{self.where}: rows {begin} to {end - 1}"):
                rows = np.asarray(self.array[begin:end])
            values = as_kernel_values(rows, self.where).reshape(rows.shape)
            n_nonzero = int(np.count_nonzero(values))
            ptr = np.empty(end - begin + 1, dtype=np.int64)
            kept = np.empty(n_nonzero, dtype=values.dtype)
            minor = np.empty(n_nonzero, dtype=np.int32)
            kernel.compress_dense(values, ptr, kept, minor)
            if as_stored:
                kept = kept.astype(native(rows[:0]).dtype, copy=False)
            yield CompressedBlock(begin, end, kept, minor, ptr)
