"""Copies of a data set with another matrix in X, all other slots kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from crispyx._io.record import write_record
from crispyx._io.source import MatrixSource
from crispyx._io.writer import copy_slots, new_h5ad, write_compressed, write_slots, write_uns
from crispyx._kernels.layout import CompressedBlock


def write_csr_copy(
    source: MatrixSource,
    blocks: Iterable[CompressedBlock],
    n_values: int,
    output: Path,
    *,
    uns: Mapping[str, Any],
    fingerprint: Mapping[str, Any],
) -> None:
    """Write a float32 CSR matrix with the other slots of the data set it was computed from.

    Parameters
    ----------
    source : MatrixSource
        The input.
    blocks : iterable of CompressedBlock
        The matrix, cells in order.
    n_values : int
        Number of values of all blocks.
    output : pathlib.Path
        Written atomically.
    uns : mapping
        Entries of uns that are added or replaced.
    fingerprint : mapping
        Identity of the result.
    """
    with new_h5ad(output) as target:
        write_compressed(target, "X", blocks, n_values, source.shape, dtype=np.dtype(np.float32))
        if isinstance(source._owner, h5py.File):
            copy_slots(source._owner, target)
        else:
            write_slots(source._owner, target)
        for name, value in uns.items():
            write_uns(target, name, value)
        write_record(target, fingerprint)
