"""Calls wherever they are held: AnnData, Arrow, pandas, or a file of any format written here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from crispyx._io.annotations import as_text, plain_column
from crispyx._io.damage import reading_structure
from crispyx._io.elements import element_names, read_element, read_table, require_h5ad
from crispyx._io.paths import resolve_data_path
from crispyx.errors import InputError, MissingColumnError
from crispyx.guides.call_tables import (
    CELL_COLUMNS,
    cells_of_pairs,
    is_table_file,
    read_call_table,
    require_columns,
    split_lists,
    typed,
)
from crispyx.guides.calls import BARCODE
from crispyx.guides.counts import require_unique_names

if TYPE_CHECKING:
    import anndata
    import pandas as pd

CONSTRUCTS = "constructs"  # obsm and uns of calls whose constructs are known


@dataclass(frozen=True)
class Calls:
    """The calls of every cell.

    Attributes
    ----------
    table : pandas.DataFrame
        obs of what ``assign`` returned.
    barcodes : numpy.ndarray (n_cells,) str
        Its index, unique.
    guides : numpy.ndarray (n_guides,) str
        All guides, called or not; of a table, those that are called.
    model : str
        Assignment model; ``"unknown"`` when the calls do not say.
    path : pathlib.Path or None
        Their file; None for calls in memory.
    where : str
        File, for messages.
    adata : anndata.AnnData or None
        The calls in memory, if they are.
    pairs : tuple of two arrays (n_calls,) or None
        Row and guide of every call, of a table of one row per call.
    is_table : bool
        Held by a table, which does not list guides without a call.
    var : pandas.DataFrame or None
        Columns of the guides; None of a table.
    """

    COLUMNS: ClassVar[tuple[str, ...]] = ("guide_umi", "n_guides_detected", "is_multi_infected")

    table: pd.DataFrame
    barcodes: np.ndarray
    guides: np.ndarray
    model: str
    path: Path | None
    where: str
    adata: Any
    pairs: tuple[np.ndarray, np.ndarray] | None = None
    is_table: bool = False
    var: Any = None

    @property
    def has_constructs(self) -> bool:
        """Whether :func:`crispyx.guides.constructs` has been there."""
        return {"construct", "target", "guide_class"}.issubset(self.table.columns)

    def assigned(self) -> Any:
        """Return the layer of calls, cells x guides.

        Raises
        ------
        InputError
            A table of one row per cell, of cells with several guides.
        """
        if self.adata is not None:
            return self.adata.layers["assigned"]
        if not self.is_table:
            assert self.path is not None  # not in memory
            return read_element(self.path, "layers/assigned")
        import pandas as pd
        import scipy.sparse as sp

        shape = (len(self.barcodes), len(self.guides))
        if self.pairs is not None:
            ones = np.ones(len(self.pairs[0]), dtype=np.uint8)
            return sp.csr_matrix((ones, self.pairs), shape=shape)
        several = np.flatnonzero(self.table["is_multi_infected"].to_numpy(bool))
        if len(several):
            raise InputError(
                f"{self.where} names one guide of cell {self.barcodes[several[0]]!r}, which has "
                "several; give the AnnData of crispyx.guides.assign, its .h5ad, or a table written "
                "with long=True"
            )
        guide = plain_column(self.table["guide_id"])
        cells = np.flatnonzero(~self.table["is_unassigned"].to_numpy(bool))
        columns = pd.Index(self.guides).get_indexer(pd.Index(guide[cells]))
        return sp.csr_matrix((np.ones(len(cells), dtype=np.uint8), (cells, columns)), shape=shape)

    def constructs(self) -> tuple[Any, np.ndarray]:
        """Return the constructs of every cell and their targets.

        Returns
        -------
        carried : scipy.sparse.csr_matrix (n_cells, n_constructs) uint8
            1 where the cell carries the construct.
        targets : numpy.ndarray (n_constructs,) str
            Target of each.

        Raises
        ------
        InputError
            They are held by a table, which does not list all of a cell.
        """
        adata = self.whole()
        if CONSTRUCTS not in adata.obsm or CONSTRUCTS not in adata.uns:
            raise InputError(
                f"{self.where} has no obsm[{CONSTRUCTS!r}]; give what crispyx.guides.constructs "
                "returned"
            )
        targets = np.asarray(adata.uns[CONSTRUCTS]["target"], dtype=object)
        return adata.obsm[CONSTRUCTS], targets

    def whole(self) -> anndata.AnnData:
        """Return the calls as what ``assign`` returned.

        Raises
        ------
        InputError
            They are held by a table.
        """
        if self.adata is not None:
            return self.adata
        if self.is_table:
            raise InputError(
                f"{self.where} is a table and lacks the counts of the guides; give the AnnData of "
                "crispyx.guides.assign, or its .h5ad"
            )
        import anndata

        return anndata.read_h5ad(self.path)


def read_calls(calls: Any) -> Calls:
    """Return calls from wherever they are held.

    Parameters
    ----------
    calls : anndata.AnnData, crispyx.AnnData, pyarrow.RecordBatch, pyarrow.Table,
            pandas.DataFrame or path

    Raises
    ------
    MissingColumnError
        Not what ``assign`` or ``decide`` returns.
    InputError
        A barcode or guide that stands twice; a table that cannot be read.
    """
    if getattr(calls, "isbacked", None) is False:
        noted = calls.uns.get("crispyx_guides", {})
        return _checked(calls.obs, calls.var, noted, None, "the calls in memory", calls)
    if hasattr(calls, "to_pandas"):
        return _of_table(calls.to_pandas(), None, "the calls in memory")
    if hasattr(calls, "iloc"):
        table = calls if BARCODE in calls.columns else calls.reset_index(names=BARCODE)
        return _of_table(table, None, "the calls in memory")
    path = resolve_data_path(calls)
    with reading_structure(str(path)):
        if isinstance(calls, (str, os.PathLike)) and is_table_file(path):
            return _of_table(read_call_table(path), path, str(path))
        require_h5ad(path)
        has_note = "crispyx_guides" in element_names(path, "uns")
        noted = read_element(path, "uns/crispyx_guides") if has_note else {}
        obs, var = (read_table(path, axis) for axis in ("obs", "var"))
        return _checked(obs, var, noted, path, str(path), None)


def _checked(
    table: pd.DataFrame, var: pd.DataFrame, noted: Any, path: Path | None, where: str, adata: Any
) -> Calls:
    missing = [name for name in CELL_COLUMNS if name not in table.columns]
    if missing:
        raise MissingColumnError(
            f"obs of {where} has no {', '.join(map(repr, missing))}; give what "
            "crispyx.guides.assign returned as calls"
        )
    barcodes, names = (as_text(np.asarray(values)) for values in (table.index, var.index))
    require_unique_names(barcodes, names, where)
    model = str(noted.get("model", "unknown"))
    return Calls(table, barcodes, names, model, path, where, adata, var=var)


def _of_table(given: pd.DataFrame, path: Path | None, where: str) -> Calls:
    import pandas as pd

    kind = require_columns(given, where)
    table = typed(split_lists(given, where) if kind == "lists" else given, where)
    pairs = None
    called = table["guide_id"].dropna()
    guides = as_text(pd.unique(called.astype(object)))
    if kind != "cells":
        repeated = table.duplicated([BARCODE, "guide_id"])
        if repeated.any():
            cell, guide = table.loc[repeated, [BARCODE, "guide_id"]].iloc[0]
            raise InputError(f"{where}: the call of {guide!r} in cell {cell!r} stands twice")
        cells = cells_of_pairs(table)
        rows = cells.index.get_indexer(table[BARCODE])
        pairs = rows, pd.Index(guides).get_indexer(table["guide_id"])
    else:
        cells = table.set_index(BARCODE)
    barcodes = as_text(np.asarray(cells.index))
    require_unique_names(barcodes, guides, where)
    return Calls(cells, barcodes, guides, "unknown", path, where, None, pairs, True)
