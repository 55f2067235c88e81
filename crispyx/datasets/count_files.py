"""The matrix of an h5ad file, written one block of cells at a time, by cells or by genes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crispyx._io.compressed import as_kernel_values
from crispyx._io.segments import SegmentStore
from crispyx._kernels.layout import CompressedBlock
from crispyx.datasets.negative_binomial import CountBlock
from crispyx.errors import InputError

if TYPE_CHECKING:
    import h5py

# Entries of one HDF5 chunk: large enough for the disk, small beside a block of cells.
_CHUNK = 1 << 17
_LARGEST = np.iinfo(np.int32).max
_TURNED = 4_000_000  # counts of a block of genes


class GrowingCounts:
    """A CSR or CSC matrix ``X`` that grows, for counts not known in number beforehand.

    Parameters
    ----------
    file : h5py.File
        AnnData file without X.
    n_minor : int
        Number of genes or guides of a CSR matrix, of cells of a CSC matrix.
    layout : {"csr", "csc"}
        What is appended: cells or genes.
    dtype : {"int32", "float32"}
        Type of the stored counts.
    compression : {None, "gzip", "lzf"}
        HDF5 filter of the matrix.
    """

    def __init__(
        self,
        file: h5py.File,
        n_minor: int,
        *,
        dtype: str,
        compression: str | None,
        layout: str = "csr",
    ) -> None:
        self._group = file.create_group("X")
        self._n_minor = n_minor
        self._layout = layout
        self._lengths: list[np.ndarray] = []
        self._end = 0
        for name, kind in {"data": dtype, "indices": "int32"}.items():
            self._group.create_dataset(
                name,
                shape=(0,),
                maxshape=(None,),
                dtype=kind,
                chunks=(_CHUNK,),
                compression=compression,
                shuffle=compression is not None,
            )

    def append(self, block: CountBlock) -> None:
        """Write the next cells (genes of a CSC matrix).

        Raises
        ------
        InputError
            A count is larger than int32 holds.
        """
        if block.data.size and block.data.max() > _LARGEST:
            raise InputError(
                f"a simulated count is {block.data.max():,}, above the largest int32; lower "
                "library_size, gene_log_mean, gene_log_sd or signal_umi"
            )
        end = self._end + len(block.data)
        for name, values in {"data": block.data, "indices": block.indices}.items():
            dataset = self._group[name]
            dataset.resize((end,))
            dataset[self._end : end] = values.astype(dataset.dtype)
        self._lengths.append(block.entries_per_cell)
        self._end = end

    def finish(self) -> None:
        """Write the pointers, which make the group a readable matrix."""
        indptr = np.concatenate([[0], *self._lengths]).cumsum()
        index_type = np.int32 if self._end <= _LARGEST else np.int64
        self._group.create_dataset("indptr", data=indptr.astype(index_type))
        shape = (len(indptr) - 1, self._n_minor)
        self._group.attrs["encoding-type"] = f"{self._layout}_matrix"
        self._group.attrs["encoding-version"] = "0.1.0"
        self._group.attrs["shape"] = np.array(shape if self._layout == "csr" else shape[::-1])


class TurnedCounts:
    """Blocks of cells on their way to a CSC matrix: kept in a scratch file, written by genes.

    Parameters
    ----------
    matrix : GrowingCounts
        The CSC matrix.
    n_genes : int
        Number of genes.
    scratch_dir : pathlib.Path
        Folder of the scratch file.
    """

    def __init__(self, matrix: GrowingCounts, n_genes: int, scratch_dir: Path) -> None:
        self._matrix = matrix
        self._store = SegmentStore(n_genes, scratch_dir)
        self._n_cells = 0

    def append(self, block: CountBlock) -> None:
        """Keep the next cells."""
        stop = self._n_cells + len(block.entries_per_cell)
        ptr = np.concatenate([[0], np.cumsum(block.entries_per_cell)]).astype(np.int64)
        values = as_kernel_values(block.data, "a simulated block")
        minor = np.ascontiguousarray(block.indices, dtype=np.int32)
        self._store.append(CompressedBlock(self._n_cells, stop, values, minor, ptr))
        self._n_cells = stop

    def finish(self) -> None:
        """Write the matrix and let go of the scratch file."""
        step = max(1, _TURNED * self._store.n_minor // max(1, self._store.n_values))
        for start in range(0, self._store.n_minor, step):
            genes = self._store.block(start, min(start + step, self._store.n_minor))
            self._matrix.append(CountBlock(genes.values, genes.minor, np.diff(genes.ptr)))
        self._matrix.finish()
        self._store.close()
