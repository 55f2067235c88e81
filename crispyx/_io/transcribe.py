"""Elements of an AnnData copied between HDF5 files and zarr stores, matrices block by block.

anndata lays out both in the same tree of groups, arrays and attributes. Matrices and arrays of
numbers are streamed; tables and what else is small goes through anndata whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import numpy as np

from crispyx._io.damage import name_of, read_stored, reading_structure
from crispyx._io.encode import nullable_strings
from crispyx._io.zarr_stores import ZarrArray, is_array
from crispyx.errors import InputError

CHUNK_VALUES = 1 << 18  # of a chunk in a shard: 1 to 2 MB
SHARD_CHUNKS = 16
STEP_VALUES = CHUNK_VALUES * SHARD_CHUNKS  # read at a time, and of a chunk outside shards
CONTAINERS = ("dict", "raw", "anndata")


def copy_element(node: Any, parent: Any, name: str, *, sharded: bool = False) -> None:
    """Copy an array or group of a file or store into another file or store.

    Parameters
    ----------
    node : h5py.Group, h5py.Dataset, zarr.Group or zarr.Array
        The element.
    parent : h5py.Group or zarr.Group
        Where it goes.
    name : str
        What it is called there.
    sharded : bool
        Several chunks in one file; of a zarr store in format 3.

    Raises
    ------
    InputError
        The format of the store has no place for such an element.
    """
    attributes = _plain_attributes(node)
    kind = str(attributes.get("encoding-type", ""))
    if is_array(node):
        if node.ndim and node.dtype.kind in "biuf" and kind in ("", "array"):
            _copy_array(node, parent, name, {**_mark_of_arrays(), **attributes}, sharded)
        else:
            _copy_whole(node, parent, name)
    elif kind in ("csr_matrix", "csc_matrix"):
        group = _new_group(parent, name, attributes)
        for part in node:
            _copy_array(node[part], group, part, _plain_attributes(node[part]), sharded)
    elif kind in CONTAINERS:
        group = _new_group(parent, name, attributes)
        for part in node:
            copy_element(node[part], group, part, sharded=sharded)
    else:
        _copy_whole(node, parent, name)


def _mark_of_arrays() -> dict[str, str]:
    return {"encoding-type": "array", "encoding-version": "0.2.0"}


def _plain_attributes(node: Any) -> dict[str, Any]:
    return {
        name: value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        for name, value in dict(node.attrs).items()
    }


def _new_group(parent: Any, name: str, attributes: Mapping[str, Any]) -> Any:
    group = parent.require_group(name)
    group.attrs.update(attributes)
    return group


def _copy_whole(node: Any, parent: Any, name: str) -> None:
    from anndata.io import write_elem

    value = read_stored(node)
    try:
        with nullable_strings():
            write_elem(parent, name, value)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise InputError(
            f"{name_of(node)} cannot be copied ({type(error).__name__}: {error}): damaged, or it "
            "has no place in a zarr store; write an .h5ad file, or take it out"
        ) from error


def _copy_array(
    node: Any, parent: Any, name: str, attributes: Mapping[str, Any], sharded: bool
) -> None:
    dtype = node.dtype.newbyteorder("=")
    target = _new_array(parent, name, tuple(node.shape), dtype, sharded)
    target.attrs.update(attributes)
    source = node if isinstance(node, h5py.Dataset) else ZarrArray(node)
    for start, stop in _spans(source.shape):
        with reading_structure(name_of(node)):
            values = source[start:stop]
        target[start:stop] = values


def _spans(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Yield ranges of the first axis that begin and end where chunks and shards do."""
    step = SHARD_CHUNKS * _rows(shape, CHUNK_VALUES)
    for start in range(0, shape[0], step):
        yield start, min(start + step, shape[0])


def _rows(shape: tuple[int, ...], values: int) -> int:
    return max(1, values // max(1, int(np.prod(shape[1:], dtype=np.int64))))


def _new_array(
    parent: Any, name: str, shape: tuple[int, ...], dtype: np.dtype, sharded: bool
) -> Any:
    if isinstance(parent, h5py.Group):
        return parent.create_dataset(name, shape=shape, dtype=dtype)
    n_rows = _rows(shape, CHUNK_VALUES)
    rest = tuple(max(1, n) for n in shape[1:])
    long = shape[0] > n_rows
    shard = (n_rows * SHARD_CHUNKS, *rest)
    if not hasattr(parent, "create_array"):  # zarr before 3
        return parent.create_dataset(name, shape=shape, dtype=dtype, chunks=shard)
    form: dict[str, Any] = {"chunks": shard}
    if sharded and long:
        form = {"chunks": (n_rows, *rest), "shards": shard}
    elif not long:
        form = {"chunks": (max(1, shape[0]), *rest)}
    return parent.create_array(name, shape=shape, dtype=dtype, **form)
