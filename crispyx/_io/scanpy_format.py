"""The layout of ``scanpy.tl.rank_genes_groups``, written from the tables of a result file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from crispyx._io.annotations import FileAnnotations
from crispyx._io.encode import TEXT
from crispyx.errors import InputError

# scanpy's name: (our table, type in scanpy's files)
TABLES = {
    "scores": ("layers/z_score", np.float32),
    "pvals": ("layers/pvalue", np.float64),
    "pvals_adj": ("layers/pvalue_adj", np.float64),
    "logfoldchanges": ("layers/logfoldchanges", np.float32),
}
FRACTIONS = {"pts": "layers/pts", "pts_rest": "layers/pts_rest"}


def write_rank_genes_groups(file: h5py.File, key: str, params: Mapping[str, Any]) -> None:
    """Write ``uns[key]`` so that ``scanpy.get.rank_genes_groups_df`` reads it.

    Parameters
    ----------
    file : h5py.File
        Result file with X, layers, obs and var complete.
    key : str
        Entry of uns.
    params : mapping
        Entry ``params``.

    Genes are sorted by falling absolute score, untested ones last.
    """
    import pandas as pd
    from anndata.io import write_elem

    groups = list(FileAnnotations(file["obs"], "obs", file.filename).index)
    genes = FileAnnotations(file["var"], "var", file.filename).index
    order = [np.argsort(-np.abs(row), kind="stable") for row in file["layers/z_score"]]
    tables = {"names": records([genes[o] for o in order], groups)}
    for name, (element, kind) in TABLES.items():
        rows = file[element][()].astype(kind)
        columns = [row[o] for row, o in zip(rows, order, strict=True)]
        tables[name] = records(columns, groups)
    fractions = {
        name: pd.DataFrame(file[table][()].T, index=genes, columns=groups)
        for name, table in FRACTIONS.items()
    }
    write_elem(file["uns"], key, {"params": dict(params), **tables, **fractions})


def require_room(groups: Sequence[str]) -> None:
    """Raise when HDF5 cannot hold a record with a field for every perturbation.

    Raises
    ------
    InputError
        Their names and types take more than 64 KB, from about 1,000 perturbations on.
    """
    fields = np.dtype([(name, TEXT) for name in groups])
    with h5py.File("room", "w", driver="core", backing_store=False) as file:
        try:
            file.create_dataset("names", shape=(1,), dtype=fields)
        except ValueError as error:
            raise InputError(
                f"scanpy's layout cannot hold {len(groups)} perturbations in a file ({error}); "
                "leave scanpy_format=False and use the result's tables or "
                "to_rank_genes_groups_dict(), or choose fewer with perturbations="
            ) from error


def records(columns: Sequence[np.ndarray], names: Sequence[str]) -> np.recarray:
    """Return a record array with one named field per column (n_genes,)."""
    fields = np.dtype([(name, column.dtype) for name, column in zip(names, columns, strict=True)])
    return np.rec.fromarrays(columns, dtype=fields)
