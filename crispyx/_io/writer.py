"""Copies of an h5ad file with another matrix or fewer cells and genes, streamed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from crispyx._io.atomic import atomic_path
from crispyx._io.damage import entries, name_of, reading_structure
from crispyx._io.disk import reporting_full_disk, writable_file
from crispyx._io.encode import create_compressed, start_file, write_pointers, write_value
from crispyx._io.matrix import MatrixSource
from crispyx._io.stores import publish
from crispyx._io.tables import TABLES
from crispyx._io.transcribe import copy_element
from crispyx._kernels.layout import CompressedBlock
from crispyx.errors import InputError

SLOTS = ("obs", "var", "obsm", "varm", "obsp", "varp", "layers", "uns", "raw")


@contextmanager
def new_h5ad(output: Path) -> Iterator[h5py.File]:
    """Yield an empty AnnData file that appears as ``output`` when the block ends without error.

    Under a name that ends in ``.zarr`` it appears as a zarr store.

    Raises
    ------
    DiskSpaceError
        The disk is full.
    """
    with (
        reporting_full_disk(output.parent, str(output)),
        atomic_path(output, publish) as work,
        writable_file(work, "w") as file,
    ):
        start_file(file)
        yield file


@contextmanager
def completed_h5ad(work: Path, output: Path) -> Iterator[h5py.File]:
    """Yield the file of tables at ``work`` as AnnData to complete; it is then renamed ``output``.

    What an interrupted attempt added is removed first.

    Raises
    ------
    DiskSpaceError
        The disk is full.
    """
    with reporting_full_disk(output.parent, str(output)):
        with writable_file(work, "r+") as file:
            for name in set(file) - {TABLES}:
                del file[name]
            start_file(file)
            yield file
            del file[TABLES]
        publish(work, output)


def copy_slots(source: Any, target: h5py.File, leave_out: Iterable[str] = ()) -> None:
    """Copy every slot of an AnnData file or store but X and ``leave_out``, values as they are."""
    for slot in SLOTS:
        if slot in source and slot not in leave_out:
            copy_slot(source, target, slot)


def modernize(target: h5py.File, source: MatrixSource, axes: Iterable[str]) -> None:
    """Write copied tables of records, as anndata before 0.7 had, as tables of today."""
    for axis in axes:
        if isinstance(target[axis], h5py.Dataset):
            from anndata.io import write_elem

            del target[axis]
            with reading_structure(f"{source.where}: {axis}"):
                write_elem(target, axis, source.whole_table(axis))


def copy_slot(source: Any, target: h5py.Group, name: str) -> None:
    """Copy an element of a file, byte for byte, or of a store; it replaces one of that name."""
    if name in target:
        del target[name]
    if name == "uns":
        entries(source, name)
    if isinstance(source, h5py.Group):
        with reading_structure(name_of(source[name])):
            # Old files keep categories in a group that columns refer to.
            source.copy(name, target, expand_refs=True)
    else:
        copy_element(source[name], target, name)


def write_slot(target: h5py.File, slot: str, name: str, value: Any) -> None:
    """Write or replace one entry of obsm, uns or another mapping, in any encoding of anndata."""
    from anndata.io import write_elem

    group = target.require_group(slot)
    if name in group:
        del group[name]
    write_elem(group, name, value)


def write_slots(adata: Any, target: h5py.File, leave_out: Iterable[str] = ()) -> None:
    """Write every slot of an AnnData in memory but X and ``leave_out``."""
    from anndata.io import write_elem

    for slot in SLOTS:
        value = getattr(adata, slot)
        if slot in leave_out or value is None:
            continue
        if slot in target:
            del target[slot]
        if slot in ("obs", "var"):
            value = value.copy()
            # Text with missing values has an encoding as a category only.
            adata.strings_to_categoricals(value)
        write_elem(target, slot, value if slot in ("obs", "var", "raw") else dict(value))


def write_anndata(adata: Any, path: Path, **filters: Any) -> None:
    """Write an AnnData in memory as a file of its own.

    As ``adata.write_h5ad``, which a full disk may end together with the process. ``filters`` are
    those of HDF5, such as ``compression``.
    """
    from anndata.io import write_elem

    adata.strings_to_categoricals()
    with writable_file(path, "w") as file:
        write_elem(file, "/", adata, dataset_kwargs=filters)


def write_compressed(
    parent: h5py.Group,
    name: str,
    blocks: Iterable[CompressedBlock],
    n_values: int,
    shape: tuple[int, int],
    *,
    dtype: np.dtype,
    layout: str = "csr",
) -> None:
    """Write a matrix from blocks that come in order.

    Parameters
    ----------
    parent, name
        Where it goes.
    blocks : iterable of CompressedBlock
        Consecutive blocks along the stored axis.
    n_values : int
        Number of values of all blocks.
    shape : tuple (n_cells, n_genes)
        Shape of the whole matrix.
    dtype : numpy.dtype
        Type of the stored values.
    layout : {"csr", "csc"}
        Axis the matrix is stored by.

    Raises
    ------
    InputError
        The blocks do not hold ``n_values`` values.
    """
    node = create_compressed(parent, name, layout, shape, n_values, dtype)
    pointers = [np.zeros(1, dtype=np.int64)]
    at = 0
    for block in blocks:
        end = at + len(block.values)
        if at < end <= n_values:
            node["data"][at:end] = block.values.astype(dtype, copy=False)
            node["indices"][at:end] = block.minor
        pointers.append(block.ptr[1:] + at)
        at = end
    if at != n_values:
        raise InputError(
            f"{name} holds {at} values where {n_values} were announced: the input changed while it "
            "was read, or the given numbers of non-zeros belong to another selection"
        )
    write_pointers(node, np.concatenate(pointers))


def write_uns(file: h5py.File, name: str, value: Any) -> None:
    """Replace one entry of uns."""
    uns = file.require_group("uns")
    if name in uns:
        del uns[name]
    write_value(uns, name, value)
