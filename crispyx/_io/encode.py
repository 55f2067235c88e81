"""Elements of an h5ad file, written with h5py in anndata's on-disk encoding.

Only what results need: text and number arrays, scalars, nested dicts, tables, and the frame of a
matrix. Any richer element goes through ``anndata.io.write_elem``.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import h5py
import numpy as np

TEXT = h5py.string_dtype("utf-8")


def mark(node: h5py.HLObject, kind: str, version: str) -> None:
    """Write the two attributes that tell anndata how an element is stored."""
    node.attrs["encoding-type"] = kind
    node.attrs["encoding-version"] = version


def start_file(file: h5py.File) -> None:
    """Mark a file as AnnData and create the (empty) containers that readers expect."""
    mark(file, "anndata", "0.1.0")
    for name in ("layers", "obsm", "varm", "obsp", "varp", "uns"):
        if name not in file:
            mark(file.create_group(name), "dict", "0.1.0")


def write_array(group: h5py.Group, name: str, values: np.ndarray) -> None:
    """Write an array of numbers, booleans or text."""
    values = np.asarray(values)
    if values.dtype.kind in "OUS":
        node = group.create_dataset(name, data=values.astype(object), dtype=TEXT)
        mark(node, "string-array", "0.2.0")
    else:
        mark(group.create_dataset(name, data=values), "array", "0.2.0")


def write_value(group: h5py.Group, name: str, value: Any) -> None:
    """Write a scalar, text, array or (nested) mapping.

    Raises
    ------
    TypeError
        Any other type.
    """
    if isinstance(value, Mapping):
        child = group.create_group(name)
        mark(child, "dict", "0.1.0")
        for key, item in value.items():
            write_value(child, str(key), item)
    elif isinstance(value, str):
        mark(group.create_dataset(name, data=value, dtype=TEXT), "string", "0.2.0")
    elif isinstance(value, (bool, int, float, np.generic)):
        mark(group.create_dataset(name, data=value), "numeric-scalar", "0.2.0")
    elif isinstance(value, (list, tuple, np.ndarray)):
        write_array(group, name, np.asarray(value))
    else:
        raise TypeError(f"a {type(value).__name__} cannot be written as {name!r}")


def write_frame(
    group: h5py.Group,
    name: str,
    index: np.ndarray,
    columns: Mapping[str, np.ndarray],
    index_name: str = "_index",
) -> None:
    """Write a table of columns (n,) with a text index (n,)."""
    frame = group.create_group(name)
    mark(frame, "dataframe", "0.2.0")
    frame.attrs["_index"] = index_name
    frame.attrs.create("column-order", np.array(list(columns), dtype=object), dtype=TEXT)
    # A column of the index's own name repeats it: as in anndata, one dataset is both.
    for column, values in {index_name: np.asarray(index, dtype=object), **columns}.items():
        write_array(frame, column, values)


def create_array(
    parent: h5py.Group, name: str, shape: tuple[int, ...], dtype: np.dtype
) -> h5py.Dataset:
    """Create an array that is filled later."""
    node = parent.create_dataset(name, shape=shape, dtype=dtype)
    mark(node, "array", "0.2.0")
    return node


def create_compressed(
    parent: h5py.Group,
    name: str,
    layout: str,
    shape: tuple[int, int],
    n_values: int,
    dtype: np.dtype,
) -> h5py.Group:
    """Create a CSR or CSC matrix whose ``data`` and ``indices`` are filled later.

    Parameters
    ----------
    parent, name
        Where it goes, such as the file and ``"X"``.
    layout : {"csr", "csc"}
        Axis it is stored by.
    shape : tuple (n_cells, n_genes)
        Shape.
    n_values : int
        Number of stored values.
    dtype : numpy.dtype
        Type of the values.
    """
    node = parent.create_group(name)
    mark(node, f"{layout}_matrix", "0.1.0")
    node.attrs["shape"] = np.array(shape, dtype=np.int64)
    for part, kind in (("data", dtype), ("indices", np.dtype(np.int32))):
        node.create_dataset(part, shape=(n_values,), dtype=kind)
    return node


def write_pointers(node: h5py.Group, indptr: np.ndarray) -> None:
    """Write the pointers (n_major + 1,) int64 of a compressed matrix, as int32 where they fit."""
    fits = max(int(indptr[-1]), *node.attrs["shape"]) < 2**31
    node.create_dataset("indptr", data=indptr.astype(np.int32 if fits else np.int64))


def nullable_strings() -> AbstractContextManager[Any]:
    """Let anndata write the nullable text columns that it has read."""
    import anndata

    if hasattr(anndata.settings, "allow_write_nullable_strings"):
        return anndata.settings.override(allow_write_nullable_strings=True)
    return nullcontext()
