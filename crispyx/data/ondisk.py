"""AnnData files on disk: the wrapper every operation returns, and ways to look at a file."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from crispyx._io.damage import reading_structure
from crispyx._io.elements import read_table, require_h5ad
from crispyx._io.paths import resolve_data_path
from crispyx._io.zarr_stores import is_zarr_store, open_anndata
from crispyx.data.lazy import _LazyFrameAccessor, _LazyUnsMapping
from crispyx.errors import InputError

if TYPE_CHECKING:
    import anndata
    import pandas as pd

MODES = ("r", "r+")


class AnnData:
    """Thin wrapper around a backed :class:`anndata.AnnData`, which it opens when needed.

    ``obs``, ``var`` and ``uns`` are read from the file when looked at and leave the matrix alone;
    every other attribute (``shape``, ``X``, ``layers``, ``obsm``, ...) is that of the backed
    object. It can be pickled, used in a ``with`` block, and opens again after :meth:`close`.

    Parameters
    ----------
    path : str or pathlib.Path
        An .h5ad file, or the zarr store of an AnnData.
    mode : {"r", "r+"}
        Read only, or read and write (of an .h5ad file).

    Raises
    ------
    MissingFileError
        There is no such file.
    InputError
        Another mode.
    """

    def __init__(self, path: str | os.PathLike[str], *, mode: str = "r") -> None:
        if mode not in MODES:
            raise InputError(f"mode is {mode!r}; give 'r' (read) or 'r+' (read and write)")
        self._path = resolve_data_path(path)
        self._mode = mode
        self._backed: anndata.AnnData | None = None
        self._obs = _LazyFrameAccessor(self._path, "obs")
        self._var = _LazyFrameAccessor(self._path, "var")
        self._uns = _LazyUnsMapping(self._path)

    @property
    def path(self) -> Path:
        """Path of the file, as given."""
        return self._path

    @property
    def filename(self) -> str:
        """Path of the file as text, as :class:`anndata.AnnData` has it."""
        return str(self._path)

    @property
    def isbacked(self) -> bool:
        """True: the data is on disk."""
        return True

    @property
    def backed(self) -> anndata.AnnData:
        """The backed :class:`anndata.AnnData`, opened when first used."""
        if self._backed is None:
            self._backed = _open(self._path, self._mode)
        return self._backed

    @property
    def obs(self) -> _LazyFrameAccessor:
        """Table of the cells, read when looked at."""
        return self._obs

    @property
    def var(self) -> _LazyFrameAccessor:
        """Table of the genes, read when looked at."""
        return self._var

    @property
    def uns(self) -> _LazyUnsMapping:
        """Unstructured annotations, read entry by entry when looked at."""
        return self._uns

    def close(self) -> None:
        """Close the file and forget what was read; it opens again when needed."""
        if self._backed is not None:
            if self._backed.isbacked:
                self._backed.file.close()
            self._backed = None
        for view in (self._obs, self._var, self._uns):
            view._forget()

    def to_memory(self) -> anndata.AnnData:
        """Return the whole data set in memory."""
        with reading_structure(str(self._path)):
            return self.backed.to_memory()

    def __getattr__(self, name: str) -> Any:
        # Private names are never forwarded: copy, pickle and notebooks probe for them.
        if not name.startswith("_"):
            backed = self.backed
            if hasattr(backed, name):
                return getattr(backed, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __enter__(self) -> AnnData:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._path, self._mode)

    def __str__(self) -> str:
        return str(self._path)

    def __repr__(self) -> str:
        return f"AnnData(path={self._path}, mode={self._mode!r})"


def _reopen(path: Path, mode: str) -> AnnData:
    return AnnData(path, mode=mode)


def read_backed(path: str | os.PathLike[str]) -> anndata.AnnData:
    """Open a file as a backed :class:`anndata.AnnData`: the matrix stays on disk.

    Parameters
    ----------
    path : str or pathlib.Path
        An .h5ad file, or the zarr store of an AnnData.

    Returns
    -------
    anndata.AnnData
        Read only. anndata calls only that of an .h5ad file ``backed``; that of a store has X and
        layers on disk too, and everything else in memory.

    Raises
    ------
    MissingFileError, InputError
        No such file; not an AnnData file, or cut short.
    """
    return _open(resolve_data_path(path), "r")


def _open(path: Path, mode: str) -> anndata.AnnData:
    if is_zarr_store(path):
        if mode != "r":
            raise InputError(
                f"{str(path)!r} is a zarr store, which is opened for reading; change it with "
                "cx.data.write_obs, write_var, write_obsm_to_h5ad and their like"
            )
        return open_anndata(path)
    import anndata

    require_h5ad(path)
    with reading_structure(str(path)):
        return anndata.read_h5ad(path, backed=mode)


def read_h5ad_ondisk(path: str | os.PathLike[str], *, n_obs: int = 5, n_vars: int = 5) -> AnnData:
    """Open an .h5ad file on disk, print what is in it, and return a read-only view.

    Parameters
    ----------
    path : str or pathlib.Path
        An .h5ad file.
    n_obs, n_vars : int
        Rows of obs and of var to print.

    Returns
    -------
    AnnData
        Wrapper of the file.
    """
    for name, value in (("n_obs", n_obs), ("n_vars", n_vars)):
        if isinstance(value, bool) or int(value) != value or value < 0:
            raise InputError(f"{name} is {value!r}; give a number of rows >= 0")
    view = AnnData(path)
    print(view.backed)
    print(f"First obs rows:\n{view.obs.head(n_obs).to_string()}")
    print(f"First var rows:\n{view.var.head(n_vars).to_string()}")
    return view


def load_obs(path: Any) -> pd.DataFrame:
    """Read the table of the cells without touching the matrix.

    Parameters
    ----------
    path : str, pathlib.Path, AnnData or anndata.AnnData
        The data set, on disk or in memory.

    Returns
    -------
    pandas.DataFrame (n_cells, n_columns)
        A table of its own: changing it changes nothing else.
    """
    return _table(path, "obs")


def load_var(path: Any) -> pd.DataFrame:
    """Read the table of the genes without touching the matrix.

    Parameters
    ----------
    path : str, pathlib.Path, AnnData or anndata.AnnData
        The data set, on disk or in memory.

    Returns
    -------
    pandas.DataFrame (n_genes, n_columns)
        A table of its own: changing it changes nothing else.
    """
    return _table(path, "var")


def _table(data: Any, axis: str) -> pd.DataFrame:
    if getattr(data, "isbacked", None) is False:
        table: pd.DataFrame = getattr(data, axis).copy()
        return table
    return read_table(resolve_data_path(data), axis)
