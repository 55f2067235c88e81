"""Fits of ``beta2`` and ``beta3`` to the largest guide proportion of each cell.

Reference: ``reference.beta_mixtures``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

import reference.beta_mixtures as reference
from crispyx._kernels import beta_mixtures as kernel
from crispyx._stats.mixtures import DEFAULT_SEARCH, NO_SEPARATION, NOT_CONVERGED, Search
from crispyx.settings import Engine
from reference.mixtures import bic_difference

BetaModel = Literal["beta2", "beta3"]
LOWEST, HIGHEST = 1e-4, 0.9999
GRID = np.linspace(LOWEST, HIGHEST, 9999)
CONCENTRATION = {"beta2": (0.6, 0.4), "beta3": (0.3, 0.3, 0.4)}
# Weights, a, b: crispat's start, then narrow and wide cells at other places.
STARTS = {
    "beta2": (
        (0.5, 0.5, 1, 10, 10, 1),
        (0.5, 0.5, 4, 9, 4, 1),
        (0.5, 0.5, 20, 10, 20, 0.5),
        (0.5, 0.5, 2, 30, 2, 1),
        (0.5, 0.5, 5, 10, 5, 1),
        (0.1, 0.9, 10, 20, 10, 0.5),
        (0.5, 0.5, 1, 1, 3, 1),
        (0.5, 0.5, 20, 50, 20, 1),
    ),
    "beta3": (
        (0.3, 0.3, 0.4, 1, 10, 10, 10, 10, 1),
        (0.3, 0.3, 0.4, 2, 20, 10, 6, 20, 0.5),
        (0.3, 0.3, 0.4, 3, 15, 13, 5, 10, 0.4),
        (0.3, 0.3, 0.4, 5, 15, 30, 5, 5, 0.5),
        (0.1, 0.2, 0.7, 3, 10, 20, 10, 10, 1),
        (0.2, 0.4, 0.4, 5, 10, 50, 10, 2, 1),
        (0.1, 0.4, 0.5, 5, 5, 50, 5, 1, 0.5),
        (0.3, 0.3, 0.4, 10, 30, 60, 30, 10, 1),
    ),
}


@dataclass(frozen=True)
class BetaFit:
    """One mixture for all cells.

    Attributes
    ----------
    parameters : dict of str to float
        ``weight_k``, ``a_k``, ``b_k``, components in the order of their means, the last is signal.
    objective, log_likelihood, bic_difference : float
        As for one guide of :class:`crispyx._stats.mixtures.GuideFits`.
    n_iterations : int
        Steps of EM over all starts.
    status : str
        ``ok``, ``no_counts``, ``too_few``, ``no_separation``, ``weak`` or ``not_converged``.
    log_odds : numpy.ndarray (n_cells,) float64
        Log-odds of the signal, never falling with the proportion; NaN for a cell without counts.
    """

    parameters: dict[str, float]
    objective: float
    log_likelihood: float
    bic_difference: float
    n_iterations: int
    status: str
    log_odds: np.ndarray


def fit_beta(
    largest: np.ndarray,
    depth: np.ndarray,
    model: BetaModel,
    engine: Engine,
    *,
    priors: bool = True,
    search: Search = DEFAULT_SEARCH,
) -> BetaFit:
    """Fit the proportion ``largest / depth`` of all cells with counts.

    Parameters
    ----------
    largest : numpy.ndarray (n_cells,) int64
        Largest guide count of each cell.
    depth : numpy.ndarray (n_cells,) int64
        Guide UMIs of each cell.
    model : {"beta2", "beta3"}
        Number of components.
    engine : {"compiled", "reference"}
        Which definition runs.
    priors : bool
        False fits by maximum likelihood.
    search : Search
        How long EM climbs, and from where; there are at most eight starts.
    """
    have = depth > 0
    proportions = np.clip(largest[have] / depth[have], LOWEST, HIGHEST)
    x, position, n = np.unique(proportions, return_inverse=True, return_counts=True)
    log_odds = np.full(len(depth), np.nan)
    if len(x) < 2:
        status = "no_counts" if len(x) == 0 else "too_few" if n[0] < 2 else "no_separation"
        return BetaFit({}, np.nan, np.nan, np.nan, 0, status, log_odds)
    if engine == "reference":
        fit = _reference(proportions, model, priors, search)
    else:
        fit = _compiled(x, n, model, priors, search)
    if fit.status == "ok":
        log_odds[have] = _rising_log_odds(x, model, fit.parameters)[position]
    return replace(fit, log_odds=log_odds)


def beta_log_likelihood(
    largest: np.ndarray, depth: np.ndarray, parameters: Mapping[str, float]
) -> float:
    """Return the log likelihood of some cells under a fit of these or others, NaN without one."""
    have = depth > 0
    if not parameters:
        return np.nan
    return reference.log_likelihood(largest[have] / depth[have], parameters)


def beta_log_odds(
    proportions: np.ndarray, model: BetaModel, parameters: Mapping[str, float]
) -> np.ndarray:
    """Return the log-odds of the signal (n,) of proportions, which may fall again."""
    find = reference.log_odds_beta2 if model == "beta2" else reference.log_odds_beta3
    return find(proportions, parameters)


def last_crossing(
    model: BetaModel,
    parameters: Mapping[str, float],
    min_confidence: float,
    *,
    grid: bool = False,
) -> float:
    """Return the proportion above which the posterior exceeds ``min_confidence`` up to 1.

    With ``grid`` by crispat's rule: the first multiple of 0.01 where the signal is densest.
    """
    find = reference.threshold_beta2 if model == "beta2" else reference.threshold_beta3
    return float(find(parameters, min_confidence, grid=grid))


def _reference(proportions: np.ndarray, model: BetaModel, priors: bool, search: Search) -> BetaFit:
    fit_one = reference.fit_beta2 if model == "beta2" else reference.fit_beta3
    fit = fit_one(proportions, priors=priors, **search.reference)
    n_more = 3 * (len(CONCENTRATION[model]) - 1)
    bic = bic_difference(fit.log_likelihood, fit.one_component, len(proportions), n_more)
    return BetaFit(
        dict(fit.parameters),
        fit.objective,
        fit.log_likelihood,
        bic,
        fit.n_iterations,
        fit.status,
        np.empty(0),
    )


def _status(code: int, bic: float) -> str:
    if code == NOT_CONVERGED:
        return "not_converged"
    # When one component is enough the cells do not fall apart, whatever the second one fits.
    return "no_separation" if code == NO_SEPARATION or bic <= 0 else "ok"


def _compiled(
    x: np.ndarray, n: np.ndarray, model: BetaModel, priors: bool, search: Search
) -> BetaFit:
    concentration = np.array(CONCENTRATION[model])
    n_components = len(concentration)
    parameters, scores = np.empty((1, 3 * n_components)), np.empty((1, 3))
    n_iterations, code = np.empty(1, dtype=np.int64), np.empty(1, dtype=np.uint8)
    kernel.fit_beta(
        n_components,
        np.array([0, len(x)]),
        np.log(x),
        np.log1p(-x),
        n.astype(np.float64),
        concentration if priors else np.empty(0),
        np.array(STARTS[model][: search.n_starts], dtype=np.float64),
        search.tolerance,
        search.n_iterations,
        parameters,
        scores,
        n_iterations,
        code,
        1,
    )
    objective, log_likelihood, one_component = scores[0].tolist()
    bic = bic_difference(log_likelihood, one_component, float(n.sum()), 3 * (n_components - 1))
    names = [f"{kind}_{k + 1}" for kind in ("weight", "a", "b") for k in range(n_components)]
    return BetaFit(
        dict(zip(names, parameters[0].tolist(), strict=True)),
        objective,
        log_likelihood,
        bic,
        int(n_iterations[0]),
        _status(int(code[0]), bic),
        np.empty(0),
    )


def _rising_log_odds(x: np.ndarray, model: BetaModel, parameters: dict[str, float]) -> np.ndarray:
    """Return the smallest log-odds at any proportion from each one up to the highest."""
    at = np.union1d(x, GRID)
    rising = np.minimum.accumulate(beta_log_odds(at, model, parameters)[::-1])[::-1]
    found: np.ndarray = rising[np.searchsorted(at, x)]
    return found
