"""How a matrix is stored, and its rows or columns chunk by chunk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.chunk_cache import ALL_VECTORS
from crispyx._io.dense import DenseStorage
from crispyx._io.matrix import READ_VALUES, MatrixSource
from crispyx._io.segments import MAX_SEGMENT_MAJOR, SegmentStore, scratch_folder
from crispyx._io.source import open_source
from crispyx._kernels.layout import CompressedBlock
from crispyx.data.arguments import whole
from crispyx.errors import InputError

if TYPE_CHECKING:
    import scipy.sparse as sp


def get_matrix_storage_format(path: str | os.PathLike[str]) -> str:
    """Return how X of an .h5ad file is stored.

    Parameters
    ----------
    path : str, pathlib.Path, AnnData or anndata.AnnData
        The data set.

    Returns
    -------
    str
        ``"csr"``, ``"csc"`` or ``"dense"``.
    """
    with open_source(path) as source:
        return source.layout


def is_dense_storage(path: str | os.PathLike[str]) -> bool:
    """Tell whether X of an .h5ad file is stored as a dense array.

    Parameters
    ----------
    path : str, pathlib.Path, AnnData or anndata.AnnData
        The data set.

    Returns
    -------
    bool
        False for CSR and CSC.
    """
    return get_matrix_storage_format(path) == "dense"


def iter_matrix_chunks(
    adata: Any, *, axis: int = 0, chunk_size: int = 1024, convert_to_dense: bool = True
) -> Iterator[tuple[slice, np.ndarray | sp.spmatrix]]:
    """Yield X in chunks of rows or of columns, the values as they are.

    Chunks across the axis a sparse matrix is stored by are cut from a turned-around copy, which is
    made in one pass and kept in memory or, when it would take more than half of the budget, in a
    scratch file. Stored zeros are left out of it.

    Parameters
    ----------
    adata : AnnData, anndata.AnnData, str or pathlib.Path
        The data set, in memory or on disk.
    axis : {0, 1}
        0 for rows (cells), 1 for columns (genes).
    chunk_size : int
        Rows or columns of a chunk; the last may have fewer.
    convert_to_dense : bool
        Yield arrays, else CSR or CSC matrices as X is stored (arrays when X is dense).

    Yields
    ------
    tuple (slice, chunk)
        Rows ``(chunk, n_genes)`` or columns ``(n_cells, chunk)``, in the type of X.

    Raises
    ------
    ValueError
        Another axis or a chunk size below 1.
    """
    if axis not in (0, 1):
        raise InputError(f"axis is {axis!r}; give 0 for rows (cells) or 1 for columns (genes)")
    step = whole("chunk_size", chunk_size, 1)
    return _chunks(adata, axis, step, convert_to_dense)


def _chunks(
    adata: Any, axis: int, step: int, convert_to_dense: bool
) -> Iterator[tuple[slice, Any]]:
    with open_source(adata) as source:
        if isinstance(source.storage, DenseStorage):
            for start in range(0, source.shape[axis], step):
                span = slice(start, min(start + step, source.shape[axis]))
                part = source.storage.array[span] if axis == 0 else source.storage.array[:, span]
                yield span, np.array(part)
            return
        for block in _compressed(source, axis, step):
            matrix = _as_scipy(block, axis, source)
            chunk = matrix.toarray() if convert_to_dense else matrix.asformat(source.layout)
            yield slice(block.start, block.stop), chunk


def _compressed(source: MatrixSource, axis: int, step: int) -> Iterator[CompressedBlock]:
    n_major = source.storage.n_major
    if axis == (1 if source.layout == "csc" else 0):
        yield from source.storage.blocks(0, n_major, max_values=ALL_VECTORS, max_major=step)
        return
    scratch = scratch_folder(source.storage.n_stored, Path(tempfile.gettempdir()))
    store = SegmentStore(source.shape[axis], scratch)
    try:
        for block in source.storage.blocks(
            0, n_major, max_values=READ_VALUES, max_major=MAX_SEGMENT_MAJOR
        ):
            store.append(block)
        for start in range(0, source.shape[axis], step):
            yield store.block(start, min(start + step, source.shape[axis]))
    finally:
        store.close()


def _as_scipy(block: CompressedBlock, axis: int, source: MatrixSource) -> Any:
    import scipy.sparse as sp

    values = block.values.astype(source.dtype, copy=False)
    if axis == 0:
        shape = (block.n_major, source.shape[1])
        return sp.csr_matrix((values, block.minor, block.ptr), shape=shape)
    shape = (source.shape[0], block.n_major)
    return sp.csc_matrix((values, block.minor, block.ptr), shape=shape)
