"""The rows of a matrix, passed over again and again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import numpy as np

from crispyx._io.segments import BYTES_PER_TURNED, SegmentStore
from crispyx._io.source import MatrixSource
from crispyx._kernels.layout import CompressedBlock
from crispyx._run.prefetch import prefetch
from crispyx.settings import settings

BYTES_PER_VALUE = 12  # the value, up to 8 bytes, and its column


class RowPasses:
    """Blocks of rows of any layout, restricted to some columns, as often as they are asked for.

    The first complete pass keeps the rows in memory if they fit into the budget; otherwise each
    pass reads the file again. A CSC matrix is turned around once, in memory or in a scratch file.

    Parameters
    ----------
    source : MatrixSource
        The matrix.
    columns : numpy.ndarray (n_genes,) bool
        Columns to keep; they are renumbered.
    rows_per_block : int
        Rows of every block but the last.
    budget : int
        Bytes that rows kept in memory may take.
    """

    def __init__(
        self,
        source: MatrixSource,
        columns: np.ndarray,
        *,
        rows_per_block: int,
        budget: int,
    ) -> None:
        self.source = source
        self.columns = columns
        self.summary = source.empty_summary()
        self._rows_per_block = rows_per_block
        self._budget = budget
        self._kept: list[CompressedBlock] | None = None
        self._store: SegmentStore | None = None
        if source.layout == "csc":
            turned = BYTES_PER_TURNED * source.storage.n_stored
            self._budget -= turned
            folder = settings.scratch_dir or (source.path.parent if source.path else None)
            self._store = SegmentStore(source.shape[0], None if self._budget >= 0 else folder)
            with closing(prefetch(source.native_blocks(self.summary))) as blocks:
                for block in blocks:
                    self._store.append(block)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, and columns kept."""
        return self.source.shape[0], int(np.count_nonzero(self.columns))

    def __call__(self) -> Iterator[CompressedBlock]:
        """Pass over the rows."""
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[CompressedBlock] = []
        n_bytes = 0
        with closing(prefetch(self._read())) as blocks:
            for block in blocks:
                n_bytes += BYTES_PER_VALUE * len(block.values)
                if n_bytes <= self._budget:
                    kept.append(block)
                else:
                    kept.clear()
                yield block
        if n_bytes <= self._budget:
            self._kept = kept
            self.close()

    def close(self) -> None:
        """Let go of the turned matrix."""
        if self._store is not None:
            self._store.close()

    def _read(self) -> Iterator[CompressedBlock]:
        n_rows, step = self.source.shape[0], self._rows_per_block
        if self._store is not None:
            for start in range(0, n_rows, step):
                yield self._restricted(self._store.block(start, min(start + step, n_rows)))
            return
        summary = None if self.summary.complete else self.summary
        for block in self.source.native_blocks(
            summary, max_values=max(1, self.source.storage.n_stored), max_major=step
        ):
            yield self._restricted(block)

    def _restricted(self, block: CompressedBlock) -> CompressedBlock:
        if self.columns.all():
            return block
        used = self.columns[block.minor]
        number = np.cumsum(self.columns, dtype=np.int32) - np.int32(1)
        ptr = np.concatenate([[0], np.cumsum(used)])[block.ptr]
        return CompressedBlock(
            block.start, block.stop, block.values[used], number[block.minor[used]], ptr
        )
