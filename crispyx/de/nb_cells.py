"""The cells of a screen with their size factors, for all perturbations or for each comparison."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from crispyx._io.genes import GeneStream
from crispyx._io.source import MatrixSource
from crispyx._jobs.batches import Batches
from crispyx._jobs.comparison_size_factors import (
    ComparisonSizeFactors,
    stream_comparison_size_factors,
)
from crispyx._jobs.covariates import Covariates
from crispyx._jobs.plan import Plan
from crispyx._jobs.size_factors import stream_size_factors
from crispyx._kernels.layout import Membership
from crispyx._run.workers import in_parallel
from crispyx._stats.covariates import by_rank
from crispyx._stats.nb_likelihood import CellTable, Counts, cell_table, grouped_cells
from crispyx.de.comparison import Comparison
from crispyx.de.nb_choices import Choices
from crispyx.de.nb_stages import Adjustment
from crispyx.errors import CrispyxWarning, InputError

Result = TypeVar("Result")


@dataclass(frozen=True)
class ScreenCells:
    """Groups of the cells and their size factors.

    Attributes
    ----------
    membership : Membership
        Groups of the cells; those without a size factor are in none.
    table : CellTable
        All groups, at the size factors that all comparisons share; at 1 where each has its own.
    own : ComparisonSizeFactors or None
        Size factors of each comparison.
    together : bool
        The sums over the control's cells are made once for all perturbations.
    size_factors : numpy.ndarray (n_cells,) float64
        One for each cell: shared, or of its own comparison; NaN where there is no such one.
    n_threads : int
        Threads of the kernels.
    batches : Batches or None
        For a test within them, or the strata of covariates; cells without one are in no group.
    covariates : Covariates or None
        What fold changes are fitted beside.
    """

    membership: Membership
    table: CellTable
    own: ComparisonSizeFactors | None
    together: bool
    size_factors: np.ndarray
    n_threads: int
    batches: Batches | None = None
    covariates: Covariates | None = None

    @cached_property
    def adjustment(self) -> Adjustment | None:
        """Covariates as the stages take them."""
        if self.covariates is None:
            return None
        membership, table = self.arms
        return Adjustment(
            self.covariates.strata, by_rank(table, membership, self.covariates.numbers)
        )

    @cached_property
    def arms(self) -> tuple[Membership, CellTable]:
        """Every group within every batch, and its cells."""
        assert self.batches is not None
        split = self.batches.split(self.membership)
        return split, grouped_cells(self.size_factors, split, self.n_threads)

    def of_parts(
        self, counts: Counts, work: Callable[[slice, Counts, int], Result]
    ) -> list[Result]:
        """Return what is done with the perturbations of a block that are fitted at a time.

        Where those are more than threads, each is the work of one thread.

        Parameters
        ----------
        counts : Counts
            The block.
        work : callable
            Takes the rows of the perturbations, the counts of them and the control, and threads.
        """
        n_parts = counts.table.n_groups - 1
        if self.together:
            return [work(slice(0, n_parts), counts, self.n_threads)]
        n_threads = 1 if n_parts >= self.n_threads else self.n_threads

        def part(k: int) -> Result:
            pair = counts.pair(k, self._pair_table(k, n_threads), n_threads)
            return work(slice(k - 1, k), pair, n_threads)

        return in_parallel(part, range(1, n_parts + 1), self.n_threads // n_threads)

    def _pair_table(self, k: int, n_threads: int) -> CellTable:
        if self.own is None:
            return self.table.pair(k)
        arms = []
        for group, s in ((0, self.own.control[k - 1]), (k, self.own.perturbed[k - 1])):
            arm = np.empty(len(s))
            arm[self._ranks[self.table.cell_ptr[group] : self.table.cell_ptr[group + 1]]] = s
            arms.append(arm)
        cell_ptr = np.concatenate([[0], np.cumsum([len(arm) for arm in arms])])
        return cell_table(np.concatenate(arms), cell_ptr, n_threads)

    @cached_property
    def _ranks(self) -> np.ndarray:
        """Rank of each cell in its group, group after group in the order of the cells."""
        return self.table.rank[np.argsort(self.membership.groups, kind="stable")]


def require_size_factors(values: Any, source: MatrixSource, used_cells: np.ndarray) -> None:
    """Check the caller's size factors.

    Raises
    ------
    InputError
        Another number of them, or one that is not above 0 and finite; the message names the cell.
    """
    try:
        s = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"size_factors cannot be read as numbers ({error})") from error
    n_cells = source.shape[0]
    if s.shape != (n_cells,):
        raise InputError(
            f"size_factors has shape {s.shape}; give one number for each of the {n_cells} cells of "
            f"{source.where}"
        )
    bad = used_cells & ~(np.isfinite(s) & (s > 0))
    if bad.any():
        cell = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"size_factors is {s[cell]:g} at cell {source.obs.index[cell]!r} (row {cell}); size "
            "factors are finite and above 0"
        )


def chosen_genes(names: tuple[str, ...], genes: np.ndarray, where: str) -> np.ndarray:
    """Return which genes (n_genes,) bool are among the named ones.

    Raises
    ------
    InputError
        No name, or one that is no gene of the file.
    """
    known = {str(name) for name in genes}
    unknown = [name for name in names if str(name) not in known]
    if unknown or not names:
        raise InputError(
            f"control_genes names {unknown[0]!r}, which is no gene of {where}"
            if unknown
            else "control_genes is empty; name genes, or leave it out"
        )
    return np.isin(np.asarray(genes, dtype=str), np.asarray(names, dtype=str))


def screen_cells(
    comparison: Comparison,
    stream: GeneStream,
    plan: Plan,
    choices: Choices,
    given: np.ndarray | None,
    control_genes: np.ndarray | None,
    shares_control: bool,
    covariates: Covariates | None = None,
) -> ScreenCells:
    """Estimate size factors, or take those given, and lay the cells out by them.

    Parameters
    ----------
    comparison : Comparison
        The screen.
    stream : GeneStream
        Its counts, all of them seen.
    plan : Plan
        Where a CSC matrix may be turned around.
    choices : Choices
        Estimator of the size factors, and whether dispersions are shared.
    given : numpy.ndarray (n_cells,) float64 or None
        The caller's size factors, or those of an earlier run, NaN for cells that it left out.
    control_genes : numpy.ndarray (n_genes,) bool or None
        Genes to estimate size factors from.
    shares_control : bool
        Make the control's sums once for all perturbations where they are the same.
    covariates : Covariates or None
        Their strata take the place of batches.
    """
    source, membership = comparison.source, comparison.screen.membership
    batches = comparison.batches if covariates is None else covariates.batches
    if batches is not None:
        membership = membership_of_cells(membership, batches.of_cell >= 0)
    n_threads = comparison.n_threads
    how: dict[str, Any] = {
        "scale": choices.scale_size_factors,
        "scratch_dir": plan.scratch_dir,
        "engine": comparison.engine,
        "n_threads": n_threads,
    }
    shared, own = given, None
    if given is not None:
        membership = membership_of_cells(membership, np.isfinite(given))
    else:
        expressing = stream.summary.library_sizes > 0
        membership = _without(source, membership, ~expressing, "no count at all")
        apart = choices.size_factor_scope == "per_comparison"
        method: Any = choices.size_factor_method
        if not apart or choices.shares_dispersion:
            shared = stream_size_factors(
                source,
                expressing,
                method,
                control_genes=control_genes,
                reach=comparison.reach,
                **how,
            )
            unusable = ~np.isfinite(shared)
            reason = f"no count that size_factor_method={method!r} can use"
            membership = _without(source, membership, unusable, reason)
        if apart:
            names = comparison.screen.groups
            limit = comparison.running.memory_limit_gb
            own = stream_comparison_size_factors(
                source, membership, method, names, memory_limit_gb=limit, **how
            )
    if membership.sizes[0] == 0:
        raise InputError(
            f"no cell of the control {comparison.screen.control_label!r} in {source.where} has a "
            "count; there is nothing to compare with"
        )
    table = grouped_cells(
        np.ones(source.shape[0]) if shared is None else shared, membership, n_threads
    )
    noted = shared if own is None else _of_own_comparison(own, membership)
    assert noted is not None  # shared or own
    return ScreenCells(
        membership,
        table,
        own,
        own is None and (shares_control or batches is not None),
        noted,
        n_threads,
        batches,
        covariates,
    )


def _without(
    source: MatrixSource, membership: Membership, left_out: np.ndarray, reason: str
) -> Membership:
    """Return the membership without some cells (n_cells,) bool, with a warning."""
    left_out = left_out & membership.used_cells
    if not left_out.any():
        return membership
    first = source.obs.index[int(np.flatnonzero(left_out)[0])]
    warnings.warn(
        f"{int(left_out.sum())} cells of {source.where} have {reason} (first: {first!r}) and so no "
        "size factor; they are left out",
        CrispyxWarning,
        stacklevel=7,
    )
    return membership_of_cells(membership, ~left_out)


def membership_of_cells(membership: Membership, kept: np.ndarray) -> Membership:
    """Return the membership of some cells (n_cells,) bool; the others are in no group."""
    n_groups = np.diff(membership.ptr)
    ptr = np.concatenate([[0], np.cumsum(np.where(kept, n_groups, 0))])
    groups = membership.groups[np.repeat(kept, n_groups)]
    return Membership.from_lists(ptr, groups, len(membership.sizes))


def _of_own_comparison(own: ComparisonSizeFactors, membership: Membership) -> np.ndarray:
    """Return the size factors of perturbed cells in their comparison (n_cells,), NaN for others."""
    cells = np.repeat(np.arange(len(membership.ptr) - 1), np.diff(membership.ptr))
    found = np.full(len(membership.ptr) - 1, np.nan)
    for k, s in enumerate(own.perturbed):
        found[cells[membership.groups == k + 1]] = s
    return found
