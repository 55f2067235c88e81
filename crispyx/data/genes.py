"""Names of genes."""

from __future__ import annotations

import logging
import os
import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.annotations import as_labels, as_text, plain_column
from crispyx._io.source import MatrixSource
from crispyx.data.ondisk import load_var
from crispyx.errors import CrispyxWarning, MissingColumnError

if TYPE_CHECKING:
    import pandas as pd

ENSEMBL = re.compile(r"ENS[A-Z]*G\d{6,}(\.\d+)?(_.*)?", re.IGNORECASE)

_log = logging.getLogger("crispyx.data")


def ensure_gene_symbol_column(adata: Any, gene_name_column: str | None) -> pd.Index:
    """Return the gene symbols of a data set.

    Ensembl identifiers are accepted; a note is logged (INFO, logger ``crispyx.data``), because
    symbols read better in tables and plots. A gene without symbol goes by its name in the index,
    with a warning.

    Parameters
    ----------
    adata : anndata.AnnData, crispyx.AnnData, str or pathlib.Path
        The data set.
    gene_name_column : str or None
        var column of symbols; None takes ``var_names``.

    Returns
    -------
    pandas.Index (n_genes,)
        Text, named after the column.

    Raises
    ------
    KeyError
        var has no such column.
    """
    import pandas as pd

    var = load_var(adata) if isinstance(adata, (str, os.PathLike)) else adata.var
    index = as_text(np.asarray(var.index, dtype=object))
    if gene_name_column is None:
        _log.info("gene symbols: var_names (no gene_name_column given)")
        return pd.Index(_noted(index, "var_names"), dtype=object)
    if gene_name_column not in var.columns:
        raise MissingColumnError(
            f"gene_name_column {gene_name_column!r} is not in var; its columns are: "
            + (", ".join(map(repr, var.columns)) or "none")
        )
    symbols = _filled(plain_column(var[gene_name_column]), index, gene_name_column)
    return pd.Index(_noted(symbols, gene_name_column), dtype=object, name=gene_name_column)


def gene_symbols(source: MatrixSource, gene_name_column: str | None) -> np.ndarray:
    """Return the gene symbols of an opened matrix (n_genes,) str.

    Raises
    ------
    MissingColumnError
        var has no such column.
    """
    if gene_name_column is None:
        return _noted(source.var.index, "var_names")
    symbols = source.var.column(gene_name_column)
    return _noted(_filled(symbols, source.var.index, gene_name_column), gene_name_column)


def _filled(symbols: np.ndarray, index: np.ndarray, column: str) -> np.ndarray:
    known = as_labels(symbols)
    missing = np.array([symbol is None for symbol in known], dtype=bool)
    if missing.any():
        warnings.warn(
            f"{int(missing.sum())} of {len(known)} genes have no entry in var column {column!r}; "
            "they go by their names in the index",
            CrispyxWarning,
            stacklevel=4,
        )
        known[missing] = index[missing]
    return known


def _noted(names: np.ndarray, where: str) -> np.ndarray:
    n_ensembl = sum(ENSEMBL.fullmatch(name) is not None for name in names)
    if 2 * n_ensembl > len(names):
        _log.info(
            "%s holds Ensembl identifiers (%d of %d); a column of gene symbols, given as "
            "gene_name_column=, would read better in tables and plots",
            where,
            n_ensembl,
            len(names),
        )
    return names
