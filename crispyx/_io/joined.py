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
    kept : sequence of numpy.ndarray (n_cells of the part,) bool, or None
        Cells of each part; None takes all.
    """

    def __init__(
        self,
        parts: Sequence[MatrixSource],
        genes: Sequence[str],
        scratch_dir: Path | None,
        kept: Sequence[np.ndarray] | None = None,
    ) -> None:
        self._parts, self._scratch = list(parts), scratch_dir
        self._kept = kept or [np.ones(part.shape[0], dtype=bool) for part in parts]
        place = {gene: j for j, gene in enumerate(genes)}
        self._places = [
            np.array([place.get(gene, -1) for gene in part.var.index], dtype=np.int32)
            for part in self._parts
        ]
        self._first = np.cumsum([0] + [np.count_nonzero(kept) for kept in self._kept])
        self.shape = int(self._first[-1]), len(genes)
        self.dtype = np.result_type(*(part.dtype.newbyteorder("=") for part in self._parts))

    def count(self) -> int:
        """Return the number of non-zeros, by a pass over all parts."""
        n_values = 0
        for part, places, kept in zip(self._parts, self._places, self._kept, strict=True):
            for block in self._stored(part, 0, part.layout == "csc"):
                along, across = (places >= 0, kept) if part.layout == "csc" else (kept, places >= 0)
                used = np.repeat(along[block.start : block.stop], np.diff(block.ptr))
                n_values += int(np.count_nonzero(used & across[block.minor] & (block.values != 0)))
        return n_values

    def blocks(self, first: int = 0) -> Iterator[CompressedBlock]:
        """Yield blocks of cells from cell ``first`` on, zeros left out."""
        for part, places, kept, offset in zip(
            self._parts, self._places, self._kept, self._first, strict=False
        ):
            rows = np.flatnonzero(kept)[max(0, first - int(offset)) :]
            if not rows.size:
                continue
            place = int(offset) + np.cumsum(kept) - 1
            for block in self._stored(part, int(rows[0]), False):
                chosen = np.flatnonzero(kept[block.start : block.stop])
                if chosen.size:
                    yield _placed(block, places, chosen, int(place[block.start + chosen[0]]))

    def sums(self, weights: np.ndarray) -> list[np.ndarray]:
        """Return the weighted sum of the genes (n_genes,) of every cell, for each part."""
        found = np.zeros(self.shape[0])
        for block in self.blocks():
            row = np.repeat(np.arange(block.n_major), np.diff(block.ptr))
            products = block.values * weights[block.minor]
            found[block.start : block.stop] = np.bincount(row, products, block.n_major)
        return np.split(found, self._first[1:-1])

    def _stored(self, part: MatrixSource, start: int, by_genes: bool) -> Iterator[CompressedBlock]:
        """Yield rows, or genes of a CSC matrix, as they are stored: NaN is a value like others."""
        if part.layout == "csc" and not by_genes:
            return part.row_blocks(start=start, max_values=STREAM_VALUES, scratch_dir=self._scratch)
        return part.storage.blocks(
            start, part.storage.n_major, max_values=STREAM_VALUES, max_major=MAX_SEGMENT_MAJOR
        )


def _placed(
    block: CompressedBlock, places: np.ndarray, chosen: np.ndarray, start: int
) -> CompressedBlock:
    """Return some rows of a block with its columns renumbered and in order; -1 leaves one out."""
    number = np.full(block.n_major, -1)
    number[chosen] = np.arange(len(chosen))
    minor = places[block.minor]
    row = np.repeat(number, np.diff(block.ptr))
    kept = np.flatnonzero((row >= 0) & (minor >= 0) & (block.values != 0))
    order = kept[np.lexsort([minor[kept], row[kept]])]
    ptr = np.concatenate([[0], np.cumsum(np.bincount(row[kept], minlength=len(chosen)))])
    return CompressedBlock(
        start, start + len(chosen), block.values[order], minor[order], ptr.astype(np.int64)
    )
