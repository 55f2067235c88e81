"""Copies of a data set: whole, or its slots beside X for another matrix in X."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py

from crispyx._io.disk import reporting_full_disk
from crispyx._io.record import write_record
from crispyx._io.source import MatrixSource
from crispyx._io.subset import Subset, cut_slots
from crispyx._io.writer import copy_slots, write_compressed, write_slots, write_uns


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
    if isinstance(source._owner, h5py.Group):
        if source.columns is None:
            copy_slots(source._owner, target)
        else:
            cut_slots(target, source, Subset.whole(source))
    else:
        write_slots(source._owner or source.as_anndata(), target)
    for name, value in uns.items():
        write_uns(target, name, value)
    write_record(target, fingerprint)


def copy_group(group: h5py.Group, target: h5py.File) -> None:
    """Copy X and every slot of one AnnData of a file, bytes as they are."""
    for name in group:
        if name in target:
            del target[name]
        # Files of anndata before 0.8 refer from obs and var columns to their categories.
        group.copy(name, target, expand_refs=True)


def fill_whole(target: h5py.File, source: MatrixSource) -> None:
    """Write X and every slot of a data set: a modality as it is, a 10x matrix value for value.

    Parameters
    ----------
    target : h5py.File
        The copy.
    source : MatrixSource
        The input, of a file.
    """
    if isinstance(source._owner, h5py.Group):
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


def copy_file(source: Path, output: Path, fingerprint: Mapping[str, Any]) -> None:
    """Copy a file as it is, and note what it is a copy of."""
    with reporting_full_disk(output.parent, str(output)):
        shutil.copyfile(source, output)
        with h5py.File(output, "r+") as file:
            write_record(file, fingerprint)
