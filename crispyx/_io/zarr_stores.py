"""AnnData in zarr stores (format 2 and 3, sharded or not), opened for reading.

A store is a folder, or what an address such as ``s3://bucket/screen.zarr`` names (fsspec).
"""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.damage import read_stored, reading_structure
from crispyx.errors import InputError

if TYPE_CHECKING:
    import anndata

MARKS = ("zarr.json", ".zgroup")
# What zarr and its codecs raise where a chunk or its metadata are damaged.
UNREADABLE = (
    ValueError,
    TypeError,
    RuntimeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    SystemError,
)
# Anything that goes wrong while metadata are taken apart.
UNOPENED = (*UNREADABLE, OSError, json.JSONDecodeError)


def is_store_name(path: Path) -> bool:
    """Tell whether a name is that of a zarr store."""
    return path.suffix == ".zarr"


def is_zarr_store(path: Path) -> bool:
    """Tell whether a path is the folder of a zarr group."""
    return path.is_dir() and any((path / name).is_file() for name in MARKS)


def is_address(data: Any) -> bool:
    """Tell an address such as ``s3://bucket/screen.zarr`` from a path."""
    return isinstance(data, str) and "://" in data


def require_file(path: Path) -> None:
    """Raise where a file is needed and the path is a store.

    Raises
    ------
    InputError
        Says how to make an .h5ad file of it.
    """
    if is_zarr_store(path):
        raise InputError(
            f"{str(path)!r} is a zarr store; this needs an .h5ad file: write one with "
            "cx.pp.convert_to_csr or cx.pp.convert_to_csc"
        )


def import_zarr(what: str) -> ModuleType:
    """Return the package that reads and writes stores.

    Raises
    ------
    ImportError
        It is not installed; the message says how to install it.
    """
    try:
        import zarr
    except ImportError as error:
        raise ImportError(
            f"{what} is a zarr store, and zarr is not installed: "
            'pip install "crispyx[zarr]" (in a source tree: pip install ".[zarr]")'
        ) from error
    return zarr  # type: ignore[no-any-return]


def open_store(path: Path | str) -> Any:
    """Open the group of a store for reading; a text is taken as an address.

    Raises
    ------
    ImportError
        zarr or fsspec is not installed; the message says how to install it.
    InputError
        There is no store, or its metadata are damaged.
    """
    zarr = import_zarr(repr(str(path)))
    if is_address(path):
        _require_fsspec(str(path))
    try:
        return zarr.open_group(str(path), mode="r")
    except UNOPENED as error:
        raise InputError(
            f"{str(path)!r} cannot be opened as a zarr store ({type(error).__name__}: {error}); "
            "copy it again, or check the address"
        ) from error


def _require_fsspec(address: str) -> None:
    try:
        import fsspec
    except ImportError as error:
        raise ImportError(
            f"{address!r} is an address, and fsspec is not installed: "
            'pip install "crispyx[zarr]" (in a source tree: pip install ".[zarr]")'
        ) from error
    protocol = address.partition("://")[0]
    try:
        fsspec.get_filesystem_class(protocol)
    except (ImportError, ValueError) as error:
        raise InputError(f"{address!r} cannot be opened: {error}") from error


def is_array(node: Any) -> bool:
    """Tell an array from a group."""
    return hasattr(node, "dtype")


def is_group(owner: Any) -> bool:
    """Tell the group of a file or store from an AnnData."""
    return hasattr(owner, "attrs") and not is_array(owner)


class ZarrArray:
    """An array of a store; what fails while it is read is an OSError, as with HDF5."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self.shape: tuple[int, ...] = tuple(array.shape)
        self.ndim = len(self.shape)
        self.size = int(np.prod(self.shape, dtype=np.int64))
        self.dtype = np.dtype(array.dtype)

    def __getitem__(self, key: Any) -> np.ndarray:
        try:
            return np.asarray(self._array[key])
        except UNREADABLE as error:
            raise OSError(f"{type(error).__name__}: {error}") from error


def readable(array: Any) -> Any:
    """Return an array of a file as it is, one of a store as a :class:`ZarrArray`."""
    return ZarrArray(array) if type(array).__module__.startswith("zarr") else array


def open_anndata(path: Path) -> anndata.AnnData:
    """Return the AnnData of a store: X and layers stay in it, everything else is read.

    Raises
    ------
    InputError
        A damaged store.
    """
    import anndata
    from anndata.io import sparse_dataset

    def lazy(node: Any) -> Any:
        if is_array(node):
            return node
        sparse = "indptr" in node
        return sparse_dataset(node) if sparse else read_stored(node)

    group = open_store(path)
    with reading_structure(str(path)):
        small = ("obs", "var", "uns", "obsm", "varm", "obsp", "varp", "raw")
        slots = {name: read_stored(group[name]) for name in small if name in group}
        if "layers" in group:
            slots["layers"] = {name: lazy(group["layers"][name]) for name in group["layers"]}
        return anndata.AnnData(X=lazy(group["X"]) if "X" in group else None, **slots)
