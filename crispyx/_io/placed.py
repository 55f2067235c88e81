"""Arrays of an HDF5 file whose place in the file is known, to be filled without HDF5.

A process killed while HDF5 writes may leave a file whose structure is damaged. Here the structure is
complete, and the file closed, before the first value is written; values then go straight to their
bytes. Whatever moment the process is killed at, the file stays readable and the values that were
made durable stay correct.
"""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np


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
    """Return where each array's bytes begin in the file; an empty array has no place and is left out."""
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
        data = memoryview(np.ascontiguousarray(values)).cast("B")
        offset = self._places[name] + position * values.dtype.itemsize
        while data:  # a write may be cut short, by a limit or beyond 2 GB
            written = os.pwrite(self.handle, data, offset)
            data, offset = data[written:], offset + written

    def close(self) -> None:
        """Close the file."""
        os.close(self.handle)
