"""Tests that see each block of genes once."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from functools import partial

import numpy as np

from crispyx._io.genes import GeneStream
from crispyx._io.source import MatrixSource
from crispyx._jobs.batches import Batches
from crispyx._jobs.driver import run_units
from crispyx._jobs.plan import BYTES_PER_GROUPED, plan_genes
from crispyx._jobs.screen import Screen
from crispyx._jobs.tiles import TileStore
from crispyx._kernels.layout import GroupedGenes
from crispyx._stats.expression_filter import tested_pairs
from crispyx._stats.moments import Arm, comparison_arms
from crispyx._stats.welch import log_fold_changes
from crispyx.de.arguments import Rules
from crispyx.de.comparison import Comparison, Method
from crispyx.errors import CrispyxWarning
from crispyx.settings import Engine

BYTES_PER_BATCH = 48  # of one gene and one perturbation: runs, statistics and moments of a batch
BYTES_PER_COPY = 8  # of a non-zero that stands in its group and in its batch's

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

    def run(self, comparison: Comparison) -> None:
        """Test block after block and write the result."""
        screen, batches, running = comparison.screen, comparison.batches, comparison.running
        fields = {column.field: np.dtype(column.dtype) for column in self.columns.values()}
        tile_bytes = sum(kind.itemsize for kind in fields.values())
        membership = screen.membership if batches is None else batches.beside(screen.membership)
        n_batches = 0 if batches is None else len(batches.names)
        plan = plan_genes(
            comparison.source,
            screen,
            output=comparison.output,
            bytes_per_result=4 * tile_bytes + BYTES_PER_BATCH * n_batches,
            bytes_per_value=BYTES_PER_GROUPED + (BYTES_PER_COPY if batches else 0),
            memory_limit_gb=running.memory_limit_gb,
            width=running.width,
        )
        if batches is not None:
            _warn_about_batches(screen, batches, membership.sizes, self.min_cells_batch)
        store = comparison.store(fields, plan.width)
        stream = GeneStream(
            comparison.source,
            membership,
            scratch_dir=plan.scratch_dir,
            n_threads=comparison.n_threads,
            max_cells=running.cell_chunk_size,
            in_place=plan.in_place,
        )
        try:
            self.prepare(stream)
            run_units(
                store,
                stream.grouped,
                partial(
                    _tile,
                    method=self,
                    limits=comparison.limits,
                    n_batches=n_batches,
                    engine=comparison.engine,
                    n_threads=comparison.n_threads,
                ),
                resume=running.resume,
                label=self.name,
                show=running.show,
            )
            self.finish(stream, store)
            stream.close()  # its memory is not needed while the result is written
            notes = {"method": self.name, **self.parameters}
            if batches is not None:
                notes["batch_column"] = batches.column
            comparison.write(store, self.columns, notes)
        finally:
            stream.close()
            store.close()


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
    few = control.n_expressing + perturbed.n_expressing < limits.min_cells_expressed
    untested = ~tested_pairs(control, perturbed, limits.thresholds, engine)
    untested |= perturbed.n_cells < limits.min_cells_pert
    for mask, value, p in ((few, 0.0, 1.0), (untested, np.nan, np.nan)):
        if mask.any():
            for name, table in tile.items():
                table[mask] = p if name == "pvalue" else value
    tile["pts"] = perturbed.fraction_expressing
    tile["pts_rest"] = np.broadcast_to(control.fraction_expressing, perturbed.mean.shape)
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
            stacklevel=5,
        )
