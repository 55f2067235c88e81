"""The control cells once for all comparisons, and dispersions of all cells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from crispyx._run.budget import working_memory
from crispyx._run.threads import resolve_threads
from crispyx._stats.dispersion import normalized_moments, prior_weight
from crispyx._stats.nb_likelihood import Counts
from crispyx._stats.nb_regression import (
    SMALLEST,
    Scoring,
    dispersions_of_block,
    means_of_block,
    regress_block,
    start_of_block,
)
from crispyx.errors import InputError
from crispyx.glm.dispersions import (
    TrendType,
    estimate_dispersion_map,
    fit_dispersion_trend,
    shrink_dispersions,
)
from crispyx.glm.fitter import (
    LARGEST_DISPERSION,
    DispersionMethod,
    check_method,
    offset_vector,
)
from crispyx.glm.matrices import CountStream, batches, counts_matrix, gene_block, in_groups
from crispyx.glm.results import ControlStatisticsCache
from crispyx.settings import settings

RIDGE = 1e-6
FIELDS = ("beta", "dispersion", "w", "wz", "mean", "n_expressing", "mu", "squares", "total")


def precompute_control_statistics(
    control_matrix: Any,
    control_offset: np.ndarray,
    *,
    max_iter: int = 10,
    tol: float = 1e-6,
    min_mu: float = 0.5,
    dispersion_method: DispersionMethod = "moments",
    global_size_factors: np.ndarray | None = None,
    freeze_control: bool = False,
) -> ControlStatisticsCache:
    """Fit the log mean of every gene in the control cells, and keep what comparisons need of it.

    Parameters
    ----------
    control_matrix : array or SciPy sparse matrix (n_control, n_genes)
        Counts.
    control_offset : array (n_control,)
        Log size factors.
    max_iter, tol, min_mu
        As in :class:`crispyx.glm.NBGLMBatchFitter`.
    dispersion_method : {"moments", "cox-reid"}
        Estimator of ``control_dispersion``, at the Poisson means.
    global_size_factors : array (n_cells,) or None
        Size factors of all cells, kept in the cache.
    freeze_control : bool
        Keep sums instead of the counts.

    Returns
    -------
    ControlStatisticsCache

    Examples
    --------
    >>> import numpy as np
    >>> from crispyx.glm import precompute_control_statistics
    >>> cache = precompute_control_statistics(
    ...     np.array([[1.0, 0.0], [3.0, 0.0]]), np.zeros(2), min_mu=0
    ... )
    >>> round(float(np.exp(cache.beta_intercept[0])), 3), cache.pts_rest.tolist()
    (2.0, [1.0, 0.0])
    """
    matrix = counts_matrix(control_matrix, "control_matrix")
    n_cells, n_genes = matrix.shape
    offset = offset_vector(control_offset, n_cells)
    found = np.full((len(FIELDS), n_genes), np.nan)
    options = max_iter, tol, min_mu, dispersion_method
    for start, stop in batches(n_genes, n_cells, "auto"):
        part = matrix[:, start:stop]
        dense = part.toarray() if hasattr(part, "toarray") else part
        counts = np.ascontiguousarray(dense.T, dtype=np.float64)
        found[:, start:stop] = _control_fits(counts, offset, *options)
    kept = None
    if not freeze_control:
        kept = matrix.toarray() if hasattr(matrix, "toarray") else np.array(matrix)
    return _cache(found, kept, offset, global_size_factors)


def precompute_control_statistics_streaming(
    path: str | Path,
    control_mask: np.ndarray,
    control_offset: np.ndarray,
    *,
    max_iter: int = 10,
    tol: float = 1e-6,
    min_mu: float = 0.5,
    global_size_factors: np.ndarray | None = None,
    freeze_control: bool = True,
    chunk_size: int = 4096,
) -> ControlStatisticsCache:
    """Do as :func:`precompute_control_statistics` for the cells of a file, without loading it.

    Parameters
    ----------
    path : path
        File with the counts, or an AnnData.
    control_mask : array (n_cells,) bool
        Control cells.
    control_offset : array (n_control,)
        Their log size factors.
    max_iter, tol, min_mu, global_size_factors
        As there; the dispersion is that of moments.
    freeze_control : bool
        Must be True: the counts are never held.
    chunk_size : int
        Cells whose dense counts take as much memory as is used at once. Never a number.

    Returns
    -------
    ControlStatisticsCache
        Frozen.
    """
    if not freeze_control:
        raise InputError(
            "freeze_control=False needs the counts of the control in memory; call "
            "precompute_control_statistics, or leave freeze_control=True"
        )
    with CountStream(path, control_mask, chunk_size) as stream:
        offset = offset_vector(control_offset, stream.n_cells)
        found = np.full((len(FIELDS), stream.n_genes), np.nan)
        for genes, counts in stream.dense():
            found[:, genes] = _control_fits(counts, offset, max_iter, tol, min_mu, "moments")
    return _cache(found, None, offset, global_size_factors)


def precompute_global_dispersion(
    control_cache: ControlStatisticsCache,
    all_cell_matrix: Any,
    all_cell_offset: np.ndarray,
    *,
    n_grid: int = 25,
    min_disp: float = 1e-8,
    max_disp: float = 10.0,
    fit_type: TrendType = "parametric",
    fast_mode: bool = True,
    max_dense_fraction: float = 0.3,
    memory_limit_gb: float | None = None,
) -> ControlStatisticsCache:
    """Return the cache with dispersions, trend and prior variance of all cells.

    All cells count as one group: effects of perturbations add to these dispersions.

    Parameters
    ----------
    control_cache : ControlStatisticsCache
        The cache, which stays as it is.
    all_cell_matrix : array or SciPy sparse matrix (n_cells, n_genes)
        Counts of all cells.
    all_cell_offset : array (n_cells,)
        Their log size factors.
    n_grid : int
        Points of :func:`crispyx.glm.estimate_dispersion_map`.
    min_disp, max_disp : float
        Bounds of the dispersions.
    fit_type : {"parametric", "local", "mean"}
        Trend, see :func:`crispyx.glm.fit_dispersion_trend`; genes of every mean take part.
    fast_mode : bool
        Shrink moment dispersions toward the trend (:func:`crispyx.glm.shrink_dispersions`); False
        takes posterior modes.
    max_dense_fraction : float
        Part of the memory that dense counts may take; blocks of genes are as wide as that allows.
        Never a number.
    memory_limit_gb : float or None
        Memory of the process; None uses half of what is free.

    Returns
    -------
    ControlStatisticsCache
        With ``global_dispersion``, ``global_dispersion_trend``, ``global_disp_prior_var`` and
        ``dispersion_scope="global"``.
    """
    if not 0 < max_dense_fraction <= 1:
        raise InputError(f"max_dense_fraction is {max_dense_fraction}; give a number in (0, 1]")
    matrix = counts_matrix(all_cell_matrix, "all_cell_matrix")
    offset = offset_vector(all_cell_offset, matrix.shape[0])
    counts = in_groups(gene_block(matrix), np.zeros(len(offset), dtype=np.int64), offset)
    mean, rough = _moments(counts, min_disp, max_disp)
    updated = _with_dispersions(control_cache, mean, rough, fit_type, min_disp, max_disp)
    if fast_mode:
        return updated
    trend, variance = updated.global_dispersion_trend, updated.global_disp_prior_var
    assert trend is not None  # just set
    room = max_dense_fraction * working_memory(memory_limit_gb)
    width = max(1, int(room / (8 * 4 * len(offset))))
    modes = np.empty(len(mean))
    for start, stop in batches(len(mean), len(offset), width):
        part = matrix[:, start:stop]
        dense = part.toarray() if hasattr(part, "toarray") else part
        modes[start:stop] = estimate_dispersion_map(
            dense,
            np.exp(offset)[:, None] * mean[start:stop],
            trend[start:stop],
            prior_var=variance,
            min_disp=min_disp,
            max_disp=max_disp,
            n_grid=n_grid,
        )
    return replace(updated, global_dispersion=modes)


def precompute_global_dispersion_from_path(
    path: str | Path,
    control_cache: ControlStatisticsCache,
    all_cell_offset: np.ndarray,
    *,
    min_disp: float = 1e-8,
    max_disp: float = 10.0,
    fit_type: TrendType = "parametric",
    chunk_size: int = 4096,
) -> ControlStatisticsCache:
    """Do as :func:`precompute_global_dispersion` (``fast_mode``) for a file, without loading it.

    Parameters
    ----------
    path : path
        File with the counts, or an AnnData.
    control_cache, all_cell_offset, min_disp, max_disp, fit_type
        As there.
    chunk_size : int
        Cells whose dense counts take as much memory as is used at once. Never a number.

    Returns
    -------
    ControlStatisticsCache
    """
    with CountStream(path, None, chunk_size) as stream:
        offset = offset_vector(all_cell_offset, stream.n_cells)
        one_group = np.zeros(stream.n_cells, dtype=np.int64)
        parts = [
            _moments(in_groups(block, one_group, offset), min_disp, max_disp)
            for block in stream.blocks()
        ]
    mean, rough = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _with_dispersions(control_cache, mean, rough, fit_type, min_disp, max_disp)


def _control_fits(
    counts: np.ndarray,
    offset: np.ndarray,
    max_iter: int,
    tol: float,
    min_mu: float,
    dispersion_method: DispersionMethod,
) -> np.ndarray:
    """Return the rows of FIELDS of a block (n_genes, n_control)."""
    check_method(dispersion_method)
    found = np.full((len(FIELDS), len(counts)), np.nan)
    expressed = counts.any(axis=1)
    y, ones = counts[expressed], np.ones((len(offset), 1))
    scoring = Scoring(min_mu, RIDGE, max_iter, tol)
    engine = settings.engine
    start = start_of_block(y, ones, offset)
    poisson = regress_block(y, ones, offset, np.zeros(len(y)), start, scoring, engine)
    mu = means_of_block(ones, offset, poisson.coefficients, min_mu)
    bounds = SMALLEST, LARGEST_DISPERSION
    alpha = dispersions_of_block(y, mu, ones, dispersion_method, *bounds)
    fits = regress_block(y, ones, offset, alpha, poisson.coefficients, scoring, engine)
    mu = means_of_block(ones, offset, fits.coefficients, min_mu)
    w = mu / (1 + alpha[:, None] * mu)
    wz = w * (np.log(mu) - offset + (y - mu) / mu)
    sums = [(y * np.exp(-offset)).mean(axis=1), np.count_nonzero(y, axis=1)]
    sums += [mu.sum(axis=1), ((y - mu) ** 2).sum(axis=1), y.sum(axis=1)]
    rows = [fits.coefficients[:, 0], alpha, w.sum(axis=1), wz.sum(axis=1), *sums]
    found[:, expressed] = np.stack(rows)
    found[FIELDS.index("w") :, ~expressed] = 0
    return found


def _cache(
    found: np.ndarray,
    matrix: np.ndarray | None,
    offset: np.ndarray,
    global_size_factors: np.ndarray | None,
) -> ControlStatisticsCache:
    of = dict(zip(FIELDS, found, strict=True))
    frozen = matrix is None
    return ControlStatisticsCache(
        control_matrix=matrix,
        control_n=len(offset),
        control_offset=offset,
        beta_intercept=of["beta"],
        control_dispersion=of["dispersion"],
        control_xtwx_intercept=of["w"],
        control_xtwz_intercept=of["wz"],
        control_mean_expr=of["mean"],
        control_expr_counts=of["n_expressing"].astype(np.int64),
        pts_rest=of["n_expressing"] / max(len(offset), 1),
        global_size_factors=global_size_factors,
        frozen_control_W_sum=of["w"].copy() if frozen else None,
        frozen_control_Wz_sum=of["wz"].copy() if frozen else None,
        frozen_control_mu_sum=of["mu"] if frozen else None,
        frozen_control_resid_sq_sum=of["squares"] if frozen else None,
        frozen_control_Y_sum=of["total"] if frozen else None,
        use_frozen_control=frozen,
    )


def _moments(counts: Counts, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Return mean normalized counts and moment dispersions of cells in one group (n_genes,)."""
    moments = normalized_moments(counts, settings.engine, resolve_threads())
    n = float(counts.table.n_cells[0])
    mean = moments.mean[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = moments.squares[0] / (n - 1)
        rough = (variance - mean * counts.table.mean_inverse[0]) / mean**2
    return mean, np.where(mean > 0, np.clip(rough, low, high), np.nan)


def _with_dispersions(
    cache: ControlStatisticsCache,
    mean: np.ndarray,
    rough: np.ndarray,
    fit_type: TrendType,
    low: float,
    high: float,
) -> ControlStatisticsCache:
    if not 0 < low < high:
        raise InputError(f"min_disp {low} and max_disp {high} must be 0 < min_disp < max_disp")
    if mean.shape != cache.beta_intercept.shape:
        raise InputError(
            f"the cells have {len(mean)} genes, the cache {len(cache.beta_intercept)}; "
            "give the same genes in the same order"
        )
    trend = fit_dispersion_trend(mean, rough, min_mean=0.0, fit_type=fit_type, n_iter=100)
    weight = prior_weight(rough, trend)
    return replace(
        cache,
        global_dispersion=np.clip(shrink_dispersions(rough, trend), low, high),
        global_dispersion_trend=trend,
        global_disp_prior_var=max(1 / weight if weight > 0 else np.inf, 0.25),
        dispersion_scope="global",
    )
