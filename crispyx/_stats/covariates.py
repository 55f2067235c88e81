"""Log fold changes of a block beside covariates.

Reference: ``reference.covariates``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import erfc

from crispyx._kernels import control_slopes as slope_kernel
from crispyx._kernels import covariates as kernel
from crispyx._kernels.layout import Membership
from crispyx._stats.nb_coefficients import SMALLEST_DISPERSION
from crispyx._stats.nb_likelihood import CellTable, Counts
from crispyx._stats.wald import WaldTests
from crispyx.settings import Engine

if TYPE_CHECKING:
    from reference.nb_coefficients import Arm

MAX_ITERATIONS = 100
TOLERANCE = 1e-7


@dataclass(frozen=True)
class Strata:
    """Cells that agree in every categorical covariate.

    Attributes
    ----------
    levels : numpy.ndarray (n_strata, n_covariates) int64
        Category of each stratum in every covariate, numbered from 0 without gaps in each.
    of_cell : numpy.ndarray (n_cells,) int64
        Stratum of each cell, -1 for a cell that takes no part.
    """

    levels: np.ndarray
    of_cell: np.ndarray

    @classmethod
    def of_levels(cls, levels: np.ndarray) -> Strata:
        """Group cells by their categories (n_cells, n_covariates), -1 for a missing one."""
        known = (levels >= 0).all(axis=1)
        of_cell = np.full(len(levels), -1, dtype=np.int64)
        rows, of_cell[known] = np.unique(levels[known], axis=0, return_inverse=True)
        used = [np.unique(column, return_inverse=True)[1] for column in rows.T]
        return cls(np.ascontiguousarray(np.stack(used, axis=1), dtype=np.int64), of_cell)

    @property
    def n_strata(self) -> int:
        return len(self.levels)


@dataclass(frozen=True)
class AdjustedFits:
    """Fits of a block; arrays are (n_groups - 1, n_genes), NaN where nothing was fitted.

    Attributes
    ----------
    intercept, log_fold_change, standard_error : numpy.ndarray float64
        Natural log.
    silent_z : numpy.ndarray float64
        Signed root of the likelihood ratio where one arm has no count; NaN elsewhere.
    ratio_z : numpy.ndarray float64
        That of every comparison, where asked for; NaN elsewhere.
    iterations : numpy.ndarray int64
        Steps.
    converged : numpy.ndarray bool
        Whether the last step was short enough.
    """

    intercept: np.ndarray
    log_fold_change: np.ndarray
    standard_error: np.ndarray
    silent_z: np.ndarray
    ratio_z: np.ndarray
    iterations: np.ndarray
    converged: np.ndarray

    def wald_tests(self) -> WaldTests:
        """Test every fold change; a silent arm by its likelihood ratio."""
        statistic = self.log_fold_change / self.standard_error
        statistic = np.where(np.isfinite(self.silent_z), self.silent_z, statistic)
        return WaldTests(self.standard_error, statistic, erfc(np.abs(statistic) / math.sqrt(2)))

    def likelihood_ratio_tests(self) -> WaldTests:
        """Test every fold change by the likelihood ratio against the covariates alone."""
        pvalue = erfc(np.abs(self.ratio_z) / math.sqrt(2))
        return WaldTests(self.standard_error, self.ratio_z, pvalue)


def adjusted_fits(
    counts: Counts,
    alpha: np.ndarray,
    strata: Strata,
    se_method: str,
    engine: Engine,
    n_threads: int = 1,
    max_iterations: int = MAX_ITERATIONS,
    tolerance: float = TOLERANCE,
    numbers: np.ndarray | None = None,
    with_ratio: bool = False,
) -> AdjustedFits:
    """Fit every perturbation of a block against group 0 beside covariates.

    Parameters
    ----------
    counts : Counts
        The block; arm ``b * n_groups + k`` of its table holds the cells of group k in stratum b.
    alpha : numpy.ndarray (n_groups - 1, n_genes) float64
        Dispersions; NaN leaves a pair out.
    strata : Strata
        The categories.
    se_method : {"sandwich", "fisher", "robust"}
        See ``reference.covariates``.
    engine : {"compiled", "reference"}
        Which definition runs.
    n_threads : int
        Threads of the kernel.
    max_iterations, tolerance
        When to stop.
    numbers : numpy.ndarray (n_members, n_numbers) float64 or None
        Numeric covariates of the cells of ``counts.table``, by rank (:func:`by_rank`).
    with_ratio : bool
        Also fit without the fold change.
    """
    alpha = np.ascontiguousarray(np.maximum(alpha, SMALLEST_DISPERSION))
    out = np.full((5, *alpha.shape), np.nan)
    iterations = np.zeros(alpha.shape, dtype=np.int64)
    converged = np.zeros(alpha.shape, dtype=np.uint8)
    if numbers is None:
        numbers = np.empty((len(counts.table.rows), 0))
    slopes = fit_control_slopes(counts, alpha, strata, numbers, engine, n_threads)
    if engine == "reference":
        for k, g in np.argwhere(np.isfinite(alpha)).tolist():
            factors = np.exp(numbers @ slopes[:, g])
            fit = _reference_pair(
                counts,
                strata,
                g,
                k + 1,
                float(alpha[k, g]),
                se_method,
                (max_iterations, tolerance, with_ratio),
                factors,
            )
            if fit is not None:
                out[:, k, g], iterations[k, g], converged[k, g] = fit[:5], fit[5], fit[6]
    else:
        levels, n_levels = _numbered_through(strata)
        design = strata_design(strata)
        n_cells = 4 * len(numbers) if len(slopes) else 1
        (n_strata, n_columns), n_nodes = design.shape, counts.table.rows.shape[1]
        n_scratch = kernel.n_scratch(n_strata, n_columns, n_nodes, n_levels)
        kernel.adjusted_coefficients(
            counts.values,
            counts.ranks,
            counts.run_ptr,
            *counts.table.arrays,
            alpha,
            design,
            levels,
            strata.levels.shape[1] == 1,
            se_method == "robust",
            with_ratio,
            max_iterations,
            tolerance,
            numbers,
            slopes,
            np.empty((n_threads if len(slopes) else 1, n_cells)),
            np.empty((n_threads, n_scratch)),
            out,
            iterations,
            converged,
            n_threads,
        )
    return AdjustedFits(out[0], out[1], out[2], out[3], out[4], iterations, converged.astype(bool))


def strata_design(strata: Strata) -> np.ndarray:
    """Return the row of covariates of every stratum (n_strata, n_columns) float64."""
    from reference.covariates import design_of

    return np.ascontiguousarray(design_of(strata.levels))


def by_rank(table: CellTable, membership: Membership, numbers: np.ndarray) -> np.ndarray:
    """Return numbers of cells (n_cells, n_numbers) as the table orders its members."""
    cells = np.repeat(np.arange(len(membership.ptr) - 1), np.diff(membership.ptr))
    out = np.empty((len(table.rank), numbers.shape[1]))
    out[table.cell_ptr[membership.groups] + table.rank] = numbers[cells]
    return out


def fit_control_slopes(
    counts: Counts,
    alpha: np.ndarray,
    strata: Strata,
    numbers: np.ndarray,
    engine: Engine,
    n_threads: int = 1,
) -> np.ndarray:
    """Return the slopes of numeric covariates (n_numbers, n_genes) float64 among control cells.

    They are fitted at the median of a gene's dispersions over the perturbations, which is the
    dispersion itself where that is shared.
    """
    slopes = np.zeros((numbers.shape[1], counts.n_genes))
    if not len(slopes):
        return slopes
    fitted = np.isfinite(alpha).any(axis=0)
    middle = np.full(counts.n_genes, np.nan)
    middle[fitted] = np.nanmedian(alpha[:, fitted], axis=0)
    if engine == "reference":
        from reference.covariates import control_slopes

        for g in np.flatnonzero(fitted).tolist():
            arm, levels, cells = _pooled_strata(counts, strata, g, 0)
            slopes[:, g] = control_slopes(arm, levels, numbers[cells], float(middle[g]))
        return slopes
    design, (levels, n_levels) = strata_design(strata), _numbered_through(strata)
    (n_strata, n_columns), table = design.shape, counts.table
    n_scratch = slope_kernel.n_scratch(
        len(numbers), n_strata, n_columns, numbers.shape[1], n_levels
    )
    slope_kernel.control_slopes(
        counts.values,
        counts.ranks,
        counts.run_ptr,
        table.cell_ptr,
        table.size_factors,
        middle,
        design,
        levels,
        strata.levels.shape[1] == 1,
        MAX_ITERATIONS,
        TOLERANCE,
        np.ascontiguousarray(numbers),
        np.empty((n_threads, n_scratch)),
        slopes,
        n_threads,
    )
    return slopes


def _numbered_through(strata: Strata) -> tuple[np.ndarray, int]:
    """Return the categories of strata, counted on from column to column, and how many there are."""
    first = np.concatenate([[0], np.cumsum(strata.levels.max(axis=0) + 1)])
    return np.ascontiguousarray(strata.levels + first[:-1]), int(first[-1])


def _pooled_strata(
    counts: Counts, strata: Strata, gene: int, group: int
) -> tuple[Arm, np.ndarray, np.ndarray]:
    """Return the cells of a group, stratum after stratum, their categories and places."""
    from reference.nb_coefficients import Arm

    runs = range(group, counts.table.n_groups, counts.table.n_groups // strata.n_strata)
    cell_ptr = counts.table.cell_ptr
    arm = Arm(
        np.concatenate([counts.dense(gene, run) for run in runs]),
        np.concatenate([counts.table.of_group(run) for run in runs]),
    )
    levels = np.repeat(strata.levels, counts.table.n_cells[runs.start :: runs.step], axis=0)
    return arm, levels, np.concatenate([np.arange(cell_ptr[r], cell_ptr[r + 1]) for r in runs])


def _reference_pair(
    counts: Counts,
    strata: Strata,
    gene: int,
    group: int,
    alpha: float,
    se_method: str,
    how: tuple[int, float, bool],
    factors: np.ndarray,
) -> tuple[float, float, float, float, float, int, bool] | None:
    from reference.covariates import fit_beside_covariates

    (control, levels0, cells0), (perturbed, levels1, cells1) = (
        _pooled_strata(counts, strata, gene, k) for k in (0, group)
    )
    if not len(control.counts) or not len(perturbed.counts):
        return None
    return fit_beside_covariates(
        control._replace(size_factors=control.size_factors * factors[cells0]),
        perturbed._replace(size_factors=perturbed.size_factors * factors[cells1]),
        levels0,
        levels1,
        alpha,
        se_method,
        *how,
    )
