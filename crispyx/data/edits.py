"""Tables and arrays of a file or of an AnnData replaced in place, without touching the matrix.

A process that is killed leaves the file as it was before, see ``crispyx._io.in_place``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
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


def write_obsm_to_h5ad(path: Any, key: str, data: np.ndarray) -> None:
    """Write or replace ``obsm[key]`` of a file.

    Parameters
    ----------
    path : str, pathlib.Path, AnnData or anndata.AnnData
        The .h5ad file or zarr store, changed in place; an AnnData in memory is changed itself.
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


def write_varm_to_h5ad(path: Any, key: str, data: np.ndarray) -> None:
    """Write or replace ``varm[key]`` of a file.

    Parameters
    ----------
    path : str, pathlib.Path, AnnData or anndata.AnnData
        The .h5ad file or zarr store, changed in place; an AnnData in memory is changed itself.
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


def write_obsp_to_h5ad(path: Any, key: str, data: Any) -> None:
    """Write or replace ``obsp[key]`` of a file, as CSR.

    Parameters
    ----------
    path : str, pathlib.Path, AnnData or anndata.AnnData
        The .h5ad file or zarr store, changed in place; an AnnData in memory is changed itself.
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

    n_cells = _length(path, "obs")
    matrix = sp.csr_matrix(data)
    if matrix.shape != (n_cells, n_cells):
        raise InputError(
            f"obsp[{key!r}] has shape {matrix.shape} but {named(path)} has {n_cells} cells"
        )
    _replace(path, "obsp", key, matrix)


def write_uns_dict_to_h5ad(path: Any, key: str, data: Mapping[str, Any]) -> None:
    """Write or replace ``uns[key]`` of a file.

    Parameters
    ----------
    path : str, pathlib.Path, AnnData or anndata.AnnData
        The .h5ad file or zarr store, changed in place; an AnnData in memory is changed itself.
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
    _replace(path, "uns", key, dict(data))


def write_obs(path: Any, df: pd.DataFrame) -> None:
    """Replace the table of the cells.

    Parameters
    ----------
    path : str, pathlib.Path, AnnData or anndata.AnnData
        The .h5ad file or zarr store, changed in place; an AnnData in memory is changed itself.
    df : pandas.DataFrame (n_cells, n_columns)
        The new table; its index names the cells.

    Raises
    ------
    ValueError
        Another number of rows.
    """
    _write_table(path, "obs", df)


def write_var(path: Any, df: pd.DataFrame) -> None:
    """Replace the table of the genes.

    Parameters
    ----------
    path : str, pathlib.Path, AnnData or anndata.AnnData
        The .h5ad file or zarr store, changed in place; an AnnData in memory is changed itself.
    df : pandas.DataFrame (n_genes, n_columns)
        The new table; its index names the genes.

    Raises
    ------
    ValueError
        Another number of rows.
    """
    _write_table(path, "var", df)


def _write_table(data: Any, axis: str, table: pd.DataFrame) -> None:
    n_rows = _length(data, axis)
    if len(table) != n_rows:
        raise InputError(
            f"the new {axis} has {len(table)} rows but that of {named(data)} has {n_rows}"
        )
    replace_table(data, axis, table)


def replace_table(data: Any, axis: str, table: pd.DataFrame) -> None:
    """Replace obs or var where it is."""
    if in_memory(data):
        setattr(data, axis, table.copy())
    else:
        replace_elements(resolve_data_path(data), {axis: storable(table)})


def storable(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table that anndata can write: text with missing values as categories."""
    table = table.copy()
    table.index = table.index.astype(str)
    for name in table.columns:
        if table[name].dtype == object and table[name].isna().any():
            table[name] = table[name].astype("category")
    return table


def in_memory(data: Any) -> bool:
    """Tell whether data are an AnnData in memory.

    Raises
    ------
    InputError
        A view of another one, whose changes would be lost.
    """
    held = getattr(data, "isbacked", None) is False
    if held and data.is_view:
        raise InputError("this AnnData is a view of another one; give a copy: adata.copy()")
    return held


def named(data: Any) -> str:
    """Return what a message calls data."""
    return "the AnnData in memory" if in_memory(data) else repr(str(resolve_data_path(data)))


def _write_array(data: Any, slot: str, key: str, values: Any, axis: str) -> None:
    array = np.asarray(values)
    n_rows = _length(data, axis)
    if array.ndim != 2 or len(array) != n_rows:
        raise InputError(
            f"{slot}[{key!r}] has shape {array.shape} but {axis} of {named(data)} has {n_rows} "
            "entries; give one row for each"
        )
    _replace(data, slot, key, array)


def _replace(data: Any, slot: str, key: str, value: Any) -> None:
    if not key or "/" in key:
        raise InputError(f"key is {key!r}; give a name without '/'")
    if in_memory(data):
        getattr(data, slot)[key] = value
    else:
        replace_elements(resolve_data_path(data), {f"{slot}/{key}": value})


def _length(data: Any, axis: str) -> int:
    table = getattr(data, axis) if in_memory(data) else read_table(resolve_data_path(data), axis)
    return len(table)
