"""The layout of ``scanpy.tl.rank_genes_groups``, written from the tables of a result file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from crispyx._io.annotations import FileAnnotations

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
    records = {"names": np.rec.fromarrays([genes[o] for o in order], names=groups)}
    for name, (table, kind) in TABLES.items():
        rows = file[table][()].astype(kind)
        columns = [row[o] for row, o in zip(rows, order, strict=True)]
        records[name] = np.rec.fromarrays(columns, names=groups)
    fractions = {
        name: pd.DataFrame(file[table][()].T, index=genes, columns=groups)
        for name, table in FRACTIONS.items()
    }
    write_elem(file["uns"], key, {"params": dict(params), **records, **fractions})
