"""Single elements of an h5ad file (tables, uns entries) read whole, without opening the matrix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crispyx._io.source import open_file
from crispyx.errors import InputError


def require_h5ad(path: Path) -> None:
    """Raise unless the file opens and holds obs and var.

    Raises
    ------
    InputError
        Not HDF5, cut short, or HDF5 of another kind.
    """
    with open_file(path) as file:
        missing = [axis for axis in ("obs", "var") if axis not in file]
        if missing:
            raise InputError(
                f"{str(path)!r} has no {' and no '.join(missing)}; "
                "it is not an AnnData (.h5ad) file"
            )


def read_table(path: Path, axis: str) -> Any:
    """Return ``obs`` or ``var`` as a pandas.DataFrame with anndata's dtypes."""
    require_h5ad(path)
    return read_element(path, axis)


def read_element(path: Path, name: str) -> Any:
    """Return one element, such as ``"uns/rank_genes_groups"``, as anndata reads it."""
    from anndata.io import read_elem

    with open_file(path) as file:
        return read_elem(file[name])


def element_names(path: Path, group: str) -> list[str]:
    """Return the names inside a group, such as ``"uns"``; empty when the file lacks it."""
    with open_file(path) as file:
        return list(file[group]) if group in file else []
