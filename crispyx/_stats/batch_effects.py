"""Fits of ``poisson``, ``neg_binomial`` and ``binomial`` with a background for every batch.

Reference: ``reference.batch_effects``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import reference.batch_effects as reference
from crispyx._kernels import batch_effects as kernel
from crispyx._stats.depth_mixtures import (
    CODES,
    N_STARTS,
    NAMES,
    DepthModel,
    Exposure,
    depth_log_odds,
    fit_depth,
)
from crispyx._stats.mixtures import (
    DEFAULT_SEARCH,
    Bins,
    Fitted,
    GuideColumns,
    GuideFits,
    Search,
    assemble,
    from_reference,
    gate,
)
from crispyx.settings import Engine

INTERCEPT_VARIANCE = {"poisson": 9.0, "neg_binomial": 4.0, "binomial": 4.0}
WORK = 50  # numbers of scratch for each parameter, see the kernel


@dataclass(frozen=True)
class BatchEffectFits:
    """One fit a guide, with the effect of each batch.

    Attributes
    ----------
    fits : GuideFits
        Background and signal are those of a batch without effect.
    effects : numpy.ndarray (n_guides, n_batches) float64
        What a batch adds to both log rates (log-odds); NaN where nothing was fitted.
    """

    fits: GuideFits
    effects: np.ndarray


def fit_batch_effects(
    columns: GuideColumns,
    depth: np.ndarray,
    batch: np.ndarray,
    model: DepthModel,
    engine: Engine,
    n_threads: int = 1,
    *,
    exposure: Exposure = "consistent",
    priors: bool = False,
    search: Search = DEFAULT_SEARCH,
) -> BatchEffectFits:
    """Fit every guide in all batches together.

    Parameters
    ----------
    columns : GuideColumns
        Counts by guide.
    depth : numpy.ndarray (n_cells,) int64
        Guide UMIs of each cell.
    batch : numpy.ndarray (n_cells,) int64
        Batch of each cell, 0 to n_batches - 1.
    model, engine, n_threads, exposure, search
        As in :func:`crispyx._stats.depth_mixtures.fit_depth`.
    priors : bool
        Add crispat's priors to the batch effects.
    """
    status = gate(columns)
    passing, kept = columns.take(status == "ok")
    if engine == "reference":
        fitted, found = _reference(passing, depth, batch, model, exposure, priors, search)
    else:
        pooled = fit_depth(passing, depth, model, engine, n_threads, search=search)
        fitted, found = _compiled(
            passing, depth, batch, model, exposure, priors, search, pooled, n_threads
        )
    n = np.count_nonzero(depth) if model == "binomial" else columns.n_cells
    effects = np.full((columns.n_guides, int(batch.max(initial=0)) + 1), np.nan)
    effects[status == "ok"] = found
    fits = assemble(columns, status, kept, fitted, np.broadcast_to(n, passing.n_guides), 2)
    return BatchEffectFits(fits, effects)


def _compiled(
    columns: GuideColumns,
    depth: np.ndarray,
    batch: np.ndarray,
    model: DepthModel,
    exposure: Exposure,
    priors: bool,
    search: Search,
    pooled: GuideFits,
    n_threads: int,
) -> tuple[Fitted, np.ndarray]:
    n_guides, n_batches = columns.n_guides, int(batch.max(initial=0)) + 1
    strata, position, cells_at = np.unique(
        depth * n_batches + batch, return_inverse=True, return_counts=True
    )
    depths, batch_of = np.divmod(strata, n_batches)
    offset = 0 if model == "binomial" else 1
    if offset == 0:
        cells_at[depths == 0] = 0  # a cell without guide UMIs tells nothing
    keys = columns.counts * len(strata) + position[columns.cells]
    bins = Bins.of(columns.ptr, keys, n_threads)
    count, stratum = np.divmod(bins.keys, len(strata))
    y = count.astype(np.float64)
    start = np.full((n_guides, 4), np.nan)
    start[:, : len(NAMES[model])] = pooled.parameters
    parameters, scores = np.empty((n_guides, 4)), np.empty((n_guides, 3))
    effects = np.empty((n_guides, n_batches))
    n_iterations = np.empty(n_guides, dtype=np.int64)
    code = np.empty(n_guides, dtype=np.uint8)
    kernel.fit_batch_effects(
        CODES[model],
        bins.ptr,
        y,
        stratum,
        bins.n,
        (depths + offset).astype(np.float64),
        batch_of,
        cells_at.astype(np.float64),
        n_batches,
        priors,
        INTERCEPT_VARIANCE[model],
        start,
        search.n_starts or N_STARTS,
        search.tolerance,
        search.n_iterations,
        np.empty((n_threads, len(strata))),
        np.empty((n_threads, WORK * (n_batches + 3))),
        parameters,
        effects,
        scores,
        n_iterations,
        code,
        n_threads,
    )
    at = depths[stratum] + (offset if exposure == "consistent" else 0.0)
    guide = np.repeat(np.arange(n_guides), np.diff(bins.ptr))
    weight, low, high, theta = parameters[guide].T
    effect = effects[guide, batch_of[stratum]]
    odds = depth_log_odds(model, y, at, weight, low + effect, high + effect, theta)
    log_odds = bins.spread(odds, columns.ptr, keys, n_threads)
    names = NAMES[model]
    objective, log_likelihood, one = scores.T.copy()
    return Fitted(
        names,
        parameters[:, : len(names)].copy(),
        objective,
        log_likelihood,
        one,
        n_iterations,
        code,
        log_odds,
    ), effects


def _reference(
    columns: GuideColumns,
    depth: np.ndarray,
    batch: np.ndarray,
    model: DepthModel,
    exposure: Exposure,
    priors: bool,
    search: Search,
) -> tuple[Fitted, np.ndarray]:
    rows, odds = [], []
    for guide in range(columns.n_guides):
        here = slice(columns.ptr[guide], columns.ptr[guide + 1])
        y, cells = columns.counts[here], columns.cells[here]
        rows.append(
            reference.fit_batch_effects(
                model, columns.dense(guide), depth, batch, priors=priors, **search.reference
            )
        )
        odds.append(np.full(len(y), np.nan))
        if rows[-1].fit.parameters:
            odds[-1] = reference.log_odds_batch_effects(
                y, depth[cells], batch[cells], rows[-1], exposure
            )
    n_batches = int(batch.max(initial=0)) + 1
    effects = np.array([row.effects for row in rows]).reshape(columns.n_guides, n_batches)
    return from_reference([row.fit for row in rows], NAMES[model], odds), effects
