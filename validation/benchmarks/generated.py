"""``python -m validation generated``: blocks of a screen that is nowhere stored.

Genes are made when they are asked for, by a matrix that says of itself what files say. The blocks
are computed by the work that executors are given, so that screens of any number of cells can be
tried on a small machine, a few genes at a time.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crispyx._io.genes import GeneStream
from crispyx._io.matrix import MatrixSource
from crispyx._jobs.block_work import Work
from crispyx._kernels.layout import CompressedBlock, Membership
from crispyx._run.threads import resolve_threads
from crispyx._stats.expression_filter import ExpressionThresholds
from crispyx._stats.nb_likelihood import grouped_cells
from crispyx.de.arguments import Rules
from crispyx.de.nb_cells import ScreenCells
from crispyx.de.nb_choices import Choices, choose
from crispyx.de.nb_passes import Passes
from crispyx.de.nb_work import NegativeBinomialWork
from crispyx.de.one_pass import BlockTestWork
from crispyx.de.wilcoxon import _RankSumMethod
from validation.benchmarks.tables import markdown_table, number

N_GENES = 8_248
N_PERTURBATIONS = 1_000
CONTROL_SHARE = 0.05
EVERYTHING = Rules(ExpressionThresholds(0, 0, 0, 0), 0, 2, "benjamini-hochberg", "perturbation")


@dataclass
class GeneratedGenes:
    """Counts of a screen by genes, made anew whenever they are read.

    Attributes
    ----------
    n_minor : int
        Cells.
    density : float
        Share of cells that express a gene, at most 0.5.
    size_factors : numpy.ndarray (n_cells,) or None
        Values become ``log1p(count / s)``; None leaves counts.
    cpu_seconds : float
        Spent on making genes.
    """

    n_minor: int
    density: float
    size_factors: np.ndarray | None = None
    cpu_seconds: float = 0.0
    n_major: int = N_GENES
    where: str = "a generated screen"
    dtype: np.dtype = field(default_factory=lambda: np.dtype(np.float32))

    @property
    def n_stored(self) -> int:
        """Number of stored values."""
        return self.n_major * self.per_gene

    @property
    def per_gene(self) -> int:
        """Values above 0 of each gene."""
        return round(self.density * self.n_minor)

    def blocks(
        self, start: int, stop: int, *, max_values: int, max_major: int, as_stored: bool = False
    ) -> Iterator[CompressedBlock]:
        """Yield blocks of whole genes."""
        step = max(1, min(max_major, max_values // self.per_gene))
        for first in range(start, stop, step):
            last = min(first + step, stop)
            began = time.thread_time()
            genes = [self._gene(gene) for gene in range(first, last)]
            values, cells = (np.concatenate(parts) for parts in zip(*genes, strict=True))
            self.cpu_seconds += time.thread_time() - began
            ptr = np.arange(last - first + 1, dtype=np.int64) * self.per_gene
            yield CompressedBlock(first, last, values, cells, ptr)

    def _gene(self, gene: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([1, gene])
        n = self.per_gene
        # One cell of each of n stretches of cells: in order, and none twice.
        firsts = np.arange(n, dtype=np.int64) * self.n_minor // n
        cells = (firsts + rng.integers(0, self.n_minor // n, n)).astype(np.int32)
        values = rng.geometric(0.6, n).astype(np.float32)
        if self.size_factors is not None:
            values = np.log1p(values / self.size_factors[cells]).astype(np.float32)
        return values, cells


class _Names:
    """Names of cells or genes that nobody asks for."""

    def __init__(self, axis: str) -> None:
        self.axis, self.index = axis, np.empty(0, dtype=object)
        self.columns: list[str] = []

    def column(self, name: str) -> np.ndarray:
        raise KeyError(name)


@dataclass(frozen=True)
class Measured:
    """What blocks of one screen took; times in 10^-9 CPU seconds a non-zero.

    Attributes
    ----------
    per_cell : float
        Bytes that a worker holds for each cell, whatever the block.
    per_value : float
        Largest number of bytes allocated beside that for each non-zero of a block, its own values
        and cells included.
    """

    name: str
    n_cells: int
    n_values: int
    nanoseconds: float
    per_cell: float
    per_value: float


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add ``generated`` to the commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "generated", help="compute blocks of screens of any size that are nowhere stored"
    )
    parser.add_argument("--cells", type=int, nargs="+", default=[50_000, 200_000])
    parser.add_argument("--density", type=float, default=0.1, help="share of values above 0 (0.1)")
    parser.add_argument("--values", type=int, default=4_000_000, help="of a block (4,000,000)")
    parser.add_argument("--blocks", type=int, default=3, help="blocks of each (3)")
    parser.add_argument("--threads", type=int, default=1)
    parser.set_defaults(run=generated)
    return parser


def generated(options: argparse.Namespace) -> int:
    """Compute blocks and print what they took."""
    threads = resolve_threads(options.threads)
    rows = []
    for n_cells in options.cells:
        for found in measured(n_cells, options.density, options.values, options.blocks, threads):
            rows.append(
                [
                    found.name,
                    f"{n_cells:,}",
                    f"{found.n_values:,}",
                    number(found.nanoseconds),
                    number(found.per_cell),
                    number(found.per_value),
                ]
            )
            print(found, flush=True)
    head = ("work", "cells", "non-zeros", "CPU ns a non-zero", "bytes a cell", "bytes a non-zero")
    print(markdown_table(head, rows))
    return 0


def measured(
    n_cells: int, density: float, n_values: int, n_blocks: int, n_threads: int
) -> Iterator[Measured]:
    """Compute some blocks of Wilcoxon's and of the negative binomial test."""
    rng = np.random.default_rng(0)
    group = rng.integers(1, N_PERTURBATIONS + 1, n_cells)
    group[rng.random(n_cells) < CONTROL_SHARE] = 0
    s = rng.lognormal(0, 0.4, n_cells)
    width = max(1, n_values // round(density * n_cells))
    membership = Membership.from_labels(group, N_PERTURBATIONS + 1)
    held = membership.ptr.nbytes + membership.groups.nbytes
    ranks = BlockTestWork(_RankSumMethod(True, "two-sided"), EVERYTHING, 0, "compiled", n_threads)
    genes = GeneratedGenes(n_cells, density, s)
    stream = GeneStream(_source(genes), membership, n_threads=n_threads)
    places = [(k * width, (k + 1) * width) for k in range(n_blocks)]
    yield _measured("wilcoxon", ranks, 0, stream, places, held)

    table = grouped_cells(s, membership, n_threads)
    held += sum(array.nbytes for array in table.arrays) + table.rank.nbytes
    cells = ScreenCells(membership, table, None, True, s, n_threads)
    chosen = choose(Choices(), "calibrated").estimators()
    passes = Passes(cells, chosen, EVERYTHING, 1.0, True, "compiled", n_threads)
    work = NegativeBinomialWork(passes, False, False, (N_PERTURBATIONS, N_GENES))
    stream = GeneStream(_source(GeneratedGenes(n_cells, density)), membership, n_threads=n_threads)
    for position, name in enumerate(work.passes):
        yield _measured(f"nb_glm: {name}", work, position, stream, places, held)


def _measured(
    name: str,
    work: Work,
    position: int,
    stream: GeneStream,
    places: Sequence[tuple[int, int]],
    held: int,
) -> Measured:
    """Compute the blocks; what making the genes takes is left out."""
    genes = stream.source.storage
    assert isinstance(genes, GeneratedGenes)
    read: Any = stream.grouped if work.grouped else stream.blocks
    before = barrier = None
    if position == 0:
        work.tile(0, next(read(1, 0, 1)))  # what is made once for all blocks is made
    seconds, n_values = 0.0, 0
    for start, stop in places:
        if position > 0:
            before = work.tile(position - 1, next(read(stop - start, start, stop)))
            barrier = work.barrier(position, _Table(before))
        made = genes.cpu_seconds
        began = time.process_time()
        with closing(read(stop - start, start, stop)) as blocks:
            work.tile(position, next(blocks), before, barrier)
        seconds += time.process_time() - began - (genes.cpu_seconds - made)
        n_values += (stop - start) * genes.per_gene
    start, stop = places[0]
    tracemalloc.start()
    with closing(read(stop - start, start, stop)) as blocks:
        work.tile(position, next(blocks), before, barrier)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    n_cells = genes.n_minor
    per_value = peak / ((stop - start) * genes.per_gene)
    return Measured(name, n_cells, n_values, 1e9 * seconds / n_values, held / n_cells, per_value)


class _Table:
    """The tile of one block as the table of all genes."""

    def __init__(self, tile: Mapping[str, np.ndarray]) -> None:
        self._tile = tile
        self.n_groups, self.n_genes = next(iter(tile.values())).shape

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        return self._tile[name][start:stop]


def _source(genes: GeneratedGenes) -> MatrixSource:
    shape = genes.n_minor, genes.n_major
    return MatrixSource(genes, "csc", shape, _Names("obs"), _Names("var"), None, "X")
