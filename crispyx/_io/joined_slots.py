"""Slots of several data sets joined into one: matrices streamed, the others by anndata."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from crispyx._io.annotations import FrameAnnotations
from crispyx._io.damage import entries, read_stored, reading_structure
from crispyx._io.encode import create_array
from crispyx._io.filters import load_filters
from crispyx._io.joined import JoinedRows
from crispyx._io.record import write_record
from crispyx._io.segments import scratch_folder
from crispyx._io.source import MatrixSource, open_matrix, open_source
from crispyx._io.subset import nullable_strings
from crispyx._io.writer import write_compressed, write_slots
from crispyx._io.zarr_stores import is_group
from crispyx._kernels.densify import densify

if TYPE_CHECKING:
    import anndata


@dataclass(frozen=True)
class Joined:
    """What is written beside X.

    Attributes
    ----------
    parts : sequence of MatrixSource
        The data sets.
    paths : sequence
        What they were opened from.
    kept : sequence of numpy.ndarray (n_cells,) bool
        Cells of each.
    frame : anndata.AnnData
        Everything but matrices, joined.
    raw : anndata.AnnData or None
        var and varm of raw, joined; None writes no raw.
    """

    parts: Sequence[MatrixSource]
    paths: Sequence[Any]
    kept: Sequence[np.ndarray]
    frame: anndata.AnnData
    raw: anndata.AnnData | None

    def rows(self, parts: Sequence[MatrixSource], genes: Sequence[str], output: Path) -> JoinedRows:
        """Return the kept cells of matrices of the parts."""
        return JoinedRows(parts, genes, scratch_of(parts, output), self.kept)


def scratch_of(parts: Sequence[MatrixSource], output: Path) -> Path | None:
    """Return where CSC matrices are turned around; None where memory holds them."""
    return scratch_folder(max(part.n_turned for part in parts), output.parent)


def without_matrices(part: MatrixSource, *, pairwise: bool) -> anndata.AnnData:
    """Return obs, var, obsm, varm, varp and uns of a data set, and obsp where asked for."""
    adata = part.as_anndata()
    owner = part._owner
    if owner is None or part.columns is not None:
        return adata
    for slot in ("obsm", "varm", "varp", "uns", *(("obsp",) if pairwise else ())):
        held = entries(owner, slot) if is_group(owner) else getattr(owner, slot)
        for name, value in held.items():
            getattr(adata, slot)[name] = read_stored(value) if is_group(owner) else value
    return adata


def raw_of(part: MatrixSource) -> MatrixSource | None:
    """Return raw/X of a data set with the genes of raw; None where there is none."""
    import anndata

    owner = part._owner
    if owner is None or part.columns is not None:
        return None
    if not is_group(owner):
        if owner.raw is None:
            return None
        return open_source(anndata.AnnData(owner.raw.X, obs=owner.obs, var=owner.raw.var))
    if "raw" not in owner or "X" not in owner["raw"]:
        return None
    where = f"{part.path or part.where} [raw/X]"
    with reading_structure(where):
        node = owner["raw/X"]
        if isinstance(node, (h5py.Group, h5py.Dataset)):
            load_filters(node)
        storage, layout, shape = open_matrix(node, where)
        var = FrameAnnotations(read_stored(owner["raw/var"]), "var", where)
    return replace(part, storage=storage, layout=layout, shape=shape, var=var, element="raw/X")


def raw_annotations(part: MatrixSource) -> anndata.AnnData:
    """Return names of cells, and var and varm of raw, of a data set that has raw."""
    import anndata
    import pandas as pd

    owner = part._owner
    if is_group(owner):
        var = read_stored(owner["raw/var"])
        varm = {name: read_stored(node) for name, node in entries(owner["raw"], "varm").items()}
    else:
        var, varm = owner.raw.var, dict(owner.raw.varm)
    return anndata.AnnData(obs=pd.DataFrame(index=pd.Index(part.obs.index)), var=var, varm=varm)


def fill_joined(target: h5py.File, joined: Joined, identity: dict[str, Any]) -> None:
    """Write every slot but X."""
    from anndata.io import write_elem

    output, genes = Path(target.filename), list(joined.frame.var_names)
    with nullable_strings():
        write_slots(joined.frame, target, leave_out=("layers", "raw"))
    for layer in _common_layers(joined.parts):
        with ExitStack() as stack:
            layers = [stack.enter_context(open_source(path, layer)) for path in joined.paths]
            _write_matrix(target["layers"], layer, layers, joined.rows(layers, genes, output))
    if joined.raw is not None:
        group = target.require_group("raw")
        group.attrs.update({"encoding-type": "raw", "encoding-version": "0.1.0"})
        with nullable_strings():
            joined.raw.strings_to_categoricals(joined.raw.var)
            write_elem(group, "var", joined.raw.var)
            write_elem(group, "varm", dict(joined.raw.varm))
        raws = [raw for raw in map(raw_of, joined.parts) if raw is not None]
        _write_matrix(group, "X", raws, joined.rows(raws, list(joined.raw.var_names), output))
    write_record(target, identity)


def _common_layers(parts: Sequence[MatrixSource]) -> list[str]:
    held = []
    for part in parts:
        owner = part._owner
        if owner is None:
            return []
        held.append(sorted(entries(owner, "layers") if is_group(owner) else owner.layers))
    return [name for name in held[0] if all(name in other for other in held[1:])]


def _write_matrix(
    parent: h5py.Group, name: str, parts: Sequence[MatrixSource], rows: JoinedRows
) -> None:
    if all(part.layout == "dense" for part in parts):
        node = create_array(parent, name, rows.shape, rows.dtype)
        for block in rows.blocks():
            node[block.start : block.stop] = densify(block, rows.shape[1], np.dtype(rows.dtype))
        return
    write_compressed(parent, name, rows.blocks(), rows.count(), rows.shape, dtype=rows.dtype)
