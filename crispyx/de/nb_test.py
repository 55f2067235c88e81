"""The negative binomial test of a screen, from the opened source to the written result."""

from __future__ import annotations

import logging
import time
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import psutil

from crispyx._io.genes import GeneStream
from crispyx._io.source import MatrixSource
from crispyx._jobs.covariates import read_covariates
from crispyx._jobs.driver import run_units
from crispyx._jobs.plan import MAX_WIDTH, Plan, plan_genes
from crispyx._jobs.screen import REST, Screen
from crispyx._jobs.tiles import TileStore
from crispyx._kernels.layout import CompressedBlock
from crispyx._run.budget import working_memory
from crispyx._run.sampling import Sampler
from crispyx._stats.apeglm import Searching
from crispyx._stats.dispersion import largest_dispersion
from crispyx.de.comparison import Comparison, Method
from crispyx.de.nb_cells import chosen_genes, require_size_factors, screen_cells
from crispyx.de.nb_choices import Choices
from crispyx.de.nb_passes import COLUMNS, FIELDS, GENEWISE, Passes, Tile
from crispyx.de.nb_shrinkage import SHRUNK_COLUMNS, SHRUNK_FIELDS, Shrinking, prior_scales
from crispyx.de.nb_stages import (
    ALL_ZERO,
    CONFOUNDED,
    FEW_EXPRESSING,
    NOT_CONVERGED,
    UNTESTED,
    Shrinkage,
)
from crispyx.errors import CrispyxWarning, InputError

BYTES_PER_VALUE = 40  # a non-zero of a block: read, grouped with its rank, once more for a pair
BYTES_PER_PAIR = 500  # of one gene and one perturbation: fits, sums, and tiles that wait
WIDE_TILE = 128_000_000  # bytes of a block of comparisons that are fitted one at a time
STATUS = (
    "tested",
    "untested",
    "few_expressing",
    "all_zero",
    "silent_arm",
    "not_converged",
    "confounded",
)
CAPPED_SHARE = 0.25  # of the tested genes, from which a cap is worth a warning
_SAMPLING_SECONDS = 0.02
_log = logging.getLogger("crispyx.de")


@dataclass(frozen=True)
class NegativeBinomialTest(Method):
    """The folded arguments of :func:`crispyx.de.nb_glm_test`.

    Attributes
    ----------
    choices : Choices
        Estimators.
    preset : str or None
        What was asked for.
    size_factors : array_like (n_cells,) or None
        The caller's.
    control_genes : tuple of str or None
        Genes to estimate them from.
    covariates : tuple of str
        obs columns to fit beside.
    min_total_count : float
        Smallest total of a gene.
    in_log2 : bool
        Unit of the fold changes.
    shares_control : bool
        Make the control's sums once for all perturbations.
    genes_at_a_time : int or None
        Genes fitted at a time.
    dense_fraction : float
        Share of the memory for the tables of a block.
    shrinks_effects : bool
        Shrink the fold changes in a third pass.
    profiles, logs : bool
        Note time and memory; log every perturbation.
    """

    choices: Choices
    preset: str | None
    size_factors: Any
    control_genes: tuple[str, ...] | None
    covariates: tuple[str, ...]
    min_total_count: float
    in_log2: bool
    shares_control: bool
    genes_at_a_time: int | None
    dense_fraction: float
    shrinks_effects: bool
    profiles: bool
    logs: bool
    name = "nb_glm"
    columns = COLUMNS

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Everything that changes a number."""
        given = None
        if self.size_factors is not None:
            given = zlib.crc32(np.ascontiguousarray(self.size_factors, dtype=np.float64).data)
        return {
            **asdict(self.choices),
            "size_factors": given,
            "control_genes": self.control_genes,
            "covariates": self.covariates,
            "min_total_count": self.min_total_count,
            "lfc_base": "log2" if self.in_log2 else "ln",
            "lfc_shrinkage_type": "apeglm" if self.shrinks_effects else "none",
            "profiling": self.profiles,
        }

    def check(self, source: MatrixSource, screen: Screen) -> None:
        """Refuse a pooled control and size factors that cannot be used."""
        if screen.membership.pooled:
            raise InputError(
                "nb_glm_test fits the control's mean once for all perturbations, and "
                f"reference={REST!r} has another control for each: name a control label, or take "
                "wilcoxon_test or t_test"
            )
        if self.size_factors is not None:
            require_size_factors(self.size_factors, source, screen.membership.used_cells)
        if self.control_genes is not None:
            self._refuse_control_genes_in_vain()
            chosen_genes(self.control_genes, screen.genes, source.where)

    def _refuse_control_genes_in_vain(self) -> None:
        if self.size_factors is not None:
            raise InputError("size_factors= is given and control_genes= would estimate them")
        if self.choices.size_factor_scope == "per_comparison":
            raise InputError(
                "control_genes= needs size_factor_scope='global'; it is 'per_comparison'"
            )

    def run(self, comparison: Comparison) -> None:
        """Pass over the genes twice, or once without a trend, and write the result."""
        began = time.perf_counter()
        memory = psutil.Process().memory_info
        sampler = Sampler(lambda: memory().rss, _SAMPLING_SECONDS)
        if self.profiles:
            sampler.start()
        try:
            self._run(comparison, began, sampler)
        finally:
            sampler.stop()

    def _run(self, comparison: Comparison, began: float, sampler: Sampler) -> None:
        source, running, screen = comparison.source, comparison.running, comparison.screen
        covariates = read_covariates(
            source, self.covariates, screen.perturbation_column, screen.membership.used_cells
        )
        if covariates is not None and covariates.numbers.shape[1] and self.choices.test != "wald":
            raise InputError(
                f"test={self.choices.test!r} compares within categories: covariates of numbers "
                "need test='wald', or categories made of them"
            )
        plan = self._plan(comparison)
        stream = GeneStream(
            source,
            comparison.screen.membership,
            scratch_dir=plan.scratch_dir,
            n_threads=comparison.n_threads,
        )
        final = comparison.store(FIELDS, plan.width, part="fits" if self.shrinks_effects else "")
        first = shrunk = None
        try:
            stream.summarize()
            source.require_counts(stream.summary, "nb_glm_test")
            given = None
            if self.size_factors is not None:
                given = np.asarray(self.size_factors, dtype=np.float64)
            genes = None
            if self.control_genes is not None:
                genes = chosen_genes(self.control_genes, comparison.screen.genes, source.where)
            cells = screen_cells(
                comparison,
                stream,
                plan,
                self.choices,
                given,
                genes,
                self.shares_control,
                covariates,
            )
            passes = Passes(
                cells,
                self.choices.estimators(),
                comparison.limits,
                self.min_total_count,
                self.in_log2,
                comparison.engine,
                comparison.n_threads,
            )
            drive = partial(run_units, resume=running.resume, show=running.show)
            if not running.resume:
                final.remove()
            shrinkage: list[Shrinkage] = [Shrinkage(None, None)] * passes.n_fits
            if passes.has_barrier and not (running.resume and final.is_complete()):
                first = comparison.store(
                    GENEWISE, plan.width, part="genewise", n_rows=passes.n_fits
                )
                drive(first, stream.blocks, passes.genewise, label=f"{self.name}: dispersions")
                first.save()
                shrinkage = passes.shrinkage(first)
            test = partial(passes.tested, store=first, shrinkage=shrinkage)
            drive(final, stream.blocks, test, label=self.name)
            final.save()
            if first is not None:
                first.remove()
            _warn(final, screen, passes, self.choices)
            if self.logs:
                _log_perturbations(final, comparison.screen)
            notes = self._notes(comparison, cells.size_factors)
            notes["profiling"] = _profile(began, sampler) if self.profiles else "NA"
            if self.shrinks_effects:
                shrunk = comparison.store(SHRUNK_FIELDS, plan.width)
                if not running.resume:
                    shrunk.remove()
                notes |= self._shrink(comparison, stream, passes, final, shrunk)
                comparison.write(shrunk, SHRUNK_COLUMNS, notes)
                final.remove()
            else:
                comparison.write(final, self.columns, notes)
        finally:
            stream.close()
            final.close()
            for store in (first, shrunk):
                if store is not None:
                    store.close()

    def _shrink(
        self,
        comparison: Comparison,
        stream: GeneStream,
        passes: Passes,
        fits: TileStore,
        shrunk: TileStore,
    ) -> dict[str, Any]:
        """Make the tiles of the third pass; return what the result notes of it."""
        mode = "per_comparison" if self.choices.literal else "global"
        running = comparison.running
        scale = prior_scales(
            lambda name, k: fits.rows(name, k, k + 1)[0],
            comparison.shape,
            mode,
            running.memory_limit_gb,
        )
        shrinking = Shrinking(
            scale,
            self.in_log2,
            comparison.engine,
            comparison.n_threads,
            Searching(literal=self.choices.literal),
            passes.cells,
        )

        def shrink(block: CompressedBlock) -> Tile:
            columns = {name: fits.columns(name, block.start, block.stop) for name in FIELDS}
            return shrinking.of_counts(columns, block)

        label = f"{self.name}: shrinkage"
        run_units(
            shrunk, stream.blocks, shrink, resume=running.resume, label=label, show=running.show
        )
        return {
            "lfc_shrinkage_type": "apeglm",
            "shrinkage_method": "full",
            "prior_scale_mode": mode,
            "prior_scale": scale,
        }

    def _plan(self, comparison: Comparison) -> Plan:
        n_groups, n_genes = comparison.shape
        running, width = comparison.running, comparison.running.width
        room = self.dense_fraction * working_memory(running.memory_limit_gb)
        most = max(1, int(room // (BYTES_PER_PAIR * n_groups)))
        apart = not self.shares_control or (
            self.size_factors is None and self.choices.size_factor_scope == "per_comparison"
        )
        if width is None and apart:
            width = max(MAX_WIDTH, WIDE_TILE // (BYTES_PER_PAIR * n_groups))
        if self.genes_at_a_time is not None and not apart:
            width = min(width or MAX_WIDTH, self.genes_at_a_time)
        return plan_genes(
            comparison.source,
            comparison.screen,
            output=comparison.output,
            bytes_per_result=BYTES_PER_PAIR,
            bytes_per_value=BYTES_PER_VALUE,
            memory_limit_gb=running.memory_limit_gb,
            width=min(width or MAX_WIDTH, most, n_genes),
        )

    def _notes(self, comparison: Comparison, size_factors: np.ndarray) -> dict[str, Any]:
        choices, limits = self.choices, comparison.limits
        source = comparison.source
        return {
            "method": self.name,
            "preset": self.preset or "none",
            "lfc_base": "log2" if self.in_log2 else "ln",
            "fit_method": choices.optimization_method,
            "covariates": np.array(self.covariates, dtype=object),
            "size_factors": size_factors,
            "original_dataset_path": str(source.path) if source.path else "NA",
            "original_element": source.element,
            "size_factor_method": (
                choices.size_factor_method if self.size_factors is None else "given"
            ),
            "size_factor_scope": choices.size_factor_scope,
            "scale_size_factors": choices.scale_size_factors,
            "dispersion_scope": "global" if choices.shares_dispersion else "per_comparison",
            "min_mu": choices.clamp,
            "se_method": choices.se_method,
            "test": choices.test,
            "batch_column": comparison.batches.column if comparison.batches else "none",
            "de_filter": {
                **asdict(limits.thresholds),
                "min_cells_expressed": limits.min_cells_expressed,
                "min_cells_pert": limits.min_cells_pert,
                "min_total_count": self.min_total_count,
            },
            "status_names": np.array(STATUS, dtype=object),
        }


def _profile(began: float, sampler: Sampler) -> dict[str, Any]:
    sampler.stop()
    return {
        "fit_seconds": time.perf_counter() - began,
        "fit_peak_memory_mb": max(value for _, value in sampler.readings) / 1e6,
        "profiling_enabled": True,
    }


def _tested(store: TileStore, group: int) -> np.ndarray:
    """Return the genes of a perturbation that were fitted (n_genes,) bool."""
    status = store.rows("status", group, group + 1)[0]
    return ~np.isin(status, (UNTESTED, FEW_EXPRESSING, ALL_ZERO, CONFOUNDED))


def _log_perturbations(store: TileStore, screen: Screen) -> None:
    for k, label in enumerate(screen.groups):
        _log.debug("%s: %d genes tested", label, np.count_nonzero(_tested(store, k)))


def _warn(store: TileStore, screen: Screen, passes: Passes, choices: Choices) -> None:
    """Warn about what only the whole result shows."""
    n_cells = passes.cells.table.n_cells
    low, bound, tested = np.zeros((3, store.n_genes), dtype=bool)
    n_unfinished, confounded = 0, []
    for k in range(store.n_groups):

        def row(name: str, k: int = k) -> np.ndarray:
            return store.rows(name, k, k + 1)[0]

        fitted = _tested(store, k)
        tested |= fitted
        if not fitted.any() and (row("status") == CONFOUNDED).any():
            confounded.append(k)
        n_unfinished += int(np.count_nonzero(row("status") == NOT_CONVERGED))
        cells = n_cells.sum() if choices.shares_dispersion else n_cells[0] + n_cells[k + 1]
        if choices.dispersion is None:
            most = min(largest_dispersion(int(cells)), choices.largest)
            bound |= fitted & (row("dispersion") >= (1 - 1e-6) * most)
        if choices.clamp > 0:
            below = np.minimum(row("logfoldchange_raw_ln"), 0) + row("intercept")
            low |= fitted & (below < np.log(choices.clamp))
    say: Callable[[str], None] = partial(warnings.warn, category=CrispyxWarning, stacklevel=6)
    if confounded:
        shown = ", ".join(repr(screen.groups[k]) for k in confounded[:5])
        more = f" and {len(confounded) - 5} more" if len(confounded) > 5 else ""
        say(
            f"{len(confounded)} perturbations cannot be told from the covariates and are not "
            f"tested (status 'confounded'): {shown}{more}; they need cells in categories of the "
            "control"
        )
    if low.any():
        say(
            f"{low.sum()} of {tested.sum()} tested genes have a fitted mean below "
            f"min_mu={choices.clamp:g} in an arm: with optimization_method='irls' their fold "
            "changes are drawn towards 0 and follow differences of depth between the arms; "
            "pass optimization_method='lbfgsb' (the default) or min_mu=0 for the maximum of the "
            "likelihood"
        )
    if np.isfinite(choices.largest):
        if bound.sum() > CAPPED_SHARE * tested.sum():
            say(
                f"{bound.sum()} of {tested.sum()} tested genes have a dispersion at its cap of "
                f"{choices.largest:g}: the counts scatter more than the model allows, as after "
                "amplification, or they are very few. The score test divides by the scatter it "
                "finds; standard errors do not"
            )
    elif bound.any():
        say(
            f"{bound.sum()} of {tested.sum()} tested genes have a dispersion at its upper bound, "
            "the larger of 10 and the number of cells: their counts hardly tell a dispersion, and "
            "their tests have little power; more cells, or min_mean_ctrl= and min_pct_ctrl=, help"
        )
    if n_unfinished:
        say(
            f"{n_unfinished} fits did not meet tol={choices.tol:g} within "
            f"max_iter={choices.max_iter} steps (layer 'converged' is 0, status 'not_converged'); "
            "raise max_iter="
        )
