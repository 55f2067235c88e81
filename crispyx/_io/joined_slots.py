"""Slots of several data sets joined into one: matrices streamed, the others by anndata."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from crispyx._io.damage import entries, read_stored
from crispyx._io.encode import create_array
from crispyx._io.joined import JoinedRows
from crispyx._io.record import write_record
from crispyx._io.source import MatrixSource, open_source
from crispyx._io.subset import nullable_strings
from crispyx._io.writer import write_compressed, write_slots
from crispyx._io.zarr_stores import is_group
from crispyx._kernels.densify import densify
from crispyx._run.budget import working_memory
from crispyx.settings import settings

if TYPE_CHECKING:
    import anndata

BYTES_PER_TURNED = 10  # at most: value (8) and offset (2) of one non-zero


def scratch_of(parts: Sequence[MatrixSource], output: Path) -> Path | None:
    """Return where CSC matrices are turned around; None where memory holds them."""
    turned = [part.storage.n_stored for part in parts if part.layout == "csc"]
    if BYTES_PER_TURNED * max(turned, default=0) <= working_memory() // 2:
        return None
    return settings.scratch_dir or output.parent


def without_matrices(part: MatrixSource) -> anndata.AnnData:
    """Return obs, var, obsm, varm and uns of a data set."""
    adata = part.as_anndata()
    owner = part._owner
    if owner is None or part.columns is not None:
        return adata
    stored = is_group(owner)
    for slot in ("obsm", "varm", "uns"):
        held = entries(owner, slot) if stored else getattr(owner, slot)
        for name, value in held.items():
            getattr(adata, slot)[name] = read_stored(value) if stored else value
    return adata


def fill_joined(
    target: h5py.File,
    parts: Sequence[MatrixSource],
    paths: Sequence[Any],
    frame: anndata.AnnData,
    identity: dict[str, Any],
) -> None:
    """Write every slot but X; ``frame`` holds what is no matrix, already joined."""
    with nullable_strings():
        write_slots(frame, target, leave_out=("layers", "raw"))
    for layer in _common_layers(parts):
        _write_layer(target, layer, paths, list(frame.var_names))
    write_record(target, identity)


def _common_layers(parts: Sequence[MatrixSource]) -> list[str]:
    held = []
    for part in parts:
        owner = part._owner
        if owner is None:
            return []
        held.append(sorted(entries(owner, "layers") if is_group(owner) else owner.layers))
    return [name for name in held[0] if all(name in other for other in held[1:])]


def _write_layer(target: h5py.File, layer: str, paths: Sequence[Any], genes: list[str]) -> None:
    with ExitStack() as stack:
        parts = [stack.enter_context(open_source(path, layer)) for path in paths]
        rows = JoinedRows(parts, genes, scratch_of(parts, Path(target.filename)))
        if all(part.layout == "dense" for part in parts):
            node = create_array(target["layers"], layer, rows.shape, rows.dtype)
            for block in rows.blocks():
                node[block.start : block.stop] = densify(block, len(genes), np.dtype(rows.dtype))
            return
        write_compressed(
            target["layers"], layer, rows.blocks(), rows.count(), rows.shape, dtype=rows.dtype
        )
