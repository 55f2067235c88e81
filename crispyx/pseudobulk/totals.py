"""Totals of all groups for panels of genes, each from one pass over the stored axis."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np

from crispyx._io.segments import MAX_SEGMENT_MAJOR
from crispyx._io.source import MatrixSource, MatrixSummary
from crispyx._jobs.partial import PartialUnit
from crispyx._kernels.compressed import inspect_values
from crispyx._kernels.layout import CompressedBlock
from crispyx._run.prefetch import prefetch
from crispyx._stats.pseudobulk import Members, Transform, add_cells, add_genes
from crispyx.data.arguments import require_nonnegative
from crispyx.errors import InputError
from crispyx.settings import Engine

LARGEST_COUNT = 2**53  # float64 holds every whole number up to here
LARGEST_TOTAL = 2**63


class _FractionError(Exception):
    """A value is not a whole number, which the transform at hand is not for."""


@dataclass
class Totals:
    """Totals of groups of cells.

    Attributes
    ----------
    source : MatrixSource
        The matrix.
    members : Members
        Groups of cells.
    counts, otherwise : Transform
        For a matrix of counts, and for one with other values; without the latter these are an
        error.
    what : str
        Name of the computation, for messages.
    engine, n_threads, max_cells
        How the work is done; ``max_cells`` vectors of the stored axis are read at a time at most.
    holds_counts : bool
        No value seen so far is a fraction. Decided on all cells that belong to a group: the first
        fraction starts a pass over.
    """

    source: MatrixSource
    members: Members
    counts: Transform
    otherwise: Transform | None
    what: str
    engine: Engine
    n_threads: int
    max_cells: int | None = None
    holds_counts: bool = True
    _sizes: np.ndarray | None = field(default=None, repr=False)
    _decided: bool = field(default=False, repr=False)

    @property
    def transform(self) -> Transform:
        """What becomes of a value before it is added."""
        return self.counts if self.holds_counts or self.otherwise is None else self.otherwise

    @property
    def needs_sizes(self) -> bool:
        """Whether numbers depend on a look at all values of a CSC matrix before they are added."""
        return self.otherwise is not None or self.counts.target_sum is not None

    def decide(self) -> None:
        """Look at all values, unless it is known what the matrix holds."""
        if not self._decided:
            self.library_sizes()

    def learn(self, holds_counts: bool, sizes: np.ndarray | None) -> None:
        """Take over what others have found out by a look at all values."""
        self.holds_counts, self._sizes, self._decided = holds_counts, sizes, True

    def of_genes(self, begin: int, stop: int) -> np.ndarray:
        """Return the totals (n_groups, stop - begin) of some genes over all cells."""
        if self.source.layout == "csc":
            return self._by_genes(begin, stop)
        return self._by_cells(begin, stop, None)

    def of_cells(self, first: int, last: int, begin: int, stop: int) -> tuple[np.ndarray, float]:
        """Return the totals of genes ``begin`` to ``stop`` over cells ``first`` to ``last``.

        With them goes the sum of all counts of those cells.
        """
        totals = np.zeros((self.members.n_groups, stop - begin), dtype=self.transform.dtype)
        return totals, self._add_cells(totals, begin, first, None, last)

    def panels(
        self, width: int, start: int, partial: PartialUnit
    ) -> Generator[np.ndarray, None, None]:
        """Yield the totals (n_groups, width) of ``width`` genes after the other.

        Parameters
        ----------
        width : int
            Genes of a panel; a matrix stored by cells is read once for each.
        start : int
            First gene.
        partial : PartialUnit
            Keeps a panel that takes long.
        """
        n_genes = self.source.shape[1]
        for begin in range(start, n_genes, width):
            stop = min(begin + width, n_genes)
            if self.source.layout == "csc":
                yield self._by_genes(begin, stop)
            else:
                yield self._by_cells(begin, stop, partial)
                partial.remove()

    def _by_cells(self, begin: int, stop: int, partial: PartialUnit | None) -> np.ndarray:
        while True:
            totals = np.zeros((self.members.n_groups, stop - begin), dtype=self.transform.dtype)
            state = None if partial is None else partial.load(totals)
            done = 0
            if state is not None and state["gene"] == begin:
                done, self.holds_counts = state["cells"], state["holds_counts"]
            else:
                totals[...] = 0
            try:
                self._add_cells(totals, begin, done, partial)
            except _FractionError:
                self.holds_counts = False
                if partial is not None:
                    partial.remove()
                continue
            self._decided = True
            return totals

    def _add_cells(
        self,
        totals: np.ndarray,
        begin: int,
        done: int,
        partial: PartialUnit | None,
        last: int | None = None,
    ) -> float:
        """Add cells ``done`` to ``last``, all there are unless given; return their library size."""
        n_genes = self.source.shape[1]
        summary = self.source.empty_summary()

        # Nothing is saved on an interruption: it may come between an addition and its being noted.
        with closing(prefetch(self._blocks_of_members(summary, done, last))) as blocks:
            for block in blocks:
                self._check(block, summary)
                add_cells(
                    totals,
                    block,
                    self.members,
                    summary.library_sizes[block.start : block.stop],
                    self.transform,
                    begin,
                    n_genes,
                    self.engine,
                    self.n_threads,
                )
                if partial is not None and partial.due:
                    state = {"cells": block.stop, "holds_counts": self.holds_counts}
                    partial.save({"gene": begin, **state}, totals)
        counted = float(summary.library_sizes.sum())
        self.require_room(counted)
        return counted

    def _by_genes(self, begin: int, stop: int) -> np.ndarray:
        if self._sizes is None:
            self._sizes = self.library_sizes()
        totals = np.zeros((stop - begin, self.members.n_groups), dtype=self.transform.dtype)
        summary = self.source.empty_summary()
        for block in self._blocks(summary, begin, stop):
            self._check(block, summary)
            add_genes(
                totals[block.start - begin : block.stop - begin],
                block,
                self.members,
                self._sizes,
                self.transform,
                self.engine,
                self.n_threads,
            )
        self.require_room(float(summary.library_sizes.sum()))
        return totals.T

    def library_sizes(self, begin: int = 0, stop: int | None = None) -> np.ndarray:
        """Return what scales the cells, after a look at all values where numbers depend on it.

        Of the vectors ``begin`` to ``stop`` of the stored axis it is their part.
        """
        if not self.needs_sizes:
            return np.ones(self.source.shape[0])
        summary = self.source.empty_summary()
        with closing(prefetch(self._blocks(summary, begin, stop))) as blocks:
            for block in blocks:
                try:
                    self._check(block, summary)
                except _FractionError:
                    self.holds_counts = False
                    break
        self._decided = True
        return summary.library_sizes

    def _blocks_of_members(
        self, summary: MatrixSummary, start: int, last: int | None
    ) -> Generator[CompressedBlock, None, None]:
        """Yield the cells from ``start`` on, but for long gaps of cells that are in no group."""
        last = self.source.shape[0] if last is None else last
        for first, stop in self.members.membership.stretches(start):
            if first < last:
                yield from self._blocks(summary, first, min(stop, last))

    def _blocks(
        self, summary: MatrixSummary, start: int, stop: int | None = None
    ) -> Generator[CompressedBlock, None, None]:
        most = min(self.max_cells or MAX_SEGMENT_MAJOR, MAX_SEGMENT_MAJOR)
        yield from self.source.native_blocks(summary, start=start, stop=stop, max_major=most)

    def _check(self, block: CompressedBlock, summary: MatrixSummary) -> None:
        """Raise unless the values of all cells that belong to a group are fit for the transform."""
        if summary.offending is not None:
            seen = self._seen_in_members(block)
            if self.otherwise is None:
                self.source.require_counts(seen, self.what)
            require_nonnegative(self.source, seen, self.what)
            if self.holds_counts and seen.fractional is not None:
                raise _FractionError
        if self.transform.whole and block.values.max(initial=0) >= LARGEST_COUNT:
            raise InputError(
                f"{self.source.where} holds {block.values.max():g}, above 2^53: not a count that "
                f"{self.what} can add exactly"
            )

    def _seen_in_members(self, block: CompressedBlock) -> MatrixSummary:
        """Return the first offending values of a block, cells in no group left out."""
        used = self.members.membership.used_cells
        if self.source.layout == "csc":
            inside = used[block.minor]
        else:
            inside = np.repeat(used[block.start : block.stop], np.diff(block.ptr))
        places = np.flatnonzero(inside)
        _, negative, fractional, _ = inspect_values(block.values[places])
        seen = MatrixSummary(np.empty(0))
        for name, place in (("negative", negative), ("fractional", fractional)):
            if place >= 0:
                setattr(seen, name, self.source.entry(block, int(places[place])))
        return seen

    def require_room(self, counted: float) -> None:
        """Raise InputError where totals of so many counts could be larger than they can be."""
        times = int(self.members.times.max(initial=1))
        if self.transform.whole and counted * times >= LARGEST_TOTAL:
            raise InputError(
                f"{self.source.where}: all counts together exceed 2^63, which totals cannot hold"
            )
