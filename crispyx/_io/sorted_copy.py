"""The slots of a data set with its cells in another order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from crispyx._io.damage import entries, read_stored, require_lengths
from crispyx._io.encode import create_array, nullable_strings
from crispyx._io.matrix import STREAM_VALUES
from crispyx._io.rearranged import Rearranged
from crispyx._io.record import write_record
from crispyx._io.source import MatrixSource, open_matrix
from crispyx._io.writer import (
    copy_slot,
    copy_slots,
    modernize,
    write_compressed,
    write_slots,
    write_uns,
)
from crispyx._io.zarr_stores import is_array, is_group, readable

BY_CELL = ("obs", "obsm", "obsp", "layers", "raw")


def fill_sorted(
    target: h5py.File,
    source: MatrixSource,
    order: np.ndarray,
    *,
    budget: int,
    uns: Mapping[str, Any],
    fingerprint: Mapping[str, Any],
) -> None:
    """Write every slot but X with the cells in ``order``; layers and raw are streamed.

    Parameters
    ----------
    target : h5py.File
        The copy, with X in it.
    source : MatrixSource
        The input.
    order : numpy.ndarray (n_cells,) int64
        Old row of every new one.
    budget : int
        Bytes for one streamed matrix.
    uns : mapping
        Entries of uns that are added or replaced.
    fingerprint : mapping
        Identity of the result.
    """
    import anndata
    from anndata.io import write_elem

    owner = source._owner
    if not is_group(owner):
        with anndata.settings.override(remove_unused_categories=False):
            write_slots(owner[order], target)
    else:
        copy_slots(owner, target, leave_out=BY_CELL)
        modernize(target, source, ("var",))
        with nullable_strings():
            write_elem(target, "obs", source.whole_table("obs").iloc[order])
        for slot in ("obsm", "obsp"):
            for name, node in entries(owner, slot).items():
                n_axes = 2 if slot == "obsp" else 1
                held = read_stored(node, (len(order),) * n_axes)
                value = _reordered(held, order)
                write_elem(target[slot], name, value[:, order] if slot == "obsp" else value)
        for name, node in entries(owner, "layers").items():
            where = f"{source.path} [layers/{name}]"
            _write_matrix(node, target["layers"], name, order, budget, where)
        if "raw" in owner:
            _write_raw(owner["raw"], target, order, budget, f"{source.path} [raw/X]")
    for name, value in uns.items():
        write_uns(target, name, value)
    write_record(target, fingerprint)


def places_of(order: np.ndarray) -> np.ndarray:
    """Return the new row of every old one (n_cells,) int64."""
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return place


def write_sorted_dense(source: Any, target: h5py.Dataset, order: np.ndarray, budget: int) -> None:
    """Copy the rows of a dense matrix in another order: the input in passes, the output in turn."""
    n_rows, n_columns = source.shape
    row_bytes = max(1, n_columns * source.dtype.itemsize)
    panel = int(min(n_rows, max(1, budget // (3 * row_bytes))))
    step = max(1, STREAM_VALUES // max(1, n_columns))
    place = places_of(order)
    for first in range(0, n_rows, panel):
        rows = np.empty((min(panel, n_rows - first), n_columns), dtype=source.dtype)
        for start in range(0, n_rows, step):
            new = place[start : start + step] - first
            inside = (new >= 0) & (new < len(rows))
            if inside.any():
                rows[new[inside]] = source[start : start + step][inside]
        target[first : first + len(rows)] = rows


def _reordered(value: Any, order: np.ndarray) -> Any:
    return value[order] if not hasattr(value, "iloc") else value.iloc[order]


def _write_raw(source: Any, target: h5py.File, order: np.ndarray, budget: int, where: str) -> None:
    raw = target.create_group("raw")
    for key, value in source.attrs.items():
        raw.attrs[key] = value
    for name in source:
        if name == "X":
            _write_matrix(source["X"], raw, "X", order, budget, where)
        else:
            copy_slot(source, raw, name)


def _write_matrix(
    node: Any,
    parent: h5py.Group,
    name: str,
    order: np.ndarray,
    budget: int,
    where: str,
) -> None:
    if not is_array(node) and "indptr" not in node:
        from anndata.io import write_elem

        write_elem(parent, name, _reordered(read_stored(node, (len(order),)), order))
        return
    storage, layout, shape = open_matrix(node, where)
    require_lengths(node, shape, (len(order),))
    if layout == "dense":
        target = create_array(parent, name, shape, node.dtype)
        write_sorted_dense(readable(node), target, order, budget)
        return
    matrix = Rearranged(
        storage,
        turned=layout == "csc",
        place=places_of(order),
        budget=budget,
        max_major=storage.n_major,
    )
    write_compressed(parent, name, matrix.blocks(), matrix.n_values, shape, dtype=matrix.dtype)
