"""The slots of a data set beside X, for a copy with another matrix in X."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h5py

from crispyx._io.record import write_record
from crispyx._io.source import MatrixSource
from crispyx._io.subset import Subset, cut_slots
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
