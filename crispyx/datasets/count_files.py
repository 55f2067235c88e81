"""The matrix of an h5ad file, written one block of cells at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from crispyx.datasets.negative_binomial import CountBlock
from crispyx.errors import InputError

if TYPE_CHECKING:
    import h5py

# Entries of one HDF5 chunk: large enough for the disk, small beside a block of cells.
_CHUNK = 1 << 17
_LARGEST = np.iinfo(np.int32).max


class GrowingCounts:
    """A CSR matrix ``X`` that grows by blocks of cells, for counts not known in number beforehand.

    Parameters
    ----------
    file : h5py.File
        AnnData file without X.
    n_columns : int
        Number of genes or guides.
    dtype : {"int32", "float32"}
        Type of the stored counts.
    compression : {None, "gzip", "lzf"}
        HDF5 filter of the matrix.
    """

    def __init__(
        self, file: h5py.File, n_columns: int, *, dtype: str, compression: str | None
    ) -> None:
        self._group = file.create_group("X")
        self._n_columns = n_columns
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
        """Write the next cells.

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
        self._group.attrs["encoding-type"] = "csr_matrix"
        self._group.attrs["encoding-version"] = "0.1.0"
        self._group.attrs["shape"] = np.array([len(indptr) - 1, self._n_columns], dtype=np.int64)
