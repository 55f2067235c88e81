"""Tables of a result file that is written before it is complete.

The file is HDF5 from the start, with room for every table in one piece. Tiles go straight to their
place in it, beside HDF5: nothing that HDF5 keeps changes while a result grows, so that a kill
leaves a file that can be opened.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from crispyx._io.encode import mark
from crispyx._kernels import strips as kernel

TABLES = "tables"  # group that holds them until the result is complete


def create_tables(
    path: Path, fields: Mapping[str, np.dtype], shape: tuple[int, int]
) -> dict[str, int]:
    """Create a file with an empty table (n_groups, n_genes) per field, replacing one that is there.

    The room is set aside, not filled. Returns where each table starts in the file.
    """
    placed = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    placed.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    placed.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    places = {}
    with h5py.File(path, "w") as file:
        for name, kind in fields.items():
            node = file.create_dataset(f"{TABLES}/{name}", shape, kind, dcpl=placed)
            mark(node, "array", "0.2.0")
            places[name] = int(node.id.get_offset())
    return places


def table_places(
    path: Path, fields: Mapping[str, np.dtype], shape: tuple[int, int]
) -> dict[str, int] | None:
    """Return where each table starts in the file; None when it is not a file of these tables."""
    places = {}
    try:
        with h5py.File(path, "r") as file:
            for name, kind in fields.items():
                node = file[f"{TABLES}/{name}"]
                if node.shape != shape or node.dtype != kind:
                    return None
                places[name] = int(node.id.get_offset())
    except (OSError, KeyError, TypeError):
        return None
    return places


def write_columns(file: int, tile: np.ndarray, first: int, place: int, n_genes: int) -> None:
    """Write columns ``first`` and following of a table that starts at ``place`` of a descriptor.

    Raises
    ------
    OSError
        The disk is full, or another failure of the system.
    """
    tile = np.ascontiguousarray(tile)
    strips = tile.view(np.uint8).reshape(len(tile), -1)
    width = tile.dtype.itemsize
    failed = kernel.write_strips(file, strips, place + first * width, n_genes * width)
    if failed:
        raise OSError(failed, os.strerror(failed))
