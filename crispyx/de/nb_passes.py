"""The two passes of the negative binomial test over blocks of genes.

The first fits a dispersion for every gene, the second shrinks it to the trend and tests. Without a
trend there is only the second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from crispyx._jobs.results import Column
from crispyx._jobs.tiles import Rows
from crispyx._kernels.layout import CompressedBlock
from crispyx._run.threads import one_blas_thread
from crispyx._stats.dispersion import normalized_moments
from crispyx._stats.expression_filter import tested_pairs
from crispyx._stats.moments import Arm
from crispyx._stats.nb_likelihood import Counts
from crispyx.de.arguments import Rules
from crispyx.de.nb_cells import ScreenCells
from crispyx.de.nb_stages import (
    ALL_ZERO,
    FEW_EXPRESSING,
    UNTESTED,
    Estimators,
    GenewiseFit,
    Shrinkage,
    compared_block,
    final_fit,
    fit_shrinkage,
    genewise_fit,
)
from crispyx.de.nb_tests import Strata
from crispyx.settings import Engine

Tile = dict[str, np.ndarray]

GENEWISE: Mapping[str, np.dtype] = {name: np.dtype("f8") for name in ("dispersion", "base_mean")}
COLUMNS: Mapping[str, Column] = {
    "X": Column(np.float64, "logfoldchanges"),
    "logfoldchanges": Column(np.float64, "logfoldchanges"),
    "logfoldchange_raw": Column(np.float64, "logfoldchanges"),
    **{
        name: Column(np.float64, name)
        for name in (
            "logfoldchange_raw_ln",
            "z_score",
            "pvalue",
            "intercept",
            "standard_error",
            "standard_error_ln",
            "dispersion",
            "dispersion_raw",
            "dispersion_trend",
            "log_pvalue",
        )
    },
    **{name: Column(np.float32, name) for name in ("converged", "iterations", "pts", "pts_rest")},
    "status": Column(np.uint8, "status"),
}
FIELDS: Mapping[str, np.dtype] = {
    column.field: np.dtype(column.dtype) for column in COLUMNS.values()
}
FIT_FIELDS = {
    "logfoldchange_raw_ln": "log_fold_change",
    "z_score": "statistic",
    "pvalue": "pvalue",
    "log_pvalue": "log_pvalue",
    "intercept": "intercept",
    "standard_error_ln": "standard_error",
    "dispersion": "dispersion",
    "converged": "converged",
    "iterations": "iterations",
    "status": "status",
}


@dataclass(frozen=True)
class Passes:
    """What both passes know.

    Attributes
    ----------
    cells : ScreenCells
        Groups and size factors.
    chosen : Estimators
        The estimators.
    limits : Rules
        Filters.
    min_total_count : float
        Smallest total of a gene.
    in_log2 : bool
        Unit of the fold changes.
    engine, n_threads
        How to compute.
    """

    cells: ScreenCells
    chosen: Estimators
    limits: Rules
    min_total_count: float
    in_log2: bool
    engine: Engine
    n_threads: int

    @property
    def has_barrier(self) -> bool:
        """Whether all genewise dispersions are needed before the first test."""
        return self.chosen.dispersion is None and self.chosen.shrinks

    @property
    def n_fits(self) -> int:
        """Dispersions of a gene."""
        return len(self.chosen.fits(self.cells.table.n_groups))

    @property
    def _at_once(self) -> bool:
        """Whether all dispersions of a gene are fitted in one call."""
        return self.chosen.shares_dispersion or self.cells.together

    def _counts(self, block: CompressedBlock) -> Counts:
        """Return the block by group, made once as long as the same block is asked for."""
        kept = self._last.pop("block", None)  # taken out: the next one may need its memory
        if kept is None or kept[0] is not block:
            cells = self.cells
            kept = None
            kept = block, Counts.of_block(block, cells.membership, cells.table, self.n_threads)
        self._last["block"] = kept
        return kept[1]

    @cached_property
    def _last(self) -> dict[str, tuple[CompressedBlock, Counts]]:
        return {}

    def _arms(self, block: CompressedBlock, counts: Counts) -> Strata:
        """Return the block by group and batch; by group alone without batches."""
        if self.cells.batches is None:
            return Strata(counts)
        membership, table = self.cells.arms
        arms = Counts.of_block(block, membership, table, self.n_threads)
        return Strata(arms, len(self.cells.batches.names))

    def _genewise(self, counts: Counts) -> GenewiseFit:
        return genewise_fit(counts, self.chosen, self.engine, self.n_threads)

    def genewise(self, block: CompressedBlock) -> Tile:
        """Return the tile of the first pass (n_fits, n_genes)."""
        counts = self._counts(block)
        if self._at_once:
            fits = [self._genewise(self._arms(block, counts).counts)]
        else:

            def fit(_: slice, part: Counts, n_threads: int) -> GenewiseFit:
                return replace(self, n_threads=n_threads)._genewise(part)

            fits = self.cells.of_parts(counts, fit)
        return {name: np.concatenate([getattr(one, name) for one in fits]) for name in GENEWISE}

    def shrinkage(self, store: Rows) -> list[Shrinkage]:
        """Return trend and prior of every fit, from the tiles of the first pass."""
        table = self.cells.table if self.cells.batches is None else self.cells.arms[1]
        n_cells = table.n_cells
        found = []
        with one_blas_thread():
            for fit, groups in enumerate(self.chosen.fits(len(n_cells))):
                alpha, mean = (store.rows(name, fit, fit + 1) for name in GENEWISE)
                found += fit_shrinkage(GenewiseFit(alpha, mean), n_cells[groups], self.chosen)
        return found

    def tested(
        self,
        block: CompressedBlock,
        before: Mapping[str, np.ndarray] | None,
        shrinkage: list[Shrinkage],
    ) -> Tile:
        """Return the tile of the second pass (n_perturbations, n_genes).

        Parameters
        ----------
        block : CompressedBlock
            The genes.
        before : mapping or None
            The tile of the first pass, if there was one.
        shrinkage : list of Shrinkage
            Of every fit.
        """
        counts = self._counts(block)
        shape = counts.table.n_groups - 1, counts.n_genes
        tile = {name: np.empty(shape, dtype=kind) for name, kind in FIELDS.items()}
        kept = None
        if before is not None:
            kept = GenewiseFit(*(np.ascontiguousarray(before[name]) for name in GENEWISE))
        fitted = None
        strata = self._arms(block, counts)
        if self._at_once:
            fitted = self._fitted(strata.counts, kept, shrinkage)
        too_few = _totals_below(counts, self.min_total_count)
        within = None if self.cells.batches is None else strata

        def test(rows: slice, part: Counts, n_threads: int) -> None:
            passes = replace(self, n_threads=n_threads)
            own = shrinkage if self.chosen.shares_dispersion else shrinkage[rows]
            if fitted is None:
                of_part = None if kept is None else _rows_of(kept, rows)
                dispersions = passes._fitted(part, of_part, own)
            else:
                dispersions = {name: np.broadcast_to(t, shape)[rows] for name, t in fitted.items()}
            for name, table in passes._test(part, dispersions, too_few, own, within).items():
                tile[name][rows] = table

        self.cells.of_parts(counts, test)
        return tile

    def _fitted(
        self, counts: Counts, genewise: GenewiseFit | None, shrinkage: list[Shrinkage]
    ) -> Tile:
        """Return genewise dispersions, trend and the ones to test with (n_fits, n_genes)."""
        if genewise is None:
            genewise = self._genewise(counts)
        final, trend = final_fit(
            counts, genewise, shrinkage, self.chosen, self.engine, self.n_threads
        )
        return {
            "dispersion": final,
            "dispersion_raw": genewise.dispersion,
            "dispersion_trend": trend,
        }

    def _test(
        self,
        counts: Counts,
        dispersions: Tile,
        too_few: np.ndarray,
        shrinkage: list[Shrinkage],
        strata: Strata | None,
    ) -> Tile:
        """Test the perturbations of a part; ``reference.nb_glm`` has the order of the cases."""
        control, perturbed = _arms(counts, self.engine, self.n_threads)
        n_expressing = control.n_expressing + perturbed.n_expressing
        untested = ~tested_pairs(
            control, perturbed, self.limits.thresholds, self.engine, self.n_threads
        )
        untested |= perturbed.n_cells < self.limits.min_cells_pert
        untested |= too_few
        absent = ~untested & (n_expressing == 0)
        few = ~untested & ~absent & (n_expressing < self.limits.min_cells_expressed)
        left_out = untested | absent | few
        alpha = np.where(left_out, np.nan, dispersions["dispersion"])
        found = compared_block(
            counts,
            alpha,
            shrinkage,
            self.chosen,
            self.engine,
            self.n_threads,
            strata,
            self.cells.adjustment,
        )
        found["dispersion"] = np.where(left_out, dispersions["dispersion"], found["dispersion"])
        for name, table in found.items():
            if name != "dispersion":
                table[few] = {"pvalue": 1, "converged": 1, "status": FEW_EXPRESSING}.get(name, 0)
        found["status"][untested], found["status"][absent] = UNTESTED, ALL_ZERO
        unit = math.log(2) if self.in_log2 else 1.0
        tile = {name: found[field] for name, field in FIT_FIELDS.items()}
        tile["logfoldchanges"] = found["log_fold_change"] / unit
        tile["standard_error"] = found["standard_error"] / unit
        tile["dispersion_raw"] = dispersions["dispersion_raw"]
        tile["dispersion_trend"] = dispersions["dispersion_trend"]
        tile["pts"] = perturbed.fraction_expressing
        tile["pts_rest"] = control.fraction_expressing
        return tile


def _rows_of(genewise: GenewiseFit, rows: slice) -> GenewiseFit:
    return GenewiseFit(*(getattr(genewise, name)[rows] for name in GENEWISE))


def _totals_below(counts: Counts, limit: float) -> np.ndarray:
    """Return which genes have counts that add up to less (n_genes,) bool; none is below 1."""
    starts, stops = counts.run_ptr[:, 0], counts.run_ptr[:, -1]
    below = stops - starts < limit
    for g in np.flatnonzero(below).tolist():
        below[g] = counts.values[starts[g] : stops[g]].sum(dtype=np.float64) < limit
    return below


def _arms(counts: Counts, engine: Engine, n_threads: int) -> tuple[Arm, Arm]:
    """Return means of normalized counts and expressing cells of both arms."""
    means = normalized_moments(counts, engine, n_threads).mean
    n_expressing = np.diff(counts.run_ptr, axis=1).T
    groups = Arm(means, np.full(means.shape, np.nan), n_expressing, counts.table.n_cells[:, None])
    return groups.rows(slice(0, 1)), groups.rows(slice(1, None))
