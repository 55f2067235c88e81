"""The negative binomial test of a screen, from the opened source to the written result."""

from __future__ import annotations

import logging
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import psutil

from crispyx._io.genes import GeneStream
from crispyx._io.source import MatrixSource
from crispyx._jobs.block_work import Work
from crispyx._jobs.covariates import Covariates, read_covariates
from crispyx._jobs.driver import run_units
from crispyx._jobs.plan import BLOCK_VALUES, Plan, plan_genes
from crispyx._jobs.screen import REST, Screen
from crispyx._jobs.tiles import HeldTile, Rows, TileStore
from crispyx._kernels.layout import CompressedBlock, Membership
from crispyx._run.budget import working_memory
from crispyx._run.quiet import leaving_out
from crispyx._run.sampling import Sampler
from crispyx._stats.dispersion import largest_dispersion
from crispyx.de.comparison import Comparison, Method
from crispyx.de.nb_cells import chosen_genes, require_size_factors, screen_cells
from crispyx.de.nb_choices import Choices
from crispyx.de.nb_passes import COLUMNS, FIELDS, GENEWISE, Passes, Tile
from crispyx.de.nb_shrinkage import SHRUNK_COLUMNS, SHRUNK_FIELDS
from crispyx.de.nb_stages import (
    ALL_ZERO,
    CONFOUNDED,
    FEW_EXPRESSING,
    NOT_CONVERGED,
    UNTESTED,
)
from crispyx.de.nb_tests import WITHIN_BATCHES
from crispyx.de.nb_work import NegativeBinomialWork
from crispyx.errors import CrispyxWarning, InputError

BYTES_PER_VALUE = 40  # a non-zero of a block: read, grouped with its rank, once more for a pair
BYTES_PER_PAIR = 500  # of one gene and one perturbation: fits, sums, and tiles that wait
WIDE_TILE = 128_000_000  # bytes of a block of comparisons that are fitted one at a time
TILE = 32_000_000  # and of those that are fitted together
LEAST_WIDTH = 128
DENSE_BYTES = 32  # of a cell and gene: count, mean, weight and working response
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
        Genes whose dense tables would take the memory of a block.
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
    looks = True
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
        """Refuse a pooled control, and covariates and size factors that cannot be used."""
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
        with leaving_out(CrispyxWarning):  # it warns when they are used
            self._covariates(source, screen)

    def _refuse_control_genes_in_vain(self) -> None:
        if self.size_factors is not None:
            raise InputError("size_factors= is given and control_genes= would estimate them")
        if self.choices.size_factor_scope == "per_comparison":
            raise InputError(
                "control_genes= needs size_factor_scope='global'; it is 'per_comparison'"
            )

    def recordable(self) -> NegativeBinomialTest:
        """Return the test as another process is told of it."""
        if self.size_factors is None:
            return self
        return replace(self, size_factors=np.asarray(self.size_factors, dtype=np.float64))

    def membership(self, comparison: Comparison) -> Membership:
        """Return the perturbations."""
        return comparison.screen.membership

    def work(self, comparison: Comparison, stream: GeneStream, plan: Plan) -> NegativeBinomialWork:
        """Estimate size factors, and return what is computed of each block."""
        source, screen = comparison.source, comparison.screen
        covariates = self._covariates(source, screen)
        stream.summarize()
        source.require_counts(stream.summary, "nb_glm_test")
        given = genes = None
        if self.size_factors is not None:
            given = np.asarray(self.size_factors, dtype=np.float64)
        if self.control_genes is not None:
            genes = chosen_genes(self.control_genes, screen.genes, source.where)
        cells = screen_cells(
            comparison, stream, plan, self.choices, given, genes, self.shares_control, covariates
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
        return NegativeBinomialWork(
            passes, self.shrinks_effects, self.choices.literal, comparison.shape
        )

    def _covariates(self, source: MatrixSource, screen: Screen) -> Covariates | None:
        covariates = read_covariates(
            source, self.covariates, screen.perturbation_column, screen.membership.used_cells
        )
        within = self.choices.test in WITHIN_BATCHES
        if covariates is not None and covariates.numbers.shape[1] and within:
            raise InputError(
                f"test={self.choices.test!r} compares within categories: covariates of numbers "
                "need test='wald' or 'lrt', or categories made of them"
            )
        return covariates

    def run(self, comparison: Comparison) -> None:
        """Pass over the genes twice, or once without a trend, and write the result."""
        plan, running = self.plan(comparison), comparison.running
        profile = _Profile.begun() if self.profiles else None
        stream = GeneStream(
            comparison.source,
            comparison.screen.membership,
            scratch_dir=plan.scratch_dir,
            n_threads=comparison.n_threads,
            max_values=plan.read_values,
        )
        final = comparison.store(FIELDS, plan.width, part="fits" if self.shrinks_effects else "")
        first = shrunk = None
        try:
            work = self.work(comparison, stream, plan)
            passes = work.estimation
            drive = partial(run_units, resume=running.resume, show=running.show)
            if not running.resume:
                final.remove()
            shrinkage = None
            # What one block leaves is computed again sooner than read back.
            in_one = plan.width >= comparison.shape[1] and running.checkpoint_interval is None
            if passes.has_barrier:
                first = comparison.store(
                    GENEWISE,
                    plan.width,
                    part="genewise",
                    n_rows=passes.n_fits,
                    kind=HeldTile if in_one and not running.resume else TileStore,
                )
                if not (running.resume and final.is_complete()):
                    label = f"{self.name}: dispersions"
                    drive(first, stream.repeated, passes.genewise, label=label)
                    first.settle()
                    shrinkage = passes.shrinkage(first)

            def test(block: CompressedBlock) -> Tile:
                return work.tested(block, _columns(first, GENEWISE, block), shrinkage)

            drive(final, stream.repeated, test, label=self.name)
            final.settle()
            if first is not None:
                first.remove()
            if not self.shrinks_effects:
                self.complete(comparison, stream, final, work, profile=profile)
                return
            scale = work.prior_scales(final, running.memory_limit_gb)
            shrunk = comparison.store(SHRUNK_FIELDS, plan.width)
            if not running.resume:
                shrunk.remove()

            def shrink(block: CompressedBlock) -> Tile:
                columns = _columns(final, FIELDS, block)
                assert columns is not None  # of the pass before
                return work.shrunk(block, columns, scale)

            drive(shrunk, stream.repeated, shrink, label=f"{self.name}: shrinkage")
            self.complete(comparison, stream, shrunk, work, final, scale, profile=profile)
            final.remove()
        finally:
            if profile is not None:
                profile.sampler.stop()
            stream.close()
            final.close()
            for store in (first, shrunk):
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
        *,
        profile: _Profile | None = None,
    ) -> None:
        """Warn about what only the whole shows, and write the result."""
        assert isinstance(work, NegativeBinomialWork)
        fits = before if self.shrinks_effects and before is not None else store
        passes = work.estimation
        _warn(fits, comparison.screen, passes, self.choices)
        if self.logs:
            _log_perturbations(fits, comparison.screen)
        notes = self._notes(comparison, passes.cells.size_factors)
        notes["profiling"] = "NA" if profile is None else profile.facts()
        if not self.shrinks_effects:
            comparison.write(store, self.columns, notes)
            return
        notes |= {
            "lfc_shrinkage_type": "apeglm",
            "shrinkage_method": "full",
            "prior_scale_mode": work.prior_mode,
            "prior_scale": barrier,
        }
        comparison.write(store, SHRUNK_COLUMNS, notes)

    def plan(self, comparison: Comparison) -> Plan:
        """Choose the sizes of the work."""
        n_groups, n_genes = comparison.shape
        running, width = comparison.running, comparison.running.width
        room = self.dense_fraction * working_memory(running.memory_limit_gb)
        per_gene = BYTES_PER_PAIR * n_groups
        most = max(1, int(room // per_gene))
        apart = not self.shares_control or (
            self.size_factors is None and self.choices.size_factor_scope == "per_comparison"
        )
        if width is None:
            width = max(LEAST_WIDTH, (WIDE_TILE if apart else TILE) // per_gene)
            if not apart:
                stored = max(1, comparison.source.storage.n_stored)
                width = min(width, max(1, BLOCK_VALUES * n_genes // stored))
        if self.genes_at_a_time is not None:
            dense = DENSE_BYTES * comparison.source.shape[0] * self.genes_at_a_time
            width = min(width, max(1, dense // per_gene))
        return plan_genes(
            comparison.source,
            comparison.screen,
            output=comparison.output,
            bytes_per_result=BYTES_PER_PAIR,
            bytes_per_value=BYTES_PER_VALUE,
            memory_limit_gb=running.memory_limit_gb,
            width=min(width, most, n_genes),
            n_threads=comparison.n_threads,
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


def _columns(store: TileStore | None, fields: Iterable[str], block: CompressedBlock) -> Tile | None:
    """Return what an earlier pass found for the genes of a block, if there was one."""
    if store is None:
        return None
    return {name: store.columns(name, block.start, block.stop) for name in fields}


@dataclass(frozen=True)
class _Profile:
    """Time and memory of a run."""

    began: float
    sampler: Sampler

    @classmethod
    def begun(cls) -> _Profile:
        """Measure from now on."""
        memory = psutil.Process().memory_info
        profile = cls(time.perf_counter(), Sampler(lambda: memory().rss, _SAMPLING_SECONDS))
        profile.sampler.start()
        return profile

    def facts(self) -> dict[str, Any]:
        """Return what was measured until now."""
        self.sampler.stop()
        return {
            "fit_seconds": time.perf_counter() - self.began,
            "fit_peak_memory_mb": max(value for _, value in self.sampler.readings) / 1e6,
            "profiling_enabled": True,
        }


def _tested(store: Rows, group: int) -> np.ndarray:
    """Return the genes of a perturbation that were fitted (n_genes,) bool."""
    status = store.rows("status", group, group + 1)[0]
    return ~np.isin(status, (UNTESTED, FEW_EXPRESSING, ALL_ZERO, CONFOUNDED))


def _log_perturbations(store: Rows, screen: Screen) -> None:
    for k, label in enumerate(screen.groups):
        _log.debug("%s: %d genes tested", label, np.count_nonzero(_tested(store, k)))


def _warn(store: Rows, screen: Screen, passes: Passes, choices: Choices) -> None:
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
