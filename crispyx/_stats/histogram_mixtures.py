"""Fits of ``poisson_gauss`` and ``gauss`` for every guide of a screen.

Reference: ``reference.histogram_mixtures``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

import reference.histogram_mixtures as reference
from crispyx._kernels import histogram_mixtures as kernel
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

HistogramModel = Literal["poisson_gauss", "gauss"]
NAMES = {
    "poisson_gauss": ("weight", "mean", "sd", "rate"),
    "gauss": ("weight", "mean_signal", "sd", "mean_background"),
}
SD_FLOOR = {"poisson_gauss": 0.5, "gauss": 1e-3}
N_STARTS = 6
TABLE = 4096  # every whole number up to it takes part in the monotone log-odds


def fit_histogram(
    columns: GuideColumns,
    model: HistogramModel,
    engine: Engine,
    n_threads: int = 1,
    *,
    priors: bool = True,
    search: Search = DEFAULT_SEARCH,
) -> GuideFits:
    """Fit every guide on its own counts.

    Parameters
    ----------
    columns : GuideColumns
        Counts by guide.
    model : {"poisson_gauss", "gauss"}
        Which mixture.
    engine : {"compiled", "reference"}
        Which definition runs.
    n_threads : int
        Threads of the kernels.
    priors : bool
        ``poisson_gauss``: False fits by maximum likelihood.
    search : Search
        How long EM climbs, and from where.
    """
    status = gate(columns)
    passing, kept = columns.take(status == "ok")
    fit: Callable[..., Fitted] = _reference if engine == "reference" else compiled_histogram
    fitted = fit(passing, model, priors, search, n_threads)
    n = np.diff(passing.ptr) if model == "poisson_gauss" else columns.n_cells
    return assemble(columns, status, kept, fitted, np.broadcast_to(n, passing.n_guides), 2)


def log_likelihoods(
    columns: GuideColumns, model: HistogramModel, parameters: np.ndarray, n_threads: int
) -> np.ndarray:
    """Return the log likelihood (n_guides,) of the counts under given parameters, NaN where NaN.

    Parameters
    ----------
    columns : GuideColumns
        Counts by guide.
    model : {"poisson_gauss", "gauss"}
        Which mixture.
    parameters : numpy.ndarray (n_guides, 4) float64
        In the order of ``NAMES``.
    n_threads : int
        Threads of the kernels.
    """
    from scipy.special import xlogy

    bins = Bins.of(columns.ptr, columns.counts, n_threads)
    if model == "gauss":
        bins = _with_zeros(bins, columns)
    x = np.log2(bins.keys) if model == "poisson_gauss" else np.log10(bins.keys + 1.0)
    weight, mean, sd, other = (bins.by_guide(column) for column in parameters.T)
    constant = np.log(sd) + 0.5 * np.log(2 * np.pi)
    signal = np.log(weight) - 0.5 * ((x - mean) / sd) ** 2 - constant
    background = np.log1p(-weight)
    if model == "poisson_gauss":
        background += xlogy(x, other) - other - _log_factorial(x)
    else:
        background += -0.5 * ((x - other) / sd) ** 2 - constant
    terms = bins.n * np.logaddexp(signal, background)
    guide = np.repeat(np.arange(columns.n_guides), np.diff(bins.ptr))
    total: np.ndarray = np.bincount(guide, weights=terms, minlength=columns.n_guides)
    return total


def first_counts(
    model: HistogramModel,
    parameters: Mapping[str, np.ndarray],
    min_confidence: float,
    upto: np.ndarray,
) -> np.ndarray:
    """Return the first count of every guide with a posterior above ``min_confidence``.

    Parameters
    ----------
    model : {"poisson_gauss", "gauss"}
        Which mixture.
    parameters : mapping of str to numpy.ndarray (n_guides,)
        By the names in ``NAMES``.
    min_confidence : float
        Posterior probability.
    upto : numpy.ndarray (n_guides,) float64
        A count known to pass, the answer when no whole number up to 4096 does; NaN if none does.

    Returns
    -------
    numpy.ndarray (n_guides,) float64
        NaN where ``upto`` or a parameter is.
    """
    first = upto.copy()
    find = reference.posterior_poisson_gauss
    if model == "gauss":
        find = reference.posterior_gauss
    values = np.column_stack([parameters[name] for name in NAMES[model]])
    first[np.isnan(values).any(axis=1)] = np.nan
    for guide in np.flatnonzero(~np.isnan(first)):
        counts = np.arange(1, min(int(upto[guide]), TABLE) + 1)
        row = dict(zip(NAMES[model], values[guide], strict=True))
        above = np.flatnonzero(find(counts, row) > min_confidence)
        if len(above):
            first[guide] = counts[above[0]]
    return first


def compiled_histogram(
    columns: GuideColumns, model: HistogramModel, priors: bool, search: Search, n_threads: int
) -> Fitted:
    """Fit guides that pass the gate in the kernel; see :func:`fit_histogram`."""
    bins = Bins.of(columns.ptr, columns.counts, n_threads)
    n_guides = columns.n_guides
    parameters, scores = np.empty((n_guides, 4)), np.empty((n_guides, 3))
    n_iterations = np.empty(n_guides, dtype=np.int64)
    code = np.empty(n_guides, dtype=np.uint8)
    n_starts = search.n_starts or N_STARTS
    if model == "poisson_gauss":
        x = np.log2(bins.keys)
        log_factorial = _log_factorial(x)
        kernel.fit_poisson_gauss(
            bins.ptr,
            x,
            bins.n,
            log_factorial,
            priors,
            SD_FLOOR[model],
            n_starts,
            search.tolerance,
            search.n_iterations,
            parameters,
            scores,
            n_iterations,
            code,
            n_threads,
        )
        odds = _poisson_gauss_log_odds(bins, x, log_factorial, parameters, n_threads)
    else:
        with_zeros = _with_zeros(bins, columns)
        x = np.log10(with_zeros.keys + 1.0)
        kernel.fit_gauss(
            with_zeros.ptr,
            x,
            with_zeros.n,
            SD_FLOOR[model],
            n_starts,
            search.tolerance,
            search.n_iterations,
            parameters,
            scores,
            n_iterations,
            code,
            n_threads,
        )
        weight, high, sd, low = (bins.by_guide(column) for column in parameters.T)
        x = np.log10(bins.keys + 1.0)
        odds = np.log(weight) - np.log1p(-weight) + (high - low) * (x - (low + high) / 2) / sd**2
    log_odds = bins.spread(odds, columns.ptr, columns.counts, n_threads)
    objective, log_likelihood, one = scores.T.copy()
    return Fitted(
        NAMES[model], parameters, objective, log_likelihood, one, n_iterations, code, log_odds
    )


def _with_zeros(bins: Bins, columns: GuideColumns) -> Bins:
    n_zero = columns.n_cells - np.diff(columns.ptr)
    have = n_zero > 0
    place = bins.ptr[:-1][have]
    ptr = bins.ptr + np.concatenate([[0], np.cumsum(have)])
    return Bins(ptr, np.insert(bins.keys, place, 0), np.insert(bins.n, place, n_zero[have]))


def _log_factorial(x: np.ndarray) -> np.ndarray:
    from scipy.special import gammaln

    log_factorial: np.ndarray = gammaln(x + 1.0)
    return log_factorial


def _poisson_gauss_log_odds(
    bins: Bins, x: np.ndarray, log_factorial: np.ndarray, parameters: np.ndarray, n_threads: int
) -> np.ndarray:
    table = np.log2(np.arange(1.0, min(int(bins.keys.max(initial=1)), TABLE) + 1))
    odds = np.empty(len(x))
    kernel.poisson_gauss_log_odds(
        bins.ptr,
        bins.keys.astype(np.float64),
        x,
        log_factorial,
        table,
        _log_factorial(table),
        parameters,
        odds,
        n_threads,
    )
    return odds


def _reference(
    columns: GuideColumns, model: HistogramModel, priors: bool, search: Search, _: int
) -> Fitted:
    rows, odds = [], []
    for guide in range(columns.n_guides):
        dense = columns.dense(guide)
        if model == "poisson_gauss":
            fit = reference.fit_poisson_gauss(dense, priors=priors, **search.reference)
            find_odds = reference.log_odds_poisson_gauss
        else:
            fit = reference.fit_gauss(dense, **search.reference)
            find_odds = reference.log_odds_gauss
        counts = columns.counts[columns.ptr[guide] : columns.ptr[guide + 1]]
        odds.append(np.full(len(counts), np.nan))
        if fit.parameters:
            odds[-1] = _monotone(counts, find_odds, fit.parameters)
        rows.append(fit)
    return from_reference(rows, NAMES[model], odds)


def _monotone(
    counts: np.ndarray, find_odds: Callable[..., np.ndarray], parameters: Mapping[str, float]
) -> np.ndarray:
    """Return the largest log-odds at any whole number up to each count."""
    low = np.arange(1, min(int(counts.max()), TABLE) + 1)
    at = np.union1d(low, counts)
    rising: np.ndarray = np.maximum.accumulate(find_odds(at, parameters))
    return rising[np.searchsorted(at, counts)]
