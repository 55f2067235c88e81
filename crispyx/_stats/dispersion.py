"""Dispersions for a block of genes: moments, adjusted likelihood, posterior modes.

Reference: ``reference.dispersion``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crispyx._kernels import dispersion as kernel
from crispyx._stats.nb_likelihood import CellTable, Counts
from crispyx.settings import Engine
from reference.dispersion import (
    SMALLEST,
    SMALLEST_START,
    Prior,
    fit_prior,
    grid_mode,
    largest_dispersion,
    prior_weight,
)

__all__ = [
    "NormalizedMoments",
    "Prior",
    "final_dispersions",
    "fit_prior",
    "genewise_dispersions",
    "grid_mode",
    "largest_dispersion",
    "normalized_moments",
    "posterior_modes",
    "prior_weight",
    "rough_moments",
    "within_group_moments",
]


@dataclass(frozen=True)
class NormalizedMoments:
    """Mean of y / s and its squared deviations, summed; (n_groups, n_genes) float64."""

    mean: np.ndarray
    squares: np.ndarray
    table: CellTable

    def pooled_mean(self, groups: list[int]) -> np.ndarray:
        """Return the mean over the cells of some groups (n_genes,)."""
        used = [k for k in groups if self.table.n_cells[k] > 0]
        n = self.table.n_cells[used].astype(float)
        return _added(n, self.mean[used]) / n.sum()


def normalized_moments(counts: Counts, engine: Engine, n_threads: int = 1) -> NormalizedMoments:
    """Return the moments of y / s of every (group, gene) of a block, made once for each engine."""
    if engine not in counts.moments:
        counts.moments[engine] = _normalized_moments(counts, engine, n_threads)
    return counts.moments[engine]


def _normalized_moments(counts: Counts, engine: Engine, n_threads: int) -> NormalizedMoments:
    shape = (counts.table.n_groups, counts.n_genes)
    mean, squares = np.empty(shape), np.empty(shape)
    if engine == "reference":
        for k, g in np.ndindex(*shape):
            q = counts.dense(g, k) / counts.table.of_group(k)
            mean[k, g] = q.mean() if q.size else np.nan
            squares[k, g] = np.sum((q - mean[k, g]) ** 2)
    else:
        kernel.normalized_moments(
            counts.values,
            counts.ranks,
            counts.run_ptr,
            counts.table.cell_ptr,
            counts.table.size_factors,
            mean,
            squares,
            n_threads,
        )
    return NormalizedMoments(mean, squares, counts.table)


def rough_moments(
    counts: Counts, moments: NormalizedMoments, upper: np.ndarray, engine: Engine
) -> np.ndarray:
    """Return PyDESeq2's first guess of every comparison (n_groups - 1, n_genes) float64.

    Parameters
    ----------
    counts : Counts
        Read by the reference engine.
    moments : NormalizedMoments
        Read by the compiled engine.
    upper : numpy.ndarray (n_groups - 1,) float64
        Upper bounds.
    engine : {"compiled", "reference"}
        Which definition runs.

    Returns
    -------
    numpy.ndarray
        NaN where a comparison has no count.
    """
    table = moments.table
    guess = np.full((table.n_groups - 1, counts.n_genes), np.nan)
    if engine == "reference":
        import reference.dispersion

        for k, g in np.ndindex(*guess.shape):
            arms = _arms(counts, g, [0, k + 1])
            if any(arm.counts.any() for arm in arms):
                guess[k, g] = reference.dispersion.rough_moments(arms, float(upper[k]))
        return guess
    n = table.n_cells[:, None].astype(float)
    n0, n1 = n[0], n[1:]
    mean0, mean1 = moments.mean[0], moments.mean[1:]
    mean = (n0 * mean0 + n1 * mean1) / (n0 + n1)
    squares = moments.squares[0] + moments.squares[1:]
    squares = squares + n0 * n1 / (n0 + n1) * (mean0 - mean1) ** 2
    inverse = n * table.mean_inverse[:, None]
    inverse = (inverse[0] + inverse[1:]) / (n0 + n1)
    center = np.maximum(moments.mean, 1)
    rough = (moments.squares + n * (moments.mean - center) ** 2 - n * center) / center**2
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = (squares / (n0 + n1 - 1) - inverse * mean) / mean**2
        within = np.maximum((rough[0] + rough[1:]) / (n0 + n1 - 2), 0)
    present = mean > 0
    bounded = np.clip(np.minimum(whole, within), SMALLEST, upper[:, None])
    return np.where(present, bounded, np.nan)


def within_group_moments(
    counts: Counts, moments: NormalizedMoments, groups: list[list[int]], engine: Engine
) -> np.ndarray:
    """Return the method-of-moments dispersion within groups (n_fits, n_genes) float64.

    Parameters
    ----------
    counts, moments, engine
        As in :func:`rough_moments`.
    groups : list of list of int
        The groups of every fit.

    Returns
    -------
    numpy.ndarray
        NaN where no group of a fit has a count.
    """
    table = moments.table
    found = np.full((len(groups), counts.n_genes), np.nan)
    for fit, members in enumerate(groups):
        upper = largest_dispersion(int(table.n_cells[members].sum()))
        if engine == "reference":
            import reference.dispersion

            for g in range(counts.n_genes):
                arms = _arms(counts, g, members)
                if any(arm.counts.any() for arm in arms):
                    found[fit, g] = reference.dispersion.within_group_moments(arms, upper)
            continue
        used = [k for k in members if table.n_cells[k] > 1]
        n = table.n_cells[used].astype(float)
        mean, squares = moments.mean[used], moments.squares[used]
        excess = _added(n / (n - 1), squares) - _added(n * table.mean_inverse[used], mean)
        scale = _added(n, mean**2)
        with np.errstate(divide="ignore", invalid="ignore"):
            bounded = np.where(scale > 0, np.clip(excess / scale, SMALLEST, upper), SMALLEST)
        present = np.nansum(moments.mean[members], axis=0) > 0
        found[fit] = np.where(present, bounded, np.nan)
    return found


def genewise_dispersions(
    counts: Counts,
    start: np.ndarray,
    *,
    shared: bool,
    min_mu: float,
    stop_where_flat: bool,
    engine: Engine,
    n_threads: int = 1,
) -> np.ndarray:
    """Return the dispersions that minimize the adjusted loss (n_fits, n_genes) float64.

    Parameters
    ----------
    counts : Counts
        The block.
    start : numpy.ndarray (n_fits, n_genes) float64
        First dispersions; NaN is not fitted.
    shared : bool
        One fit from all groups; otherwise fit k - 1 is of groups 0 and k.
    min_mu : float
        Smallest fitted mean.
    stop_where_flat : bool
        PyDESeq2's stop at a flat start.
    engine : {"compiled", "reference"}
        Which definition runs.
    n_threads : int
        Threads of the kernel.
    """
    if engine == "reference":
        import reference.dispersion

        out = np.full(start.shape, np.nan)
        for fit, g in np.argwhere(np.isfinite(start)).tolist():
            arms, upper = _fit_arms(counts, g, fit, shared)
            out[fit, g] = reference.dispersion.genewise_dispersion(
                arms,
                upper,
                start=float(start[fit, g]),
                min_mu=min_mu,
                stop_where_flat=stop_where_flat,
            )
        return out
    first = start if stop_where_flat else np.maximum(start, SMALLEST_START)
    return _fit(counts, first, 0.0, shared, min_mu, stop_where_flat, n_threads)


def posterior_modes(
    counts: Counts,
    trend: np.ndarray,
    variance: np.ndarray,
    *,
    shared: bool,
    min_mu: float,
    engine: Engine,
    n_threads: int = 1,
) -> np.ndarray:
    """Return the dispersions of highest posterior density (n_fits, n_genes) float64.

    Parameters
    ----------
    counts, shared, min_mu, engine, n_threads
        As in :func:`genewise_dispersions`.
    trend : numpy.ndarray (n_fits, n_genes) float64
        Centers of the prior; NaN is not fitted.
    variance : numpy.ndarray (n_fits,) float64
        Of the prior of the log dispersion.
    """
    if engine == "reference":
        import reference.dispersion

        out = np.full(trend.shape, np.nan)
        for fit, g in np.argwhere(np.isfinite(trend)).tolist():
            arms, upper = _fit_arms(counts, g, fit, shared)
            out[fit, g] = reference.dispersion.posterior_mode(
                arms, float(trend[fit, g]), float(variance[fit]), upper, min_mu
            )
        return out
    return _fit(counts, trend, 1 / variance, shared, min_mu, False, n_threads)


def final_dispersions(
    genewise: np.ndarray, trend: np.ndarray, mode: np.ndarray, prior: Prior
) -> np.ndarray:
    """Return the modes (n_genes,), but genewise dispersions far above the trend."""
    with np.errstate(divide="ignore", invalid="ignore"):
        outlier = np.log(genewise) > np.log(trend) + prior.outlier_distance
    return np.where(outlier, genewise, mode)


def _fit(
    counts: Counts,
    start: np.ndarray,
    precision: float | np.ndarray,
    shared: bool,
    min_mu: float,
    stop_where_flat: bool,
    n_threads: int,
) -> np.ndarray:
    table = counts.table
    n_cells = table.n_cells
    totals = [n_cells.sum()] if shared else n_cells[0] + n_cells[1:]
    out = np.empty(start.shape)
    width = table.n_groups * (2 * table.rows.shape[1] + 3) + 3 * counts.n_tail
    kernel.fit_dispersions(
        counts.values,
        counts.ranks,
        counts.run_ptr,
        *table.arrays,
        normalized_moments(counts, "compiled", n_threads).mean,
        np.ascontiguousarray(start),
        np.ascontiguousarray(np.broadcast_to(precision, len(start)), dtype=np.float64),
        np.array([largest_dispersion(int(n)) for n in totals]),
        shared,
        stop_where_flat,
        min_mu,
        np.empty((n_threads, width)),
        out,
        n_threads,
    )
    return out


def _added(weights: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return the weighted sum of rows (n_genes,), added in their order whatever their length."""
    if not len(table):
        return np.zeros(table.shape[1])
    return np.cumsum(weights[:, None] * table, axis=0)[-1]


def _fit_arms(counts: Counts, gene: int, fit: int, shared: bool):  # type: ignore[no-untyped-def]
    groups = list(range(counts.table.n_groups)) if shared else [0, fit + 1]
    n_cells = int(counts.table.n_cells[groups].sum())
    return _arms(counts, gene, groups), largest_dispersion(n_cells)


def _arms(counts: Counts, gene: int, groups: list[int]):  # type: ignore[no-untyped-def]
    from reference.nb_coefficients import Arm

    return [
        Arm(counts.dense(gene, k), counts.table.of_group(k))
        for k in groups
        if counts.table.n_cells[k] > 0
    ]
