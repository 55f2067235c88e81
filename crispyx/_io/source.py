"""One door to a matrix, whatever holds it: file or AnnData, CSR, CSC or dense, X or a layer."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import h5py
import numpy as np

from crispyx._io.annotations import Annotations, FrameAnnotations, file_annotations
from crispyx._io.compressed import CompressedStorage
from crispyx._io.dense import DenseStorage
from crispyx._io.filters import load_filters
from crispyx._io.paths import resolve_data_path
from crispyx._io.segments import MAX_SEGMENT_MAJOR, SegmentStore
from crispyx._kernels import compressed as kernel
from crispyx._kernels import normalize as normalize_kernel
from crispyx._kernels.layout import CompressedBlock
from crispyx._run.fingerprint import file_identity
from crispyx.errors import InputError

Layout = Literal["csr", "csc", "dense"]
READ_VALUES = 4_000_000  # values of one block read: 32 MB with their indices


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
    """

    library_sizes: np.ndarray
    fractional: tuple[int, int, float] | None = None
    negative: tuple[int, int, float] | None = None
    stored_zeros: bool = False
    complete: bool = False

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
    storage : CompressedStorage or DenseStorage
        The matrix along the axis it is stored by.
    layout : {"csr", "csc", "dense"}
        How it is stored.
    shape : tuple (n_cells, n_genes)
        Its shape.
    obs, var : Annotations
        Cells and genes.
    path : pathlib.Path or None
        File; None for an AnnData in memory.
    element : str
        ``"X"`` or ``"layers/NAME"``.
    """

    storage: CompressedStorage | DenseStorage
    layout: Layout
    shape: tuple[int, int]
    obs: Annotations
    var: Annotations
    path: Path | None
    element: str
    _owner: Any = field(default=None, repr=False)

    @property
    def where(self) -> str:
        """File and element, for messages."""
        return self.storage.where

    @property
    def dtype(self) -> np.dtype:
        """Type of the stored values."""
        return self.storage.dtype

    def identity(self) -> dict[str, Any]:
        """Return what identifies the input in fingerprints.

        A matrix in memory may change between two calls: each call has an identity of its own, and
        its results are never reloaded.
        """
        known = {"element": self.element, "shape": list(self.shape)}
        if self.path is None:
            return {"path": None, "memory": uuid.uuid4().hex, **known}
        return {**file_identity(self.path), **known}

    def close(self) -> None:
        """Close the file."""
        if isinstance(self._owner, h5py.File):
            self._owner.close()

    def slot(self, name: str, key: str) -> Any:
        """Return one entry of obsm, uns or another mapping, read whole; None when absent."""
        if not isinstance(self._owner, h5py.File):
            return getattr(self._owner, name).get(key)
        if f"{name}/{key}" not in self._owner:
            return None
        from anndata.io import read_elem

        return read_elem(self._owner[f"{name}/{key}"])

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
                f"{self.obs.index[cell]!r} (row {cell}), "
                f"gene {self.var.index[gene]!r} (column {gene}); "
                "remove or replace such values first"
            )
        if summary is None:
            return
        summary.stored_zeros |= zero >= 0
        if fractional >= 0 and summary.fractional is None:
            summary.fractional = self.entry(block, fractional)
        if negative >= 0 and summary.negative is None:
            summary.negative = self.entry(block, negative)
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
            raise InputError(
                f"{self.where} holds {value:g} at cell {self.obs.index[cell]!r} (row {cell}), "
                f"column {self.var.index[gene]!r} ({gene}); {what} needs counts: whole numbers >= 0"
            )


def open_source(data: Any, layer: str | None = None) -> MatrixSource:
    """Open the matrix of a file or of an AnnData without reading it.

    Parameters
    ----------
    data : path, crispyx.AnnData or anndata.AnnData (backed or in memory)
        What holds the matrix.
    layer : str or None
        Layer to use instead of X.

    Raises
    ------
    MissingFileError, InputError, InputTypeError
        No such file; not an h5ad file; no such matrix, or one without cells or genes.
    """
    element = "X" if layer is None else f"layers/{layer}"
    if not isinstance(data, (str, os.PathLike)) and getattr(data, "isbacked", None) is False:
        return _from_memory(data, layer, element)
    source = _from_file(resolve_data_path(data), element)
    if getattr(data, "isbacked", False) and not isinstance(getattr(data, "path", None), Path):
        # A backed anndata.AnnData keeps obs and var in memory, where they may have been changed.
        source.obs = FrameAnnotations(data.obs, "obs", str(source.path))
        source.var = FrameAnnotations(data.var, "var", str(source.path))
    return source


def open_file(path: Path) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises
    ------
    InputError
        The file is not HDF5, is cut short, or is open for writing elsewhere.
    """
    if path.is_dir():
        raise InputError(f"{str(path)!r} is a folder; give the .h5ad file in it")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise InputError(
            f"{str(path)!r} cannot be read as HDF5 ({error}); it may be cut short, of another "
            "format, or open for writing elsewhere: copy it again, or close it where it is open"
        ) from error


def _from_file(path: Path, element: str) -> MatrixSource:
    file = open_file(path)
    try:
        where = f"{path} [{element}]"
        for axis in ("obs", "var"):
            if axis not in file:
                raise InputError(f"{path} has no {axis!r}; it is not an AnnData (.h5ad) file")
        if element not in file:
            layers = list(file["layers"]) if "layers" in file else []
            there = (["X"] if "X" in file else []) + [f"layer {name!r}" for name in layers]
            raise InputError(
                f"{path} has no {element}; it has {', '.join(there) or 'no matrix at all'}"
            )
        node = file[element]
        load_filters(node)
        obs, var = (file_annotations(file, axis, str(path)) for axis in ("obs", "var"))
        if isinstance(node, h5py.Dataset):
            if node.ndim != 2:
                raise InputError(
                    f"{where} has {node.ndim} dimensions; a cells x genes matrix has 2"
                )
            storage: CompressedStorage | DenseStorage = DenseStorage(node, where)
            layout: Layout = "dense"
            shape = (int(node.shape[0]), int(node.shape[1]))
        else:
            layout, shape = _sparse_form(node, where)
            storage = CompressedStorage(
                node["data"],
                node["indices"],
                node["indptr"],
                *(shape if layout == "csr" else shape[::-1]),
                where,
                layout,
            )
        source = MatrixSource(storage, layout, shape, obs, var, path, element, file)
        _check_shape(source, len(obs.index), len(var.index))
        return source
    except BaseException:
        file.close()
        raise


def _sparse_form(node: h5py.Group, where: str) -> tuple[Layout, tuple[int, int]]:
    encoding = node.attrs.get("encoding-type", node.attrs.get("h5sparse_format", ""))
    kind = str(encoding).removesuffix("_matrix")
    if kind not in ("csr", "csc"):
        raise InputError(f"{where} is stored as {encoding!r}; CSR, CSC and dense matrices are read")
    for part in ("data", "indices", "indptr"):
        if part not in node:
            raise InputError(f"{where} lacks {part!r}; the file is damaged")
    shape = node.attrs.get("shape", node.attrs.get("h5sparse_shape"))
    if np.shape(shape) != (2,) or np.asarray(shape).dtype.kind not in "iu" or min(shape) < 0:
        raise InputError(f"{where} has shape {shape}; the file is damaged")
    return kind, (int(shape[0]), int(shape[1]))  # type: ignore[return-value]


def _from_memory(adata: Any, layer: str | None, element: str) -> MatrixSource:
    where = f"AnnData in memory [{element}]"
    if layer is not None and layer not in adata.layers:
        raise InputError(f"{where}: no such layer; there are: {', '.join(adata.layers) or 'none'}")
    matrix = adata.X if layer is None else adata.layers[layer]
    if matrix is None:
        raise InputError(
            f"{where}: X is empty; give layer=, there are: {', '.join(adata.layers) or 'none'}"
        )
    shape = (int(matrix.shape[0]), int(matrix.shape[1]))
    form = getattr(matrix, "format", None)
    layout: Layout
    if form in ("csr", "csc"):
        layout = form
        storage: CompressedStorage | DenseStorage = CompressedStorage(
            matrix.data,
            matrix.indices,
            matrix.indptr,
            *(shape if layout == "csr" else shape[::-1]),
            where,
            layout,
        )
    elif form is not None:
        raise InputError(f"{where} is a {form} matrix; convert it with .tocsr()")
    else:
        layout, storage = "dense", DenseStorage(np.asarray(matrix), where)
    obs = FrameAnnotations(adata.obs, "obs", where)
    var = FrameAnnotations(adata.var, "var", where)
    source = MatrixSource(storage, layout, shape, obs, var, None, element, adata)
    _check_shape(source, adata.n_obs, adata.n_vars)
    return source


def _check_shape(source: MatrixSource, n_obs: int, n_vars: int) -> None:
    if source.shape != (n_obs, n_vars):
        raise InputError(
            f"{source.where} is {source.shape[0]} x {source.shape[1]} but obs has {n_obs} and var "
            f"{n_vars} entries; the file is damaged"
        )
    if 0 in source.shape:
        raise InputError(
            f"{source.where} has {n_obs} cells and {n_vars} genes; there is nothing to compute"
        )
