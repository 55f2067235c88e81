"""Copies of an h5ad file with another matrix or fewer cells and genes, streamed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from crispyx._io.atomic import atomic_path
from crispyx._io.encode import create_compressed, start_file, write_value
from crispyx._kernels.layout import CompressedBlock

SLOTS = ("obs", "var", "obsm", "varm", "obsp", "varp", "layers", "uns", "raw")


@contextmanager
def new_h5ad(output: Path) -> Iterator[h5py.File]:
    """Yield an empty AnnData file that appears as ``output`` when the block ends without error."""
    with atomic_path(output) as work, h5py.File(work, "w") as file:
        start_file(file)
        yield file


def copy_slots(source: h5py.File, target: h5py.File, leave_out: Iterable[str] = ()) -> None:
    """Copy every slot of an AnnData file but X and ``leave_out``, bytes as they are."""
    for slot in SLOTS:
        if slot in source and slot not in leave_out:
            if slot in target:
                del target[slot]
            source.copy(slot, target)


def write_slots(adata: Any, target: h5py.File, leave_out: Iterable[str] = ()) -> None:
    """Write every slot of an AnnData in memory but X and ``leave_out``."""
    from anndata.io import write_elem

    for slot in SLOTS:
        value = getattr(adata, slot)
        if slot in leave_out or value is None:
            continue
        if slot in target:
            del target[slot]
        write_elem(target, slot, value if slot in ("obs", "var", "raw") else dict(value))


def write_compressed(
    parent: h5py.Group,
    name: str,
    blocks: Iterable[CompressedBlock],
    indptr: np.ndarray,
    shape: tuple[int, int],
    *,
    dtype: np.dtype,
    layout: str = "csr",
    compression: str | None = None,
) -> None:
    """Fill a matrix of known pointers with blocks that come in order.

    Parameters
    ----------
    parent, name
        Where it goes.
    blocks : iterable of CompressedBlock
        Consecutive blocks along the stored axis.
    indptr : numpy.ndarray (n_major + 1,) int64
        Pointers of the whole matrix.
    shape : tuple (n_cells, n_genes)
        Shape of the whole matrix.
    dtype : numpy.dtype
        Type of the stored values.
    layout : {"csr", "csc"}
        Axis the matrix is stored by.
    compression : str or None
        HDF5 filter of values and indices.
    """
    node = create_compressed(parent, name, layout, shape, indptr, dtype, compression=compression)
    at = 0
    for block in blocks:
        end = at + len(block.values)
        if end > at:
            node["data"][at:end] = block.values.astype(dtype, copy=False)
            node["indices"][at:end] = block.minor
        at = end
    if at != indptr[-1]:
        raise AssertionError(f"{at} values were written where {indptr[-1]} were announced")


def write_uns(file: h5py.File, name: str, value: Any) -> None:
    """Replace one entry of uns."""
    uns = file.require_group("uns")
    if name in uns:
        del uns[name]
    write_value(uns, name, value)
