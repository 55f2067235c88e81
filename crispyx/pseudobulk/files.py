"""Files of profiles and effects, written in strips of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crispyx._io.encode import create_array, write_frame, write_value
from crispyx._io.record import write_record
from crispyx._io.writer import new_h5ad
from crispyx._run.fingerprint import require_unchanged

STRIP_BYTES = 32_000_000


@dataclass(frozen=True)
class Frame:
    """Rows or columns of a file: a named index and columns beside it."""

    index: np.ndarray
    name: str
    columns: Mapping[str, np.ndarray]


def write_profiles(
    output: Path,
    obs: Frame,
    var: Frame,
    tables: Mapping[str, np.dtype | type],
    strip: Callable[[int, int], Mapping[str, np.ndarray]],
    bytes_per_row: int,
    uns: Mapping[str, Any],
    fingerprint: Mapping[str, Any],
) -> None:
    """Write a complete file under its final name.

    Parameters
    ----------
    output : pathlib.Path
        Final file.
    obs, var : Frame
        Rows and columns.
    tables : mapping of str to numpy.dtype
        ``"X"`` and layers.
    strip : callable (start, stop) -> mapping of str to numpy.ndarray (stop - start, n_genes)
        All tables of a range of rows.
    bytes_per_row : int
        What ``strip`` needs for one row.
    uns : mapping
        Further entries of uns.
    fingerprint : mapping
        Identity of the result.
    """
    shape = (len(obs.index), len(var.index))
    step = max(1, STRIP_BYTES // max(1, bytes_per_row))
    with new_h5ad(output) as file:
        nodes = {}
        for name, dtype in tables.items():
            parent = file if name == "X" else file["layers"]
            nodes[name] = create_array(parent, name, shape, np.dtype(dtype))
        for start in range(0, shape[0], step):
            stop = min(start + step, shape[0])
            for name, rows in strip(start, stop).items():
                nodes[name][start:stop] = rows
        for axis, frame in (("obs", obs), ("var", var)):
            write_frame(file, axis, frame.index, frame.columns, index_name=frame.name)
        for name, value in uns.items():
            write_value(file["uns"], name, value)
        write_record(file, fingerprint)
        require_unchanged(fingerprint)
