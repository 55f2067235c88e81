"""Fits of ``poisson_gauss``, ``gauss``, ``beta2`` and ``beta3`` of each batch, or of all pooled.

Reference: ``reference.batch_fits``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from crispyx._stats.beta_mixtures import BetaFit, BetaModel, beta_log_likelihood, fit_beta
from crispyx._stats.histogram_mixtures import HistogramModel, fit_histogram, log_likelihoods
from crispyx._stats.mixtures import DEFAULT_SEARCH, GuideColumns, GuideFits, Search
from crispyx.settings import Engine
from reference.batch_fits import MIN_CELLS, N_PARAMETERS, has_own_fit


@dataclass(frozen=True)
class HistogramBatches:
    """Fits of every guide.

    Attributes
    ----------
    pooled : GuideFits
        Of all cells; its ``log_odds`` are those of the fit that serves in the cell's batch.
    has_own : numpy.ndarray (n_guides, n_batches) bool
        The batch has a fit of its own.
    parameters : numpy.ndarray (n_guides, n_batches, n_parameters) float64
        Of the fit that serves.
    """

    pooled: GuideFits
    has_own: np.ndarray
    parameters: np.ndarray


@dataclass(frozen=True)
class BetaBatches:
    """Fits of the screen; attributes as in :class:`HistogramBatches`, ``own`` of each batch."""

    pooled: BetaFit
    own: tuple[BetaFit | None, ...]


def fit_histogram_batches(
    columns: GuideColumns,
    batch: np.ndarray,
    model: HistogramModel,
    engine: Engine,
    n_threads: int = 1,
    *,
    min_cells: int = MIN_CELLS,
    priors: bool = True,
    search: Search = DEFAULT_SEARCH,
) -> HistogramBatches:
    """Fit every guide on all cells and on those of each batch.

    Parameters
    ----------
    columns : GuideColumns
        Counts by guide.
    batch : numpy.ndarray (n_cells,) int64
        Batch of each cell, 0 to n_batches - 1.
    model, engine, n_threads, priors, search
        As in :func:`crispyx._stats.histogram_mixtures.fit_histogram`.
    min_cells : int
        Cells with the guide that a fit of its own needs.
    """
    pooled = fit_histogram(columns, model, engine, n_threads, priors=priors, search=search)
    sizes = np.bincount(batch)
    log_odds = pooled.log_odds.copy()
    has_own = np.zeros((columns.n_guides, len(sizes)), dtype=bool)
    parameters = np.repeat(pooled.parameters[:, None, :], len(sizes), axis=1)
    for b in range(len(sizes)):
        part, place = _cells_of(columns, batch == b)
        tried = np.diff(part.ptr) >= min_cells
        few, kept = part.take(tried)
        own = fit_histogram(few, model, engine, n_threads, priors=priors, search=search)
        guides = np.flatnonzero(tried)
        shared = log_likelihoods(few, model, pooled.parameters[guides], n_threads)
        n = np.diff(few.ptr) if model == "poisson_gauss" else np.full(len(guides), sizes[b])
        serves = [
            has_own_fit(*row, N_PARAMETERS[model])
            for row in zip(
                own.status, own.log_likelihood, pooled.status[guides], shared, n, strict=True
            )
        ]
        better = guides[np.array(serves, dtype=bool)]
        has_own[better, b] = True
        parameters[better, b] = own.parameters[np.array(serves, dtype=bool)]
        takes = np.repeat(np.array(serves, dtype=bool), np.diff(few.ptr))
        log_odds[place[kept][takes]] = own.log_odds[takes]
    return HistogramBatches(replace(pooled, log_odds=log_odds), has_own, parameters)


def fit_beta_batches(
    largest: np.ndarray,
    depth: np.ndarray,
    batch: np.ndarray,
    model: BetaModel,
    engine: Engine,
    *,
    min_cells: int = MIN_CELLS,
    priors: bool = True,
    search: Search = DEFAULT_SEARCH,
) -> BetaBatches:
    """Fit the proportions of all cells and of those of each batch.

    Parameters
    ----------
    largest, depth, model, engine, priors, search
        As in :func:`crispyx._stats.beta_mixtures.fit_beta`.
    batch : numpy.ndarray (n_cells,) int64
        Batch of each cell, 0 to n_batches - 1.
    min_cells : int
        Cells with guide UMIs that a fit of its own needs.
    """
    pooled = fit_beta(largest, depth, model, engine, priors=priors, search=search)
    log_odds = pooled.log_odds.copy()
    found: list[BetaFit | None] = []
    for b in range(int(batch.max(initial=0)) + 1):
        here = np.flatnonzero(batch == b)
        n = int(np.count_nonzero(depth[here]))
        found.append(None)
        if n < min_cells:
            continue
        own = fit_beta(largest[here], depth[here], model, engine, priors=priors, search=search)
        shared = beta_log_likelihood(largest[here], depth[here], pooled.parameters)
        if has_own_fit(
            own.status, own.log_likelihood, pooled.status, shared, n, N_PARAMETERS[model]
        ):
            found[b] = own
            log_odds[here] = own.log_odds
    return BetaBatches(replace(pooled, log_odds=log_odds), tuple(found))


def _cells_of(columns: GuideColumns, cells: np.ndarray) -> tuple[GuideColumns, np.ndarray]:
    """Return the counts of some cells (n_cells,) bool and their places among all (nnz,) int."""
    place = np.flatnonzero(cells[columns.cells])
    before = np.concatenate([[0], np.cumsum(cells[columns.cells])])
    position = np.cumsum(cells) - 1
    part = GuideColumns(
        int(cells.sum()),
        before[columns.ptr],
        position[columns.cells[place]],
        columns.counts[place],
    )
    return part, place
