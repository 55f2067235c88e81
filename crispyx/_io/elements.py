"""Single elements of an h5ad file or zarr store, read whole without opening the matrix."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crispyx._io.damage import read_stored, reading_structure
from crispyx._io.source import open_file
from crispyx._io.zarr_stores import is_zarr_store, open_store, require_file
from crispyx.errors import InputError


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Yield the group that holds the slots."""
    if is_zarr_store(path):
        yield open_store(path)
        return
    with open_file(path) as file:
        yield file


def require_h5ad(path: Path) -> None:
    """Raise unless the path is a file that opens and holds obs and var.

    Raises
    ------
    InputError
        As :func:`require_tables`; a zarr store.
    """
    require_file(path)
    require_tables(path)


def require_tables(path: Path) -> None:
    """Raise unless the file or store opens and holds obs and var.

    Raises
    ------
    InputError
        Not HDF5, cut short, or HDF5 of another kind.
    """
    with _opened(path) as group:
        missing = [axis for axis in ("obs", "var") if axis not in group]
        if missing:
            raise InputError(
                f"{str(path)!r} has no {' and no '.join(missing)}; "
                "it is not an AnnData (.h5ad, zarr)"
            )


def read_table(path: Path, axis: str) -> Any:
    """Return ``obs`` or ``var`` as a pandas.DataFrame with anndata's dtypes."""
    require_tables(path)
    return read_element(path, axis)


def read_element(path: Path, name: str) -> Any:
    """Return one element, such as ``"uns/rank_genes_groups"``, as anndata reads it."""
    with _opened(path) as group, reading_structure(f"{path} [{name}]"):
        return read_stored(group[name])


def element_names(path: Path, slot: str) -> list[str]:
    """Return the names inside a slot, such as ``"uns"``; empty when the file lacks it."""
    with _opened(path) as group, reading_structure(f"{path} [{slot}]"):
        return list(group[slot]) if slot in group else []
