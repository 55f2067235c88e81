"""Copies of a data set: of all but X, for another matrix, or of the whole file."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py

from crispyx._io.disk import reporting_full_disk
from crispyx._io.record import write_record
from crispyx._io.source import MatrixSource
from crispyx._io.writer import copy_slots, write_slots, write_uns


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
    if isinstance(source._owner, h5py.File):
        copy_slots(source._owner, target)
    else:
        write_slots(source._owner, target)
    for name, value in uns.items():
        write_uns(target, name, value)
    write_record(target, fingerprint)


def copy_file(source: Path, output: Path, fingerprint: Mapping[str, Any]) -> None:
    """Copy a file as it is, and note what it is a copy of."""
    with reporting_full_disk(output.parent, str(output)):
        shutil.copyfile(source, output)
        with h5py.File(output, "r+") as file:
            write_record(file, fingerprint)
