"""A matrix, its cells and its genes, whatever holds them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol

import h5py
import numpy as np

from crispyx._io.annotations import Annotations, file_annotations
from crispyx._io.counts_elsewhere import counts_elsewhere
from crispyx._io.damage import read_stored
from crispyx._io.segments import MAX_SEGMENT_MAJOR, SegmentStore
from crispyx._io.tenx import tenx_folder_files
from crispyx._io.zarr_stores import is_group, is_zarr_store
from crispyx._kernels import compressed as kernel
from crispyx._kernels import normalize as normalize_kernel
from crispyx._kernels.layout import CompressedBlock
from crispyx._run.fingerprint import file_identity
from crispyx.errors import InputError

if TYPE_CHECKING:
    import anndata
    import pandas as pd

Layout = Literal["csr", "csc", "dense"]
READ_VALUES = 4_000_000  # values of one block read: 32 MB with their indices
STREAM_VALUES = 1_000_000  # of a block that is used once: its memory stays warm and is used again


class Storage(Protocol):
    """A matrix along the axis it is stored by."""

    n_major: int
    n_minor: int
    where: str
    dtype: np.dtype

    @property
    def n_stored(self) -> int:
        """Number of stored values, explicit zeros included."""

    def blocks(
        self, start: int, stop: int, *, max_values: int, max_major: int, as_stored: bool = False
    ) -> Iterator[CompressedBlock]:
        """Yield blocks of whole vectors."""


@dataclass
class MatrixSummary:
    """What streaming over a matrix has seen so far.

    Attributes
    ----------
    library_sizes : numpy.ndarray (n_cells,) float64
        Sum of each cell's values, summed in gene order.
    fractional, negative : tuple (cell, gene, value) or None
        The first value that is not a whole number, and the first below zero, in storage order.
    stored_zeros : bool
        Zeros stand among the stored values.
    complete : bool
        The whole matrix has been seen.
    sizes_of_counts_only : bool
        Library sizes are not added up further once a value has shown that these are no counts.
    """

    library_sizes: np.ndarray
    fractional: tuple[int, int, float] | None = None
    negative: tuple[int, int, float] | None = None
    stored_zeros: bool = False
    complete: bool = False
    sizes_of_counts_only: bool = False

    def part(self) -> MatrixSummary:
        """Return a summary of rows of its own, for another thread; library sizes are shared."""
        return MatrixSummary(self.library_sizes, sizes_of_counts_only=self.sizes_of_counts_only)

    def add(self, later: MatrixSummary) -> None:
        """Add what a part further on has seen."""
        self.fractional = self.fractional or later.fractional
        self.negative = self.negative or later.negative
        self.stored_zeros |= later.stored_zeros

    @property
    def looks_like_counts(self) -> bool:
        """Only non-negative whole numbers, at least one of them above zero."""
        return not self.offending and bool(self.library_sizes.any())

    @property
    def offending(self) -> tuple[int, int, float] | None:
        """A value (cell, gene, value) that cannot be a count, or None."""
        return self.negative or self.fractional


@dataclass
class MatrixSource:
    """A cells x genes matrix with the names of its cells and genes.

    Attributes
    ----------
    storage : Storage
        The matrix along the axis it is stored by.
    layout : {"csr", "csc", "dense"}
        How it is stored.
    shape : tuple (n_cells, n_genes)
        Its shape.
    obs, var : Annotations
        Cells and genes.
    path : pathlib.Path or None
        File, or 10x folder; None for an AnnData in memory.
    element : str
        ``"X"`` or ``"layers/NAME"``, with the modality and the kind of features that were chosen.
    columns : numpy.ndarray (n_columns of the file,) bool or None
        Which columns of the file's matrix these are; None for all of them.
    parts : tuple of MatrixSource
        The files, where this is the matrix of several.
    """

    storage: Storage
    layout: Layout
    shape: tuple[int, int]
    obs: Annotations
    var: Annotations
    path: Path | None
    element: str
    columns: np.ndarray | None = None
    # Where the other slots are: the group of a file or store, an AnnData, or nowhere (10x).
    _owner: Any = field(default=None, repr=False)
    _file: h5py.File | None = field(default=None, repr=False)
    parts: tuple[MatrixSource, ...] = ()

    @property
    def where(self) -> str:
        """File and element, for messages."""
        return self.storage.where

    @property
    def dtype(self) -> np.dtype:
        """Type of the stored values."""
        return self.storage.dtype

    @property
    def paths(self) -> tuple[Path, ...]:
        """Files that are read; none for an AnnData in memory."""
        if self.parts:
            return tuple(path for part in self.parts for path in part.paths)
        return () if self.path is None else (self.path,)

    @property
    def n_turned(self) -> int:
        """Values that a pass over the cells turns around first."""
        return self.storage.n_stored if self.layout == "csc" else 0

    def identity(self) -> dict[str, Any]:
        """Return what identifies the input in fingerprints.

        A matrix in memory may change between two calls: each call has an identity of its own, and
        its results are never reloaded.
        """
        known = {"element": self.element, "shape": list(self.shape)}
        if self.parts:
            return {"files": [part.identity() for part in self.parts], **known}
        if self.path is None:
            return {"path": None, "memory": uuid.uuid4().hex, **known}
        if is_zarr_store(self.path):
            return {**file_identity(self.path), **known}
        if self.path.is_dir():
            parts = [file_identity(file) for file in tenx_folder_files(self.path)]
            sizes, times = ([part[name] for part in parts] for name in ("size", "mtime_ns"))
            return {"path": str(self.path.resolve()), "size": sizes, "mtime_ns": times, **known}
        return {**file_identity(self.path), **known}

    def close(self) -> None:
        """Close the files."""
        for part in self.parts:
            part.close()
        if self._file is not None:
            self._file.close()

    def slot(self, name: str, key: str) -> Any:
        """Return one entry of obsm, uns or another mapping, read whole; None when absent."""
        if self._owner is None:
            return None
        if not is_group(self._owner):
            return getattr(self._owner, name).get(key)
        if f"{name}/{key}" not in self._owner:
            return None
        return read_stored(self._owner[f"{name}/{key}"])

    def table(self, axis: str) -> pd.DataFrame:
        """Return obs or var of the cells and genes there are, read whole."""
        import pandas as pd

        if is_group(self._owner):
            table = self.whole_table(axis)
            if axis == "obs" or self.columns is None:
                return table
            return table.iloc[np.flatnonzero(self.columns)]
        if self._owner is not None:
            return pd.DataFrame(getattr(self._owner, axis)).copy()
        held: Annotations = getattr(self, axis)
        columns = {name: held.column(name) for name in held.columns}
        return pd.DataFrame(columns, index=pd.Index(held.index))

    def whole_table(self, axis: str) -> pd.DataFrame:
        """Return obs or var of the file or store as it is, tables of any version of anndata.

        Raises
        ------
        InputError
            Damaged, or text that no file can hold.
        """
        import pandas as pd

        table = read_stored(self._owner[axis])
        if not isinstance(table, pd.DataFrame):  # records, before anndata 0.7
            held = file_annotations(self._owner, axis, self.where)
            columns = {name: held.column(name) for name in held.columns}
            # Text may be missing, which has an encoding as a category only.
            text = {n: pd.Categorical(v) for n, v in columns.items() if v.dtype == object}
            table = pd.DataFrame(columns | text, index=pd.Index(held.index))
        _require_writable(table, f"{self.where}: {axis}")
        return table

    def as_anndata(self) -> anndata.AnnData:
        """Return obs and var as an AnnData without a matrix."""
        import anndata

        return anndata.AnnData(obs=self.table("obs"), var=self.table("var"))

    def __enter__(self) -> MatrixSource:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def empty_summary(self) -> MatrixSummary:
        """Return the summary of nothing seen yet."""
        return MatrixSummary(library_sizes=np.zeros(self.shape[0]))

    def native_blocks(
        self,
        summary: MatrixSummary | None = None,
        *,
        start: int = 0,
        stop: int | None = None,
        max_values: int = READ_VALUES,
        max_major: int = MAX_SEGMENT_MAJOR,
        n_threads: int = 1,
    ) -> Iterator[CompressedBlock]:
        """Yield checked blocks along the stored axis: rows, or columns of a CSC matrix.

        Parameters
        ----------
        summary : MatrixSummary or None
            Updated with every block.
        start, stop : int
            Range of the stored axis.
        max_values, max_major : int
            Bounds of one block in values and vectors.
        n_threads : int
            Threads that add up the library sizes of rows.

        Raises
        ------
        InputError
            NaN or infinity, or a damaged structure; the message names the place.
        """
        stop = self.storage.n_major if stop is None else stop
        for block in self.storage.blocks(start, stop, max_values=max_values, max_major=max_major):
            self._inspect(block, summary, n_threads)
            yield block
        if summary is not None and start == 0 and stop == self.storage.n_major:
            summary.complete = True

    def row_blocks(
        self,
        summary: MatrixSummary | None = None,
        *,
        start: int = 0,
        max_values: int = READ_VALUES,
        max_rows: int = MAX_SEGMENT_MAJOR,
        scratch_dir: Path | None = None,
    ) -> Iterator[CompressedBlock]:
        """Yield blocks of cells of any layout from cell ``start`` on, values in gene order.

        A CSC matrix is turned around first, in memory or in ``scratch_dir``.
        """
        if self.layout != "csc":
            yield from self.native_blocks(
                summary, start=start, max_values=max_values, max_major=max_rows
            )
            return
        store = SegmentStore(self.shape[0], scratch_dir)
        try:
            for block in self.native_blocks(summary, max_values=max_values):
                store.append(block)
            mean = max(1, self.storage.n_stored // max(1, self.shape[0]))
            step = int(min(max_rows, max(1, max_values // mean)))
            for begin in range(start, self.shape[0], step):
                yield store.block(begin, min(begin + step, self.shape[0]))
        finally:
            store.close()

    def _inspect(
        self, block: CompressedBlock, summary: MatrixSummary | None, n_threads: int
    ) -> None:
        nonfinite, negative, fractional, zero = kernel.inspect_values(block.values)
        if nonfinite >= 0:
            cell, gene = self._place(block, nonfinite)
            raise InputError(
                f"{self.where} holds {block.values[nonfinite]} at cell "
                f"{self.obs.index[cell]!r} (row {cell}), column {self.var.index[gene]!r} "
                f"({gene}); replace such values in the file, or leave that row or column out"
            )
        if summary is None:
            return
        summary.stored_zeros |= zero >= 0
        if fractional >= 0 and summary.fractional is None:
            summary.fractional = self.entry(block, fractional)
        if negative >= 0 and summary.negative is None:
            summary.negative = self.entry(block, negative)
        if summary.sizes_of_counts_only and summary.offending is not None:
            return
        if self.layout == "csc":
            normalize_kernel.add_column_totals(block.values, block.minor, summary.library_sizes)
        else:
            normalize_kernel.add_row_totals(
                block.values,
                block.ptr,
                summary.library_sizes[block.start : block.stop],
                n_threads,
            )

    def entry(self, block: CompressedBlock, position: int) -> tuple[int, int, float]:
        """Return cell, gene and value of one stored value of a block."""
        return (*self._place(block, position), float(block.values[position]))

    def _place(self, block: CompressedBlock, position: int) -> tuple[int, int]:
        major = block.start + int(np.searchsorted(block.ptr, position, side="right")) - 1
        minor = int(block.minor[position])
        return (minor, major) if self.layout == "csc" else (major, minor)

    def require_counts(self, summary: MatrixSummary, what: str) -> None:
        """Raise unless only whole numbers >= 0 have been seen.

        Raises
        ------
        InputError
            Names the first value that is not a count, its cell and its gene.
        """
        if summary.offending is not None:
            cell, gene, value = summary.offending
            elsewhere = self.counts_elsewhere()
            raise InputError(
                f"{self.where} holds {value:g} at cell {self.obs.index[cell]!r} (row {cell}), "
                f"column {self.var.index[gene]!r} ({gene}); {what} needs counts: whole numbers >= 0"
                f"{elsewhere or '; give the file with the raw counts, or layer= where they are'}"
            )

    def counts_elsewhere(self) -> str:
        """Return where else in the data set counts stand, as the end of a sentence, or nothing."""
        element = self.element.partition(", ")[0]
        if is_group(self._owner):  # the modality is part of the name
            element = element.removeprefix(f"{self._owner.name.strip('/')}/")
        return counts_elsewhere(self._owner, element)


def _require_writable(table: pd.DataFrame, where: str) -> None:
    """Raise at text with zero bytes, which HDF5 ends there: the file is damaged."""
    named = {"the index": table.index, **{f"column {n!r}": table[n] for n in table.columns}}
    for name, values in named.items():
        categories = getattr(values.dtype, "categories", values)
        if categories.dtype == object and any("\0" in str(one) for one in categories):
            raise InputError(f"{where}: {name} holds text with a zero byte; the file is damaged")
