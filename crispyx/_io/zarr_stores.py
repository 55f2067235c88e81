"""AnnData in zarr stores (format 2 and 3, sharded or not), opened for reading.

The matrix is read block by block; tables are read when they are asked for, and other slots when
they are written elsewhere.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx.errors import InputError

if TYPE_CHECKING:
    import anndata
    import pandas as pd

MARKS = ("zarr.json", ".zgroup")
SLOTS = ("obs", "var", "uns", "obsm", "varm", "obsp", "varp", "layers")


def is_zarr_store(path: Path) -> bool:
    """Tell whether a path is the folder of a zarr group."""
    return path.is_dir() and any((path / name).is_file() for name in MARKS)


def require_file(path: Path) -> None:
    """Raise where a file is needed and the path is a store.

    Raises
    ------
    InputError
        Says how to make an .h5ad file of it.
    """
    if is_zarr_store(path):
        raise InputError(
            f"{str(path)!r} is a zarr store, from which matrices and tables are read; this needs "
            "an .h5ad file: write one with cx.pp.convert_to_csr or cx.pp.convert_to_csc"
        )


def open_store(path: Path) -> Any:
    """Open the group of a store for reading.

    Raises
    ------
    ImportError
        zarr is not installed; the message says how to install it.
    InputError
        The metadata of the store are damaged.
    """
    try:
        import zarr
    except ImportError as error:
        raise ImportError(
            f"{str(path)!r} is a zarr store, and zarr is not installed: "
            'pip install "crispyx[zarr]" (in a source tree: pip install ".[zarr]")'
        ) from error
    try:
        return zarr.open_group(str(path), mode="r")
    except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
        raise InputError(
            f"{str(path)!r} cannot be opened as a zarr store ({error}); copy it again"
        ) from error


def is_array(node: Any) -> bool:
    """Tell an array from a group."""
    return hasattr(node, "dtype")


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
        except (ValueError, TypeError, RuntimeError, KeyError) as error:
            raise OSError(f"{type(error).__name__}: {error}") from error


class StoredAnnData:
    """The slots of a store beside X, as attributes of an AnnData; each is read when asked for."""

    def __init__(self, group: Any) -> None:
        self._group = group

    def __getattr__(self, name: str) -> Any:
        if name not in SLOTS:
            raise AttributeError(name)
        value = self._read(name) if name in self._group else {}
        self.__dict__[name] = value  # not read again
        return value

    @cached_property
    def raw(self) -> Any:
        """``raw`` of the whole, or None."""
        return self._whole.raw if "raw" in self._group else None

    def strings_to_categoricals(self, frame: pd.DataFrame) -> None:
        """Turn columns of text into categories, as an AnnData does."""
        import anndata

        anndata.AnnData(obs=frame[[]]).strings_to_categoricals(frame)

    def __getitem__(self, key: Any) -> anndata.AnnData:
        return self._whole[key]

    @cached_property
    def _whole(self) -> anndata.AnnData:
        import anndata

        slots = {name: getattr(self, name) for name in SLOTS if name in self._group}
        raw = self._read("raw") if "raw" in self._group else None
        return anndata.AnnData(**slots, raw=raw)

    def _read(self, name: str) -> Any:
        from anndata.io import read_elem

        return read_elem(self._group[name])
