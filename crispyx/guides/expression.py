"""The expression data that calls are joined to: its cells read, its copy written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.annotations import FileAnnotations, FrameAnnotations
from crispyx._io.copies import copy_group, fill_whole
from crispyx._io.elements import require_h5ad
from crispyx._io.modalities import choose_modality, kinds_in_memory, modalities_in_memory
from crispyx._io.paths import resolve_data_path
from crispyx._io.record import write_record
from crispyx._io.source import is_h5ad, open_file, open_source
from crispyx._io.writer import new_h5ad, write_slot, write_slots, write_uns
from crispyx._run.fingerprint import file_identity, require_unchanged
from crispyx.errors import InputError
from crispyx.guides.counts import require_unique_names

if TYPE_CHECKING:
    import h5py
    import pandas as pd


@dataclass(frozen=True)
class Expression:
    """Cells of a file or of an AnnData in memory.

    Attributes
    ----------
    path : pathlib.Path or None
        The file, or 10x folder.
    data : path or None
        What was given, when it is another file than an .h5ad.
    adata : anndata.AnnData or None
        The AnnData in memory, when there is no file.
    barcodes : numpy.ndarray (n_cells,) str
        Cells, unique.
    columns : list of str
        Columns of obs.
    index_name : str or None
        Name of the index of obs.
    """

    path: Path | None
    data: Any
    adata: Any
    barcodes: np.ndarray
    columns: list[str]
    index_name: str | None

    @property
    def where(self) -> str:
        """Name for messages."""
        return "the AnnData in memory" if self.path is None else str(self.path)

    def identity(self) -> dict[str, Any]:
        """Return what identifies the input; memory has no identity that outlives the process."""
        if self.path is None:
            return {"path": None, "memory": id(self.adata)}
        if self.data is None:
            return file_identity(self.path)
        with open_source(self.data) as source:
            return source.identity()


def open_expression(data: Any) -> Expression:
    """Read the cells of an expression data set and leave its matrix alone.

    Raises
    ------
    InputError
        Not an h5ad file; no cells; a barcode that stands twice.
    """
    modalities = modalities_in_memory(data)
    if modalities is not None:
        kinds = kinds_in_memory(modalities)
        data = modalities[choose_modality(kinds, None, "the MuData in memory")]
    if getattr(data, "isbacked", None) is False:
        obs = FrameAnnotations(data.obs, "obs", "the AnnData in memory")
        found = Expression(None, None, data, obs.index, obs.columns, data.obs.index.name)
    else:
        path = resolve_data_path(data)
        if is_h5ad(path):
            require_h5ad(path)
            with open_file(path) as file:
                stored = FileAnnotations(file["obs"], "obs", str(path))
                index_name = file["obs"].attrs.get("_index", "_index")
                found = Expression(path, None, None, stored.index, stored.columns, index_name)
        else:
            with open_source(data) as source:
                name = source.table("obs").index.name
                found = Expression(path, data, None, source.obs.index, source.obs.columns, name)
    if not len(found.barcodes):
        raise InputError(f"{found.where} has no cells; there is nothing to join")
    require_unique_names(found.barcodes, np.empty(0, dtype=object), found.where)
    return found


def write_joined(
    cells: Expression,
    added: pd.DataFrame,
    output: Path,
    uns: Mapping[str, Any],
    obsm: Mapping[str, Any],
    identity: Mapping[str, Any],
) -> None:
    """Write the copy with more obs columns under its final name, complete or not at all.

    Parameters
    ----------
    cells : Expression
        The input.
    added : pandas.DataFrame (n_cells rows)
        Columns to add, or to put in the place of those of the same name.
    output : pathlib.Path
        The copy.
    uns, obsm : mapping
        Entries to add.
    identity : mapping
        Fingerprint of the copy.
    """
    with new_h5ad(output) as target:
        if cells.path is None:
            _write_memory(cells.adata, target, added)
        else:
            _copy(cells, target)
            _add_columns(target["obs"], added)
        for name, value in uns.items():
            write_uns(target, name, value)
        for name, value in obsm.items():
            write_slot(target, "obsm", name, value)
        write_record(target, identity)
        require_unchanged(identity)


def _copy(cells: Expression, target: h5py.File) -> None:
    if cells.data is not None:
        with open_source(cells.data) as source:
            fill_whole(target, source)
    else:
        assert cells.path is not None  # not in memory
        with open_file(cells.path) as file:
            copy_group(file, target)


def _add_columns(obs: h5py.Group, added: pd.DataFrame) -> None:
    from anndata.io import write_elem

    kept = [name for name in FileAnnotations(obs, "obs", "").columns if name not in added]
    for name in added:
        if name in obs:
            del obs[name]
        write_elem(obs, name, added[name].values)
    obs.attrs["column-order"] = np.array([*kept, *added], dtype=object)


def _write_memory(adata: Any, target: h5py.File, added: pd.DataFrame) -> None:
    import pandas as pd
    from anndata.io import write_elem

    obs = pd.DataFrame(adata.obs)
    kept = obs.drop(columns=[name for name in obs.columns if name in added])
    obs = pd.concat([kept, added.set_axis(obs.index, axis=0)], axis=1)
    tables = {"obs": obs, "var": pd.DataFrame(adata.var).copy()}
    write_slots(adata, target, leave_out=tables)
    for axis, table in tables.items():
        # A file cannot hold a text column with missing values, a categorical it can.
        adata.strings_to_categoricals(table)
        write_elem(target, axis, table)
    if adata.X is not None:
        write_elem(target, "X", adata.X)
