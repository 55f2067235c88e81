"""Elements of an h5ad file or zarr store written or replaced in place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py

from crispyx._io.damage import entries, read_stored
from crispyx._io.encode import mark, nullable_strings
from crispyx._io.in_place import changed_in_place
from crispyx._io.record import write_record
from crispyx._io.stores import changed_store
from crispyx._io.zarr_stores import is_zarr_store

if TYPE_CHECKING:
    import pandas as pd

NEW = ".crispyx_new"  # where an element stands until the old one is gone


def replace_elements(
    path: Path, elements: Mapping[str, Any], record: Mapping[str, Any] | None = None
) -> None:
    """Write or replace elements such as ``"obs"`` or ``"obsm/X_pca"``, all of them or none.

    Parameters
    ----------
    path : pathlib.Path
        The file, changed in place at the end.
    elements : mapping of str to any
        Values in any type that anndata writes. Tables in obsm and varm take over the names of a
        new obs or var.
    record : mapping or None
        Identity of the file, where it is a result as a whole.
    """
    change = changed_store if is_zarr_store(path) else changed_in_place
    with change(path) as file, nullable_strings():
        for name, value in elements.items():
            slot = name.partition("/")[0]
            if slot != name and slot not in file:
                mark(file.create_group(slot), "dict", "0.1.0")
            _replace(file, name, value)
            if name in ("obs", "var"):
                _rename_rows(file, f"{name}m", value.index)
        if record is not None:
            write_record(file, record)


def _replace(file: Any, name: str, value: Any) -> None:
    from anndata.io import write_elem

    if not isinstance(file, h5py.File):  # a store writes nothing over the old element
        write_elem(file, name, value)
        return
    write_elem(file, NEW, value)
    if name in file:
        del file[name]
    file.move(NEW, name)


def _rename_rows(file: Any, slot: str, index: pd.Index) -> None:
    """Give tables of obsm or varm the new names: anndata refuses a file with two sets of them."""
    from anndata.io import write_elem

    for key, node in entries(file, slot).items():
        if node.attrs.get("encoding-type") == "dataframe":
            table = read_stored(node)
            if not table.index.equals(index):
                write_elem(file[slot], key, table.set_index(index))
