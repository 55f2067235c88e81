"""Copies of a data set: whole, or its slots beside X for another matrix in X."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py

from crispyx._io.disk import reporting_full_disk, writable_file
from crispyx._io.encode import start_file
from crispyx._io.record import write_record
from crispyx._io.source import MatrixSource
from crispyx._io.subset import Subset, cut_slots
from crispyx._io.writer import (
    copy_slot,
    copy_slots,
    modernize,
    write_compressed,
    write_slots,
    write_uns,
)
from crispyx._io.zarr_stores import is_group, is_zarr_store, open_store


def fill_copy(
    target: h5py.File,
    source: MatrixSource,
    *,
    uns: Mapping[str, Any],
    fingerprint: Mapping[str, Any],
) -> None:
    """Write the slots of the data set that a new matrix was computed from.

    Parameters
    ----------
    target : h5py.File
        The copy, with X in it.
    source : MatrixSource
        The input.
    uns : mapping
        Entries of uns that are added or replaced.
    fingerprint : mapping
        Identity of the result.
    """
    if is_group(source._owner):
        if source.columns is None:
            copy_slots(source._owner, target)
            modernize(target, source, ("obs", "var"))
        else:
            cut_slots(target, source, Subset.whole(source))
    else:
        write_slots(source._owner or source.as_anndata(), target)
    for name, value in uns.items():
        write_uns(target, name, value)
    write_record(target, fingerprint)


def copy_group(group: Any, target: h5py.File) -> None:
    """Copy X and every slot of one AnnData of a file or store, values as they are."""
    for name in group:
        copy_slot(group, target, name)


def fill_whole(target: h5py.File, source: MatrixSource) -> None:
    """Write X and every slot of a data set: a modality as it is, a 10x matrix value for value.

    Parameters
    ----------
    target : h5py.File
        The copy.
    source : MatrixSource
        The input, of a file.
    """
    if is_group(source._owner):
        copy_group(source._owner, target)
        return
    write_compressed(
        target,
        "X",
        source.native_blocks(),
        source.storage.n_stored,
        source.shape,
        dtype=source.dtype,
        layout=source.layout,
    )
    write_slots(source._owner or source.as_anndata(), target)


def copy_file(source: Path, output: Path) -> None:
    """Copy a file as it is, or a zarr store into an HDF5 file."""
    with reporting_full_disk(output.parent, str(output)):
        if is_zarr_store(source):
            with writable_file(output, "w") as file:
                start_file(file)
                copy_group(open_store(source), file)
        else:
            shutil.copyfile(source, output)


def copy_recorded(source: Path, output: Path, fingerprint: Mapping[str, Any]) -> None:
    """Copy a file as :func:`copy_file` does, and note what it is a copy of."""
    copy_file(source, output)
    with (
        reporting_full_disk(output.parent, str(output)),
        writable_file(output, "r+") as file,
    ):
        write_record(file, fingerprint)
