"""Genes of a matrix, block after block, from any layout in one pass over the input."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from crispyx._io.compressed import CompressedStorage, joined
from crispyx._io.rows_in_place import MappedArray, RowsInPlace, mapped, require_whole
from crispyx._io.segments import MAX_SEGMENT_MAJOR, SegmentStore
from crispyx._io.source import MatrixSource, MatrixSummary
from crispyx._kernels import compressed as compressed_kernel
from crispyx._kernels import grouping as kernel
from crispyx._kernels import normalize as normalize_kernel
from crispyx._kernels.layout import CompressedBlock, GroupedGenes, Membership, Pieces
from crispyx._run.prefetch import prefetch
from crispyx._run.workers import in_parallel
from crispyx.errors import InputError

LOG_TARGET_SUM = 1e4
MAX_SHORT = (1 << 16) - 1  # genes that 16 bits tell apart, the number behind the last included


@dataclass(frozen=True)
class TurnedMatrix:
    """A matrix that was passed over before: what was seen, and its genes.

    Attributes
    ----------
    summary : MatrixSummary
        Of all cells of the membership.
    store : SegmentStore or None
        The genes; None for a CSC matrix, which holds them itself.
    """

    summary: MatrixSummary
    store: SegmentStore | None


class GeneStream:
    """Blocks of genes for the cells of a membership.

    CSR and dense inputs are passed over once on opening and turned around, in memory or in a
    scratch file, or left where they are (``in_place``); a CSC input is read as the blocks are asked
    for.

    Parameters
    ----------
    source : MatrixSource
        The matrix.
    membership : Membership
        Groups of cells; values of cells in no group are left out.
    scratch_dir : pathlib.Path or None
        Folder of the scratch file; None keeps the turned matrix in memory.
    n_threads : int
        Threads of the kernels.
    max_cells : int or None
        Vectors of the stored axis read at a time, at most; None sets no such bound.
    max_values : int or None
        Values read at a time; None takes the default of the source.
    in_place : bool
        Leave a CSR matrix that lies in one piece, in memory or in its file, where it is: genes are
        looked up in its rows, which memory must be able to hold.
    turned : TurnedMatrix or None
        What an earlier pass left of the matrix; there is none to make then.
    """

    def __init__(
        self,
        source: MatrixSource,
        membership: Membership,
        *,
        scratch_dir: Path | None = None,
        n_threads: int = 1,
        max_cells: int | None = None,
        max_values: int | None = None,
        in_place: bool = False,
        turned: TurnedMatrix | None = None,
    ) -> None:
        if max_cells is not None and max_cells < 1:
            raise InputError(f"the chunk size is {max_cells}; give a whole number >= 1 or None")
        self.source = source
        self.membership = membership
        self.n_threads = n_threads
        self._scratch_dir = scratch_dir
        self._bounds = {"max_major": min(max_cells or MAX_SEGMENT_MAJOR, MAX_SEGMENT_MAJOR)}
        if max_values is not None:
            self._bounds["max_values"] = max_values
        self.summary = self._empty_summary()
        self._take_log1p = False
        self._seen = 0  # columns of a CSC input that are in the summary
        self._gap = False
        self._members_read = False
        self._store: SegmentStore | None = None
        self._rows: RowsInPlace | None = None
        self._whole: CompressedBlock | None = None
        if turned is not None:
            self.summary, self._store = turned.summary, turned.store
            self._members_read = True
            self._seen = source.shape[1] if turned.summary.complete else 0
            return
        if source.layout == "csc":
            return
        if in_place and source.layout == "csr" and membership.group_of_cell is not None:
            self._rows = self._look_in_place()
        if self._rows is None:
            self._turn_around(self.summary)

    def _empty_summary(self) -> MatrixSummary:
        summary = self.source.empty_summary()
        summary.sizes_of_counts_only = True
        return summary

    def _look_in_place(self) -> RowsInPlace | None:
        """Check the matrix where it lies; None if it is not there, or its rows are not in order."""
        found = mapped(self.source.storage)
        if found is None:
            return None
        storage: CompressedStorage = found
        there = replace(self.source, storage=storage)
        summary = self._empty_summary()
        # A short copy of the positions takes less memory than the pages of the file.
        short = isinstance(storage.indices, MappedArray) and storage.n_minor <= MAX_SHORT
        genes = np.empty(len(storage.indices) if short else 0, dtype=np.uint16)

        def check(part: tuple[int, int]) -> MatrixSummary | None:
            seen = summary.part()
            for block in there.native_blocks(seen, start=part[0], stop=part[1], **self._bounds):
                if len(block.minor) and not np.may_share_memory(block.minor, storage.indices):
                    return None
                if short:
                    begin, end = storage.indptr[[block.start, block.stop]].tolist()
                    genes[begin:end] = block.minor
                    storage.indices.let_go(begin, end)
            return seen

        parts = list(_shares(storage.indptr, self.membership.stretches(), self.n_threads))
        for seen in in_parallel(check, parts):
            if seen is None:
                return None
            summary.add(seen)
        self._read_members(summary)
        self.summary = summary
        if short:
            require_whole(storage)
            storage = storage.with_indices(genes)
        return RowsInPlace(storage, self.membership, summary.stored_zeros, self.n_threads)

    def _turn_around(self, summary: MatrixSummary | None) -> SegmentStore:
        self._store = SegmentStore(self.source.shape[1], self._scratch_dir)
        used = self.membership.used_cells
        with closing(prefetch(self._blocks_of_members(summary))) as ahead:
            for block in ahead:
                self._store.append(block, used[block.start : block.stop], self.n_threads)
        if summary is not None:
            self._read_members(summary)
        return self._store

    def _blocks_of_members(
        self, summary: MatrixSummary | None
    ) -> Generator[CompressedBlock, None, None]:
        for start, stop in self.membership.stretches():
            yield from self.source.native_blocks(summary, start=start, stop=stop, **self._bounds)

    def _read_members(self, summary: MatrixSummary) -> None:
        self._members_read = True
        summary.complete = self.membership.stretches() == [(0, self.source.shape[0])]

    def summarize_members(self) -> None:
        """See all cells that are in a group once, if that has not happened yet.

        Afterwards ``summary`` tells whether they hold counts; cells in no group may count as well.
        """
        if not self._members_read:
            self.summarize()

    def summarize(self) -> None:
        """See the whole matrix once, if that has not happened yet, stopping at the first fraction.

        Afterwards ``summary`` tells whether the matrix holds counts, and the library sizes if so.
        What else there is to know of a matrix of other values is found as blocks are asked for.
        """
        if self.summary.complete or self.summary.offending is not None:
            return
        summary = self._empty_summary()
        with closing(prefetch(self.source.native_blocks(summary, **self._bounds))) as blocks:
            for _ in blocks:
                if summary.offending is not None:
                    break
        if summary.complete:
            self.summary = summary
            self._seen = self.source.shape[1]
        else:
            self.summary.fractional = summary.fractional
            self.summary.negative = summary.negative

    def take_log1p(self) -> None:
        """Hand out ``log1p(value / library size * 1e4)`` instead of the stored values."""
        self._take_log1p = True

    @property
    def takes_log1p(self) -> bool:
        """Whether :meth:`take_log1p` was called."""
        return self._take_log1p

    def n_values_of_genes(self) -> np.ndarray:
        """Return the number of values of each gene (n_genes,), as stored or as turned around."""
        if self._store is not None:
            return self._store.n_values_of_minor()
        indptr = getattr(self.source.storage, "indptr", None)
        if indptr is not None and len(indptr) == self.source.shape[1] + 1:
            return np.diff(indptr)
        n_genes = self.source.shape[1]
        return np.full(n_genes, -(-self.source.storage.n_stored // n_genes))

    def blocks(
        self, width: int, start: int = 0, stop: int | None = None
    ) -> Generator[CompressedBlock, None, None]:
        """Yield blocks of ``width`` genes, the stored zeros left out."""
        for begin, end in self._cut(width, start, stop):
            yield self._log(self._block(begin, end))

    def repeated(self, width: int, start: int = 0) -> Generator[CompressedBlock, None, None]:
        """Yield the same blocks for one pass of several; a block of all genes is made once."""
        if start > 0 or width < self.source.shape[1]:
            yield from self.blocks(width, start)
            return
        if self._whole is None:
            self._whole = next(self.blocks(width))
        yield self._whole

    def grouped(
        self, width: int, start: int = 0, stop: int | None = None
    ) -> Generator[GroupedGenes, None, None]:
        """Yield blocks of ``width`` genes with their values sorted by group.

        The values of a block are overwritten by those of the next one.
        """
        if self.membership.group_of_cell is None:
            with closing(prefetch(self.blocks(width, start, stop))) as blocks:
                for block in blocks:
                    yield group_genes(block, self.membership, self.n_threads)
            return
        sizes = self.summary.library_sizes if self._take_log1p else np.empty(0)
        if self._rows is not None:
            self._rows.rewind(self.source.shape[1] if stop is None else stop)
            for begin, end in self._cut(width, start, stop):
                yield self._rows.block(begin, end, sizes, LOG_TARGET_SUM)
            return
        room = np.empty(0, dtype=np.float32)
        with closing(prefetch(self._pieces(width, start, stop))) as pieces:
            for piece in pieces:
                room = _room_for(piece, room, logged=self._take_log1p)
                yield group_pieces(piece, self.membership, sizes, room, self.n_threads)

    def close(self) -> None:
        """Let go of the turned matrix, or of the mapped one."""
        self._rows = self._whole = None
        if self._store is not None:
            self._store.close()

    def _cut(self, width: int, start: int, stop: int | None) -> Iterator[tuple[int, int]]:
        """Yield the ends of blocks of genes ``start`` to ``stop``, None for all that follow."""
        stop = self.source.shape[1] if stop is None else stop
        for begin in range(start, stop, width):
            yield begin, min(begin + width, stop)

    def _pieces(self, width: int, start: int, stop: int | None) -> Generator[Pieces, None, None]:
        for begin, end in self._cut(width, start, stop):
            if self._store is not None:
                yield self._store.pieces(begin, end)
            else:
                yield Pieces.of_block(self._columns(begin, end))

    def _block(self, start: int, stop: int) -> CompressedBlock:
        if self._rows is not None and self._store is None:
            self._turn_around(None)
        if self._store is not None:
            return self._store.block(start, stop)
        block = self._columns(start, stop)
        if compressed_kernel.inspect_values(block.values)[3] < 0:
            return block
        values, minor, ptr = block.values.copy(), block.minor.copy(), block.ptr.copy()
        compressed_kernel.drop_zeros(values, minor, ptr)
        return CompressedBlock(start, stop, values[: ptr[-1]], minor[: ptr[-1]], ptr)

    def _columns(self, start: int, stop: int) -> CompressedBlock:
        """Return genes of a CSC input as stored, and put them into the summary."""
        unseen = start >= self._seen
        # In one part, where memory allows: parts are joined, which copies them.
        whole = {"max_values": self.source.storage.n_stored, **self._bounds}
        parts = self.source.native_blocks(
            self.summary if unseen else None, start=start, stop=stop, **whole
        )
        block = joined(list(parts))
        if unseen:
            # A resumed run starts within the matrix: its summary has a gap and stays incomplete.
            self._gap |= start > self._seen
            self._seen = stop
            self.summary.complete = stop == self.source.shape[1] and not self._gap
        return block

    def _log(self, block: CompressedBlock) -> CompressedBlock:
        if not self._take_log1p:
            return block
        values = np.empty(len(block.values))
        normalize_kernel.scale_by_cell(
            block.values,
            block.minor,
            self.summary.library_sizes,
            LOG_TARGET_SUM,
            values,
            self.n_threads,
        )
        return CompressedBlock(block.start, block.stop, values, block.minor, block.ptr)


def _shares(
    ptr: np.ndarray, stretches: list[tuple[int, int]], n_shares: int
) -> Iterator[tuple[int, int]]:
    """Cut each stretch of rows into ``n_shares`` of about as many values."""
    for start, stop in stretches:
        inner = np.linspace(ptr[start], ptr[stop], n_shares + 1)[1:-1]
        cuts = np.searchsorted(ptr[start:stop], inner) + start
        yield from pairwise([start, *cuts.tolist(), stop])


def group_pieces(
    pieces: Pieces, membership: Membership, sizes: np.ndarray, room: np.ndarray, n_threads: int
) -> GroupedGenes:
    """Sort the values of each gene by the one group of their cell, into ``room`` (n_values,).

    With library ``sizes`` (n_cells,) they are normalized and logged.
    """
    assert membership.group_of_cell is not None  # one group per cell
    run_ptr = np.empty((pieces.stop - pieces.start, len(membership.sizes) + 1), dtype=np.int64)
    kernel.group_pieces(
        np.array([part.ctypes.data for part in pieces.values], dtype=np.uint64),
        np.array([part.ctypes.data for part in pieces.major], dtype=np.uint64),
        pieces.ptr,
        pieces.first_major,
        membership.group_of_cell,
        run_ptr,
        sizes,
        LOG_TARGET_SUM,
        room,
        pieces.values[0][:0],
        pieces.major[0][:0],
        n_threads,
    )
    return GroupedGenes(
        pieces.start, pieces.stop, room, run_ptr, membership.sizes, membership.pooled
    )


def _room_for(pieces: Pieces, room: np.ndarray, *, logged: bool) -> np.ndarray:
    """Return ``room``, or a larger one where the values do not fit: memory touched anew is slow."""
    needed = max(1, int((pieces.ptr[:, -1] - pieces.ptr[:, 0]).sum()))
    dtype = np.dtype(np.float64) if logged else pieces.values[0].dtype
    if room.dtype == dtype and len(room) >= needed:
        return room
    return np.empty(needed + needed // 8, dtype=dtype)


def group_genes(block: CompressedBlock, membership: Membership, n_threads: int) -> GroupedGenes:
    """Sort the values of each gene of a block by group."""
    n_groups = len(membership.sizes)
    run_ptr = np.empty((block.n_major, n_groups + 1), dtype=np.int64)
    kernel.count_runs(block.minor, block.ptr, membership.ptr, membership.groups, run_ptr, n_threads)
    ends = np.cumsum(run_ptr[:, -1])
    run_ptr[1:] += ends[:-1, None]
    values = np.empty(ends[-1] if len(ends) else 0, dtype=block.values.dtype)
    kernel.fill_runs(
        block.values,
        block.minor,
        block.ptr,
        membership.ptr,
        membership.groups,
        run_ptr,
        np.empty((n_threads, n_groups), dtype=np.int64),
        values,
        n_threads,
    )
    return GroupedGenes(
        block.start, block.stop, values, run_ptr, membership.sizes, membership.pooled
    )
