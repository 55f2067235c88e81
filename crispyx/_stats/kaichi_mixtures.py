"""What kaichi 0.2.0 fits under the names of the mixtures, for reports of parity.

Reference: ``reference.kaichi_mixtures``. The depth models run in the compiled kernel as well, on
the cells that have the guide.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Literal, cast

import numpy as np

import reference.kaichi_mixtures as reference
from crispyx._stats.beta_mixtures import BetaFit, BetaModel, beta_log_odds
from crispyx._stats.depth_mixtures import NAMES as DEPTH_NAMES
from crispyx._stats.depth_mixtures import DepthModel, compiled_depth
from crispyx._stats.histogram_mixtures import NAMES as HISTOGRAM_NAMES
from crispyx._stats.histogram_mixtures import compiled_histogram
from crispyx._stats.mixtures import (
    DEFAULT_SEARCH,
    Fitted,
    GuideColumns,
    GuideFits,
    Search,
    assemble,
    from_reference,
    gate,
)
from crispyx.settings import Engine

CountModel = Literal["poisson_gauss", "gauss", "poisson", "neg_binomial", "binomial"]
NAMES = DEPTH_NAMES | HISTOGRAM_NAMES
# Without zeros the likelihood has more local maxima.
SEARCH = Search(n_starts=12)


def fit_kaichi(
    columns: GuideColumns, depth: np.ndarray, model: CountModel, engine: Engine, n_threads: int = 1
) -> GuideFits:
    """Fit every guide; one that is not fitted is called nowhere: its log-odds are minus infinity.

    Parameters
    ----------
    columns : GuideColumns
        Counts by guide.
    depth : numpy.ndarray (n_cells,) int64
        Guide UMIs of each cell.
    model : {"poisson_gauss", "gauss", "poisson", "neg_binomial", "binomial"}
        Which mixture.
    engine : {"compiled", "reference"}
        Which definition runs, where there are two.
    n_threads : int
        Threads of the kernels.
    """
    status = gate(columns)
    passing, kept = columns.take(status == "ok")
    if engine == "reference" or model == "poisson_gauss":
        fitted = _reference(passing, depth, model)
    elif model == "gauss":
        fitted = compiled_histogram(passing, "gauss", False, DEFAULT_SEARCH, n_threads)
    else:
        fitted = _with_the_guide(passing, depth, cast(DepthModel, model))
    # No BIC and no number of cells keeps kaichi from calling.
    fitted = replace(fitted, one_component=np.full(passing.n_guides, np.nan))
    n = np.full(passing.n_guides, columns.n_cells)
    fits = assemble(columns, status, kept, fitted, n, 2)
    log_odds = np.full(len(columns.counts), -np.inf)
    log_odds[kept] = np.where(np.isnan(fitted.log_odds), -np.inf, fitted.log_odds)
    return replace(fits, log_odds=log_odds)


def fit_kaichi_beta(largest: np.ndarray, depth: np.ndarray, model: BetaModel) -> BetaFit:
    """Fit the proportions of all cells; the log-odds rise and fall with the proportion.

    Parameters
    ----------
    largest, depth : numpy.ndarray (n_cells,) int64
        Largest guide count and guide UMIs of each cell.
    model : {"beta2", "beta3"}
        Number of components.
    """
    have = depth > 0
    proportions = largest[have] / depth[have]
    fit = reference.fit_kaichi_beta(model, proportions)
    log_odds = np.full(len(depth), -np.inf)
    if fit.parameters:
        log_odds[have] = beta_log_odds(proportions, model, fit.parameters)
    return BetaFit(
        dict(fit.parameters),
        fit.objective,
        fit.log_likelihood,
        np.nan,
        fit.n_iterations,
        fit.status,
        log_odds,
    )


def _with_the_guide(columns: GuideColumns, depth: np.ndarray, model: DepthModel) -> Fitted:
    """Fit each guide on the cells that have it."""
    fits = [
        compiled_depth(
            _alone(columns, guide),
            depth[_cells(columns, guide)],
            model,
            "consistent",
            SEARCH,
            1,
        )
        for guide in range(columns.n_guides)
    ]
    names = DEPTH_NAMES[model]
    if not fits:
        return from_reference([], names, [])
    parts = (
        np.concatenate([getattr(fit, field.name) for fit in fits]) for field in fields(Fitted)[1:]
    )
    return Fitted(names, *parts)


def _cells(columns: GuideColumns, guide: int) -> np.ndarray:
    return columns.cells[columns.ptr[guide] : columns.ptr[guide + 1]]


def _alone(columns: GuideColumns, guide: int) -> GuideColumns:
    counts = columns.counts[columns.ptr[guide] : columns.ptr[guide + 1]]
    return GuideColumns(len(counts), np.array([0, len(counts)]), np.arange(len(counts)), counts)


def _reference(columns: GuideColumns, depth: np.ndarray, model: CountModel) -> Fitted:
    rows, odds = [], []
    for guide in range(columns.n_guides):
        counts = _alone(columns, guide).counts
        rows.append(reference.fit_kaichi(model, columns.dense(guide), depth))
        odds.append(np.full(len(counts), np.nan))
        if rows[-1].parameters:
            at = depth[_cells(columns, guide)]
            odds[-1] = reference.log_odds_kaichi(counts, at, rows[-1])
    return from_reference(rows, NAMES[model], odds)
