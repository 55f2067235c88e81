"""Arrays of an HDF5 file whose place in the file is known, to be filled without HDF5.

A process killed while HDF5 writes may leave a file whose structure is damaged. Here the structure
is complete, and the file closed, before the first value is written; values then go straight to
their bytes. Whatever moment the process is killed at, the file stays readable and the values that
were made durable stay correct.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import h5py
import numpy as np

from crispyx._io.disk import writable_file
from crispyx._io.encode import mark, start_file
from crispyx._kernels.densify import densify
from crispyx._kernels.layout import CompressedBlock
from crispyx._kernels.strips import start_writing
from crispyx.errors import InputError

Layout = Literal["csr", "csc", "dense"]
LARGE = 1 << 20  # bytes of a write that the disk is told of at once


def create_placed(
    parent: h5py.Group, name: str, shape: tuple[int, ...], dtype: np.dtype
) -> h5py.Dataset:
    """Create a contiguous array whose bytes exist from the start."""
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_layout(h5py.h5d.CONTIGUOUS)
    settings.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    settings.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    node = h5py.h5d.create(
        parent.id,
        name.encode(),
        h5py.h5t.py_create(np.dtype(dtype), logical=True),
        h5py.h5s.create_simple(shape),
        settings,
    )
    return h5py.Dataset(node)


def places(path: Path, names: tuple[str, ...]) -> dict[str, int]:
    """Return where each array's bytes begin in the file; an empty array has no place."""
    with h5py.File(path, "r") as file:
        found = {name: file[name].id.get_offset() for name in names}
    return {name: offset for name, offset in found.items() if offset is not None}


class PlacedWriter:
    """Values written to their place.

    Parameters
    ----------
    path : pathlib.Path
        The file, closed.
    names : tuple of str
        Arrays made by :func:`create_placed`.
    """

    def __init__(self, path: Path, names: tuple[str, ...]) -> None:
        self._places = places(path, names)
        self.handle = os.open(path, os.O_WRONLY)

    def write(self, name: str, position: int, values: np.ndarray) -> None:
        """Write values at a position counted in elements; they must be of the array's type."""
        if not values.size:
            return
        data = np.ascontiguousarray(values).data.cast("B")
        offset = self._places[name] + position * values.dtype.itemsize
        place, n_bytes = offset, data.nbytes
        while data:  # a write may be cut short, by a limit or beyond 2 GB
            written = os.pwrite(self.handle, data, offset)
            data, offset = data[written:], offset + written
        if n_bytes >= LARGE:  # on its way to the disk while the next values are computed
            start_writing(self.handle, place, n_bytes)

    def close(self) -> None:
        """Close the file."""
        os.close(self.handle)


@dataclass(frozen=True)
class MatrixForm:
    """What a matrix will be before its first value is there.

    Attributes
    ----------
    layout : {"csr", "csc", "dense"}
        How it is stored.
    shape : tuple (n_cells, n_genes)
        Its shape.
    n_values : int
        Stored values of a sparse matrix.
    dtype : numpy.dtype
        Type of the values.
    """

    layout: Layout
    shape: tuple[int, int]
    n_values: int
    dtype: np.dtype

    @property
    def n_major(self) -> int:
        """Length of the axis it is stored by."""
        return self.shape[1] if self.layout == "csc" else self.shape[0]

    @property
    def n_bytes(self) -> int:
        """Bytes on disk, at most."""
        if self.layout == "dense":
            return self.shape[0] * self.shape[1] * self.dtype.itemsize
        return self.n_values * (self.dtype.itemsize + 4) + 8 * self.n_major

    @property
    def pointer_type(self) -> np.dtype:
        """Type of the pointers: int32 where they and the indices fit, as anndata writes."""
        return np.dtype(np.int32 if max(self.n_values, *self.shape) < 2**31 else np.int64)


class MatrixFile:
    """An h5ad file whose X is filled block by block, and can be gone on with after a kill.

    Parameters
    ----------
    path : pathlib.Path
        The file, made by :meth:`create`.
    form : MatrixForm
        Its X.
    n_done, n_values : int
        Vectors and values that are there already.
    """

    def __init__(self, path: Path, form: MatrixForm, n_done: int = 0, n_values: int = 0) -> None:
        self._form = form
        self.n_done, self.n_values = n_done, n_values
        parts = ("X",) if form.layout == "dense" else ("X/data", "X/indices", "X/indptr")
        self._writer = PlacedWriter(path, parts)

    @staticmethod
    def create(path: Path, form: MatrixForm, fill: Callable[[h5py.File], None]) -> None:
        """Write everything but the values of X; ``fill`` writes the other slots."""
        with writable_file(path, "w") as file:
            start_file(file)
            if form.layout == "dense":
                mark(create_placed(file, "X", form.shape, form.dtype), "array", "0.2.0")
            else:
                node = file.create_group("X")
                mark(node, f"{form.layout}_matrix", "0.1.0")
                node.attrs["shape"] = np.array(form.shape, dtype=np.int64)
                create_placed(node, "data", (form.n_values,), form.dtype)
                create_placed(node, "indices", (form.n_values,), np.dtype(np.int32))
                create_placed(node, "indptr", (form.n_major + 1,), form.pointer_type)
            fill(file)

    @property
    def handle(self) -> int:
        """Descriptor of the open file."""
        return self._writer.handle

    def append(self, block: CompressedBlock) -> None:
        """Write the next vectors.

        Raises
        ------
        InputError
            More values than were announced.
        """
        if self._form.layout == "dense":
            rows = densify(block, self._form.shape[1], self._form.dtype)
            self._writer.write("X", block.start * self._form.shape[1], rows)
        else:
            end = self.n_values + len(block.values)
            self._require(end <= self._form.n_values, end)
            values = block.values.astype(self._form.dtype, copy=False)
            self._writer.write("X/data", self.n_values, values)
            self._writer.write("X/indices", self.n_values, block.minor)
            pointers = (block.ptr + self.n_values).astype(self._form.pointer_type)
            self._writer.write("X/indptr", block.start, pointers)
            self.n_values = end
        self.n_done = block.stop

    def require_complete(self) -> None:
        """Check that all that was announced is there.

        Raises
        ------
        InputError
            Fewer values than were announced.
        """
        if self._form.layout != "dense":
            self._require(self.n_values == self._form.n_values, self.n_values)

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _require(self, holds: bool, found: int) -> None:
        if not holds:
            raise InputError(
                f"X holds {found} values where {self._form.n_values} were announced: the input "
                "changed while it was read, or the given numbers of non-zeros belong to another "
                "selection"
            )
