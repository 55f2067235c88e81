"""Tests that see each block of genes once."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from crispyx._io.genes import GeneStream
from crispyx._io.source import MatrixSource
from crispyx._jobs.batches import Batches
from crispyx._jobs.block_work import Work
from crispyx._jobs.driver import run_units
from crispyx._jobs.plan import Plan, plan_genes
from crispyx._jobs.screen import Screen
from crispyx._jobs.tiles import Rows, TileStore
from crispyx._kernels.layout import GroupedGenes, Membership
from crispyx._stats.expression_filter import tested_pairs
from crispyx._stats.moments import Arm, comparison_arms
from crispyx._stats.welch import log_fold_changes
from crispyx.de.arguments import Rules
from crispyx.de.comparison import Comparison, Method
from crispyx.errors import CrispyxWarning
from crispyx.settings import Engine

BYTES_PER_BATCH = 48  # of one gene and one perturbation: runs, statistics and moments of a batch
BYTES_PER_VALUE = 30  # a non-zero of three blocks, two of them read ahead, and its grouped copy
BYTES_PER_COPY = 26  # of a non-zero that stands in several groups; blocks are then wider
TILES = 6  # of what is computed of a block, its tile, and two tiles that wait to be written

Tile = dict[str, np.ndarray]


class BlockTest(Method):
    """A test of one block of genes at a time.

    ``min_cells_batch`` is the number of cells of both arms that a batch must have to take part.
    """

    min_cells_batch: int
    takes_variance: bool

    def check(self, source: MatrixSource, screen: Screen) -> None:
        """Accept everything."""

    def prepare(self, stream: GeneStream) -> None:
        """Look at the data before the first block."""

    @abstractmethod
    def test(
        self,
        block: GroupedGenes,
        batches: Sequence[GroupedGenes],
        arms: tuple[Arm, Arm],
        engine: Engine,
        n_threads: int,
    ) -> Tile:
        """Return effect_size, z_score, pvalue and fields of its own (n_groups, n_genes).

        ``batches`` holds the cells of each batch, and nothing when batches are not asked for.
        """

    def finish(self, stream: GeneStream, store: TileStore) -> None:
        """Warn about what only the whole matrix, or the whole result, shows."""

    def membership(self, comparison: Comparison) -> Membership:
        """Return perturbations, followed by those of every batch where there are batches."""
        membership, batches = comparison.screen.membership, comparison.batches
        return membership if batches is None else batches.beside(membership)

    def plan(self, comparison: Comparison) -> Plan:
        """Choose the sizes of the work."""
        running, batches = comparison.running, comparison.batches
        several = batches is not None or comparison.screen.membership.group_of_cell is None
        tile_bytes = sum(np.dtype(column.dtype).itemsize for column in self.columns.values())
        return plan_genes(
            comparison.source,
            comparison.screen,
            output=comparison.output,
            bytes_per_result=TILES * tile_bytes + BYTES_PER_BATCH * _n_batches(batches),
            bytes_per_value=BYTES_PER_VALUE + (BYTES_PER_COPY if several else 0),
            memory_limit_gb=running.memory_limit_gb,
            width=running.width,
            n_threads=comparison.n_threads,
        )

    def work(self, comparison: Comparison, stream: GeneStream, plan: Plan) -> BlockTestWork:
        """Look at the data, and return what is computed of each block."""
        if comparison.batches is not None:
            sizes, least = stream.membership.sizes, self.min_cells_batch
            _warn_about_batches(comparison.screen, comparison.batches, sizes, least)
        self.prepare(stream)
        return BlockTestWork(
            self,
            comparison.limits,
            _n_batches(comparison.batches),
            comparison.engine,
            comparison.n_threads,
        )

    def run(self, comparison: Comparison) -> None:
        """Test block after block and write the result."""
        running, plan = comparison.running, self.plan(comparison)
        stream = GeneStream(
            comparison.source,
            self.membership(comparison),
            scratch_dir=plan.scratch_dir,
            n_threads=comparison.n_threads,
            max_cells=running.cell_chunk_size,
            max_values=plan.read_values,
            in_place=plan.in_place,
        )
        store = None
        try:
            work = self.work(comparison, stream, plan)
            store = comparison.store(work.fields(0), plan.width)
            run_units(
                store,
                stream.grouped,
                partial(work.tile, 0),
                resume=running.resume,
                label=self.name,
                show=running.show,
            )
            self.complete(comparison, stream, store, work)
        finally:
            stream.close()
            if store is not None:
                store.close()

    def complete(
        self,
        comparison: Comparison,
        stream: GeneStream,
        store: TileStore,
        work: Work,
        before: Rows | None = None,
        barrier: Any = None,
    ) -> None:
        """Warn about what only the whole shows, and write the result."""
        self.finish(stream, store)
        stream.close()  # its memory is not needed while the result is written
        notes = {"method": self.name, **self.parameters}
        if comparison.batches is not None:
            notes["batch_column"] = comparison.batches.column
        comparison.write(store, self.columns, notes)


@dataclass(frozen=True)
class BlockTestWork:
    """What a test computes of one block."""

    method: BlockTest
    limits: Rules
    n_batches: int
    engine: Engine
    n_threads: int
    grouped = True

    @property
    def passes(self) -> tuple[str, ...]:
        """The one pass."""
        return (self.method.name,)

    def with_threads(self, n_threads: int) -> BlockTestWork:
        """Return the same work by so many threads."""
        return replace(self, n_threads=n_threads)

    def fields(self, number: int) -> Mapping[str, np.dtype]:
        """Return the arrays of a tile."""
        columns = self.method.columns.values()
        return {column.field: np.dtype(column.dtype) for column in columns}

    def barrier(self, number: int, before: Rows) -> None:
        """Return what a block must know of the others: nothing."""

    def tile(
        self, number: int, block: GroupedGenes, before: Any = None, barrier: Any = None
    ) -> Tile:
        """Return the tile of one block."""
        return _tile(
            block,
            method=self.method,
            limits=self.limits,
            n_batches=self.n_batches,
            engine=self.engine,
            n_threads=self.n_threads,
        )


def _n_batches(batches: Batches | None) -> int:
    return 0 if batches is None else len(batches.names)


def _tile(
    block: GroupedGenes,
    *,
    method: BlockTest,
    limits: Rules,
    n_batches: int,
    engine: Engine,
    n_threads: int,
) -> Tile:
    """Test one block; ``docs/methods/expression_filter.md`` has the degenerate cases."""
    n_groups = block.n_groups // (1 + n_batches)
    batches = [block.part((1 + b) * n_groups, n_groups) for b in range(n_batches)]
    if batches:
        block = block.part(0, n_groups)
    control, perturbed = comparison_arms(
        block, engine, n_threads, with_variance=method.takes_variance
    )
    tile = method.test(block, batches, (control, perturbed), engine, n_threads)
    tile["logfoldchanges"] = log_fold_changes(control, perturbed, engine, n_threads)
    untested = ~tested_pairs(control, perturbed, limits.thresholds, engine, n_threads)
    untested |= perturbed.n_cells < limits.min_cells_pert
    masks = [(untested, np.nan, np.nan)]
    if limits.min_cells_expressed > 0:
        few = control.n_expressing + perturbed.n_expressing < limits.min_cells_expressed
        masks.insert(0, (few, 0.0, 1.0))
    for mask, value, p in masks:
        if mask.any():
            for name, table in tile.items():
                table[mask] = p if name == "pvalue" else value
    tile["pts"] = perturbed.pts(n_threads)
    tile["pts_rest"] = np.broadcast_to(control.pts(n_threads), perturbed.mean.shape)
    return tile


def _warn_about_batches(screen: Screen, batches: Batches, sizes: np.ndarray, least: int) -> None:
    n_cells = sizes.reshape(1 + len(batches.names), -1)[1:]
    n1 = n_cells[:, 1:]
    n0 = n_cells[:, :1] - (n1 if screen.membership.pooled else 0)
    alone = ~np.any((n0 >= least) & (n1 >= least), axis=0)
    if alone.any():
        labels = [repr(screen.groups[k]) for k in np.flatnonzero(alone)]
        more = f" and {len(labels) - 5} more" if len(labels) > 5 else ""
        warnings.warn(
            f"{len(labels)} perturbations share no batch of obs column {batches.column!r} with the "
            f"control ({least} or more cells of both) and are not tested: "
            f"{', '.join(labels[:5])}{more}",
            CrispyxWarning,
            stacklevel=6,
        )
