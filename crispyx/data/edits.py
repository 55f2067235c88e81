"""Tables and arrays of a file replaced in place, without touching the matrix.

A process that is killed leaves the file as it was before, see ``crispyx._io.in_place``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.edits import replace_elements
from crispyx._io.elements import read_table
from crispyx._io.paths import resolve_data_path
from crispyx.data.arguments import PathLike
from crispyx.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def drop_file_cache(path: PathLike) -> None:
    """Tell the kernel that a file need not stay in its page cache (Linux).

    Where a job's memory is limited (SLURM, containers), cached pages of files count; after a pass
    over a large file they are better given back. Nothing happens on other systems, or when the file
    cannot be opened.

    Parameters
    ----------
    path : str or pathlib.Path
        The file.
    """
    if not hasattr(os, "posix_fadvise"):
        return
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def write_obsm_to_h5ad(path: PathLike, key: str, data: np.ndarray) -> None:
    """Write or replace ``obsm[key]`` of a file.

    Parameters
    ----------
    path : str or pathlib.Path
        The .h5ad file, changed in place.
    key : str
        Name, such as ``"X_pca"``.
    data : numpy.ndarray (n_cells, n_dims)
        Dense.

    Raises
    ------
    ValueError
        The array has another number of rows or of dimensions.
    """
    _write_array(path, "obsm", key, data, "obs")


def write_varm_to_h5ad(path: PathLike, key: str, data: np.ndarray) -> None:
    """Write or replace ``varm[key]`` of a file.

    Parameters
    ----------
    path : str or pathlib.Path
        The .h5ad file, changed in place.
    key : str
        Name, such as ``"PCs"``.
    data : numpy.ndarray (n_genes, n_dims)
        Dense.

    Raises
    ------
    ValueError
        The array has another number of rows or of dimensions.
    """
    _write_array(path, "varm", key, data, "var")


def write_obsp_to_h5ad(path: PathLike, key: str, data: Any) -> None:
    """Write or replace ``obsp[key]`` of a file, as CSR.

    Parameters
    ----------
    path : str or pathlib.Path
        The .h5ad file, changed in place.
    key : str
        Name, such as ``"distances"`` or ``"connectivities"``.
    data : scipy sparse matrix (n_cells, n_cells)
        Of any format.

    Raises
    ------
    ValueError
        The matrix has another shape.
    """
    import scipy.sparse as sp

    found = resolve_data_path(path)
    n_cells = _length(found, "obs")
    matrix = sp.csr_matrix(data)
    if matrix.shape != (n_cells, n_cells):
        raise InputError(
            f"obsp[{key!r}] has shape {matrix.shape} but {str(found)!r} has {n_cells} cells"
        )
    replace_elements(found, {f"obsp/{_plain(key)}": matrix})


def write_uns_dict_to_h5ad(path: PathLike, key: str, data: Mapping[str, Any]) -> None:
    """Write or replace ``uns[key]`` of a file.

    Parameters
    ----------
    path : str or pathlib.Path
        The .h5ad file, changed in place.
    key : str
        Name, such as ``"pca"``.
    data : mapping of str to scalar, array or mapping
        Nested to any depth; read back by anndata as it was.

    Raises
    ------
    ValueError
        Not a mapping.
    """
    if not isinstance(data, Mapping):
        raise InputError(f"uns[{key!r}] is a {type(data).__name__}; give a dict")
    replace_elements(resolve_data_path(path), {f"uns/{_plain(key)}": dict(data)})


def write_obs(path: PathLike, df: pd.DataFrame) -> None:
    """Replace the table of the cells.

    Parameters
    ----------
    path : str or pathlib.Path
        The .h5ad file, changed in place.
    df : pandas.DataFrame (n_cells, n_columns)
        The new table; its index names the cells.

    Raises
    ------
    ValueError
        Another number of rows.
    """
    _write_table(path, "obs", df)


def write_var(path: PathLike, df: pd.DataFrame) -> None:
    """Replace the table of the genes.

    Parameters
    ----------
    path : str or pathlib.Path
        The .h5ad file, changed in place.
    df : pandas.DataFrame (n_genes, n_columns)
        The new table; its index names the genes.

    Raises
    ------
    ValueError
        Another number of rows.
    """
    _write_table(path, "var", df)


def _write_table(path: PathLike, axis: str, table: pd.DataFrame) -> None:
    found = resolve_data_path(path)
    n_rows = _length(found, axis)
    if len(table) != n_rows:
        raise InputError(
            f"the new {axis} has {len(table)} rows but that of {str(found)!r} has {n_rows}"
        )
    replace_elements(found, {axis: storable(table)})


def storable(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table that anndata can write: text with missing values as categories."""
    table = table.copy()
    table.index = table.index.astype(str)
    for name in table.columns:
        if table[name].dtype == object and table[name].isna().any():
            table[name] = table[name].astype("category")
    return table


def _write_array(path: PathLike, slot: str, key: str, data: Any, axis: str) -> None:
    found = resolve_data_path(path)
    array = np.asarray(data)
    n_rows = _length(found, axis)
    if array.ndim != 2 or len(array) != n_rows:
        raise InputError(
            f"{slot}[{key!r}] has shape {array.shape} but {axis} of {str(found)!r} has {n_rows} "
            "entries; give one row for each"
        )
    replace_elements(found, {f"{slot}/{_plain(key)}": array})


def _plain(key: str) -> str:
    if not key or "/" in key:
        raise InputError(f"key is {key!r}; give a name without '/'")
    return key


def _length(path: Path, axis: str) -> int:
    return len(read_table(path, axis))
