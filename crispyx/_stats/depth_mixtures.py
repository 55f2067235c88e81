"""Fits of ``poisson``, ``neg_binomial`` and ``binomial`` for every guide of a screen.

Reference: ``reference.depth_mixtures``.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

import reference.depth_mixtures as reference
from crispyx._kernels import depth_mixtures as kernel
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

DepthModel = Literal["poisson", "neg_binomial", "binomial"]
Exposure = Literal["consistent", "crispat"]
RATES = ("weight", "log_rate_background", "log_rate_signal")
NAMES = {
    "poisson": RATES,
    "neg_binomial": (*RATES, "dispersion"),
    "binomial": ("weight", "logit_background", "logit_signal"),
}
N_STARTS = 4
CODES = {"poisson": 0, "neg_binomial": 1, "binomial": 2}


def fit_depth(
    columns: GuideColumns,
    depth: np.ndarray,
    model: DepthModel,
    engine: Engine,
    n_threads: int = 1,
    *,
    exposure: Exposure = "consistent",
    search: Search = DEFAULT_SEARCH,
) -> GuideFits:
    """Fit every guide on its counts and the guide depth of all cells.

    Parameters
    ----------
    columns : GuideColumns
        Counts by guide.
    depth : numpy.ndarray (n_cells,) int64
        Guide UMIs of each cell.
    model : {"poisson", "neg_binomial", "binomial"}
        Which mixture.
    engine : {"compiled", "reference"}
        Which definition runs.
    n_threads : int
        Threads of the kernels.
    exposure : {"consistent", "crispat"}
        ``poisson``, ``neg_binomial``: fitted at depth + 1; the log-odds are taken there too, or at
        the depth itself as crispat does.
    search : Search
        How long EM climbs, and from where.
    """
    status = gate(columns)
    passing, kept = columns.take(status == "ok")
    if engine == "reference":
        fitted = _reference(passing, depth, model, exposure, search)
    else:
        fitted = compiled_depth(passing, depth, model, exposure, search, n_threads)
    n = np.count_nonzero(depth) if model == "binomial" else columns.n_cells
    return assemble(columns, status, kept, fitted, np.broadcast_to(n, passing.n_guides), 2)


def compiled_depth(
    columns: GuideColumns,
    depth: np.ndarray,
    model: DepthModel,
    exposure: Exposure,
    search: Search,
    n_threads: int,
) -> Fitted:
    """Fit guides that pass the gate in the kernel; see :func:`fit_depth`."""
    depths, position, cells_at = np.unique(depth, return_inverse=True, return_counts=True)
    offset = 0 if model == "binomial" else 1
    if offset == 0:
        cells_at[depths == 0] = 0  # a cell without guide UMIs tells nothing
    keys = columns.counts * len(depths) + position[columns.cells]
    bins = Bins.of(columns.ptr, keys, n_threads)
    count, depth_of = np.divmod(bins.keys, len(depths))
    n_guides, n_depths = columns.n_guides, len(depths)
    parameters, scores = np.empty((n_guides, 4)), np.empty((n_guides, 3))
    n_iterations = np.empty(n_guides, dtype=np.int64)
    code = np.empty(n_guides, dtype=np.uint8)
    y = count.astype(np.float64)
    kernel.fit_depth(
        CODES[model],
        bins.ptr,
        y,
        depth_of,
        bins.n,
        (depths + offset).astype(np.float64),
        cells_at.astype(np.float64),
        search.n_starts or N_STARTS,
        search.tolerance,
        search.n_iterations,
        np.empty(len(y)),
        np.empty((n_threads, 3 * n_depths)),
        parameters,
        scores,
        n_iterations,
        code,
        n_threads,
    )
    at = depths[depth_of] + (offset if exposure == "consistent" else 0.0)
    values = (bins.by_guide(column) for column in parameters.T)
    log_odds = bins.spread(depth_log_odds(model, y, at, *values), columns.ptr, keys, n_threads)
    names = NAMES[model]
    parameters = parameters[:, : len(names)].copy()
    objective, log_likelihood, one = scores.T.copy()
    return Fitted(names, parameters, objective, log_likelihood, one, n_iterations, code, log_odds)


def depth_log_odds(
    model: DepthModel,
    y: np.ndarray,
    at: np.ndarray,
    weight: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    theta: np.ndarray,
) -> np.ndarray:
    """Return the log-odds of the signal (n,) of counts ``y`` at exposure ``at``."""
    prior = np.log(weight) - np.log1p(-weight)
    if model == "poisson":
        return prior + y * (high - low) - at * (np.exp(high) - np.exp(low))
    if model == "binomial":
        return prior + y * (high - low) - at * (np.logaddexp(0, high) - np.logaddexp(0, low))
    total = np.log(theta + np.exp(high) * at) - np.log(theta + np.exp(low) * at)
    return prior + y * (high - low) - (y + theta) * total


def _reference(
    columns: GuideColumns,
    depth: np.ndarray,
    model: DepthModel,
    exposure: Exposure,
    search: Search,
) -> Fitted:
    fit = {
        "poisson": reference.fit_poisson,
        "neg_binomial": reference.fit_neg_binomial,
        "binomial": reference.fit_binomial,
    }[model]
    rows, odds = [], []
    for guide in range(columns.n_guides):
        here = slice(columns.ptr[guide], columns.ptr[guide + 1])
        y, s = columns.counts[here], depth[columns.cells[here]]
        rows.append(fit(columns.dense(guide), depth, **search.reference))
        parameters = rows[-1].parameters
        if not parameters:
            odds.append(np.full(len(y), np.nan))
        elif model == "binomial":
            odds.append(reference.log_odds_binomial(y, s, parameters))
        elif model == "poisson":
            odds.append(reference.log_odds_poisson(y, s, parameters, exposure))
        else:
            odds.append(reference.log_odds_neg_binomial(y, s, parameters, exposure))
    return from_reference(rows, NAMES[model], odds)
