"""The cells of several matrices, one after another, in one order of genes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from crispyx._io.matrix import STREAM_VALUES, MatrixSource
from crispyx._io.segments import MAX_SEGMENT_MAJOR
from crispyx._kernels.layout import CompressedBlock


class JoinedRows:
    """Rows of several matrices as blocks of one.

    Parameters
    ----------
    parts : sequence of MatrixSource
        The matrices, of any layout.
    genes : sequence of str
        Genes of the whole, in order; a part may have fewer (their values are 0) and others.
    scratch_dir : pathlib.Path or None
        Where CSC matrices are turned around; None does it in memory.
    """

    def __init__(
        self, parts: Sequence[MatrixSource], genes: Sequence[str], scratch_dir: Path | None
    ) -> None:
        self._parts, self._scratch = list(parts), scratch_dir
        place = {gene: j for j, gene in enumerate(genes)}
        self._places = [
            np.array([place.get(gene, -1) for gene in part.var.index], dtype=np.int32)
            for part in self._parts
        ]
        self._first = np.cumsum([0] + [part.shape[0] for part in self._parts])
        self.shape = int(self._first[-1]), len(genes)
        self.dtype = np.result_type(*(part.dtype.newbyteorder("=") for part in self._parts))

    def count(self) -> int:
        """Return the number of non-zeros, by a pass over all parts."""
        n_values = 0
        for part, places in zip(self._parts, self._places, strict=True):
            for block in self._stored(part, 0, part.layout == "csc"):
                if part.layout == "csc":
                    used = np.repeat(places[block.start : block.stop] >= 0, np.diff(block.ptr))
                else:
                    used = places[block.minor] >= 0
                n_values += int(np.count_nonzero(used & (block.values != 0)))
        return n_values

    def blocks(self, first: int = 0) -> Iterator[CompressedBlock]:
        """Yield blocks of cells from cell ``first`` on, zeros left out."""
        for part, places, offset in zip(self._parts, self._places, self._first, strict=False):
            start = max(0, first - int(offset))
            if start < part.shape[0]:
                for block in self._stored(part, start, False):
                    yield _placed(block, places, int(offset))

    def _stored(self, part: MatrixSource, start: int, by_genes: bool) -> Iterator[CompressedBlock]:
        """Yield rows, or genes of a CSC matrix, as they are stored: NaN is a value like others."""
        if part.layout == "csc" and not by_genes:
            return part.row_blocks(start=start, max_values=STREAM_VALUES, scratch_dir=self._scratch)
        return part.storage.blocks(
            start, part.storage.n_major, max_values=STREAM_VALUES, max_major=MAX_SEGMENT_MAJOR
        )


def _placed(block: CompressedBlock, places: np.ndarray, offset: int) -> CompressedBlock:
    """Return a block of rows with its columns renumbered and in order; -1 leaves one out."""
    minor = places[block.minor]
    row = np.repeat(np.arange(block.n_major), np.diff(block.ptr))
    kept = np.flatnonzero((minor >= 0) & (block.values != 0))
    order = kept[np.lexsort([minor[kept], row[kept]])]
    ptr = np.concatenate([[0], np.cumsum(np.bincount(row[kept], minlength=block.n_major))])
    return CompressedBlock(
        block.start + offset, block.stop + offset, block.values[order], minor[order], ptr
    )
