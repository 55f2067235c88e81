"""Totals of groups of cells, summed by others and put together here with the same bits.

Totals of counts are integers: ranges of cells are summed apart and added up. Sums of other values
depend on their order, so that each is summed whole: ranges of genes are handed out, and of a matrix
stored by cells everyone reads all of it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from crispyx._io.source import MatrixSource
from crispyx._jobs.shared_input import Readers, SharedInput
from crispyx._stats.pseudobulk import Members, Transform
from crispyx.pseudobulk.totals import Totals
from crispyx.settings import Engine

MOST_PASSES = 8  # tasks that each read the whole matrix


@dataclass(frozen=True)
class SharedTotals:
    """What is summed by others; see :class:`crispyx.pseudobulk.totals.Totals`.

    Attributes
    ----------
    shared : SharedInput
        The matrix.
    members, counts, otherwise, what, engine, max_cells
        Of the totals.
    holds_counts : bool
        What is known of the matrix so far.
    sizes : numpy.ndarray (n_cells,) float64 or None
        What scales the cells of a CSC matrix, where that is known.
    genes : tuple (first, stop)
        Genes that are summed in a range of cells.
    """

    shared: SharedInput
    members: Members
    counts: Transform
    otherwise: Transform | None
    what: str
    engine: Engine
    max_cells: int | None
    holds_counts: bool
    sizes: np.ndarray | None = None
    genes: tuple[int, int] = (0, 0)

    @contextmanager
    def totals(self, n_threads: int) -> Iterator[Totals]:
        """Yield what sums them up here."""
        with self.shared.opened() as source:
            totals = Totals(
                source,
                self.members,
                self.counts,
                self.otherwise,
                self.what,
                self.engine,
                n_threads,
                self.max_cells,
            )
            totals.learn(self.holds_counts, self.sizes)
            yield totals


@dataclass(frozen=True)
class PartOfTotals:
    """Totals (n_groups, width), whether all values seen are counts, and the sum of those added."""

    totals: np.ndarray
    holds_counts: bool
    counted: float = 0.0


@dataclass(frozen=True)
class Looked:
    """Library sizes (n_cells,) of some genes, and whether all values seen are counts."""

    sizes: np.ndarray
    holds_counts: bool


def look_at_genes(task: SharedTotals, start: int, stop: int, n_threads: int) -> Looked:
    """Return what genes ``start`` to ``stop`` of a CSC matrix hold."""
    with task.totals(n_threads) as totals:
        sizes = totals.library_sizes(start, stop)
        return Looked(sizes, totals.holds_counts)


def totals_of_genes(task: SharedTotals, start: int, stop: int, n_threads: int) -> PartOfTotals:
    """Return the totals of genes ``start`` to ``stop`` over all cells in their order."""
    with task.totals(n_threads) as totals:
        return PartOfTotals(totals.of_genes(start, stop), totals.holds_counts)


def totals_of_cells(task: SharedTotals, start: int, stop: int, n_threads: int) -> PartOfTotals:
    """Return the totals of the genes of the task over cells ``start`` to ``stop``, integers."""
    with task.totals(n_threads) as totals:
        found, counted = totals.of_cells(start, stop, *task.genes)
        return PartOfTotals(found, totals.holds_counts, counted)


def panels_elsewhere(
    width: int, start: int, *, totals: Totals, readers: Readers
) -> Generator[np.ndarray, None, None]:
    """Yield the totals (n_groups, width) of ``width`` genes after the other, from ``start`` on.

    ``totals`` learns what others find out about the matrix.
    """
    source = totals.source
    task = SharedTotals(
        readers.shared,
        totals.members,
        totals.counts,
        totals.otherwise,
        totals.what,
        totals.engine,
        totals.max_cells,
        totals.holds_counts,
    )
    if source.layout == "csc" and totals.needs_sizes:
        looked: list[Looked] = readers.in_ranges(look_at_genes, task, readers.major_edges(source))
        sizes = np.zeros(source.shape[0])
        for seen in looked:
            sizes += seen.sizes  # of counts: whole numbers
        totals.learn(all(seen.holds_counts for seen in looked), sizes)
        task = replace(task, holds_counts=totals.holds_counts, sizes=sizes)
    n_genes = source.shape[1]
    for begin in range(start, n_genes, width):
        panel = begin, min(begin + width, n_genes)
        edges = _ranges_of_cells(totals, readers, width)
        parts: list[PartOfTotals]
        if edges is None:
            edges = _ranges_of_genes(source, readers, *panel)
            parts = readers.in_ranges(totals_of_genes, task, edges)
            found = np.concatenate([part.totals for part in parts], axis=1)
        else:
            parts = readers.in_ranges(totals_of_cells, replace(task, genes=panel), edges)
            totals.require_room(sum(part.counted for part in parts))
            found = np.zeros(parts[0].totals.shape, dtype=np.int64)
            for part in parts:
                found += part.totals
        totals.learn(all(part.holds_counts for part in parts), task.sizes)
        task = replace(task, holds_counts=totals.holds_counts)
        yield found


def _ranges_of_cells(totals: Totals, readers: Readers, width: int) -> list[int] | None:
    """Return ranges of cells for sums that are exact, as many as write less than they read."""
    source = totals.source
    if not totals.transform.whole or source.layout == "csc":
        return None
    most = source.storage.n_stored // (totals.members.n_groups * width)
    edges = readers.major_edges(source, most)
    return edges if len(edges) > 2 else None


def _ranges_of_genes(source: MatrixSource, readers: Readers, begin: int, stop: int) -> list[int]:
    if source.layout == "csc":
        edges = readers.major_edges(source)
        return [begin, *(edge for edge in edges if begin < edge < stop), stop]
    n_ranges = min(readers.workers.n_workers, MOST_PASSES, stop - begin)
    ranges: list[int] = np.linspace(begin, stop, n_ranges + 1).astype(int).tolist()
    return ranges
