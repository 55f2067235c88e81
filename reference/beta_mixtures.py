"""Mixtures of the largest guide proportion of each cell: ``beta2`` and ``beta3``.

One fit for the whole screen: ``x_i = max_j y_ij / s_i`` is near 1 in a cell with one guide, near
1/2 with two, and anywhere below in a cell that holds ambient guides only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaln, expit, gammaln, logsumexp, polygamma, psi

from reference.mixtures import (
    WEIGHT_FLOOR,
    Climb,
    MixtureFit,
    Vector,
    best_fit,
    bic_difference,
    expectation_maximization,
    log_lognormal_density,
    newton_maximum,
)

CLIP = (1e-4, 0.9999)
LOG_SHAPE_BOUND = math.log(1e3)
CONCENTRATION = {2: np.array([0.6, 0.4]), 3: np.array([0.3, 0.3, 0.4])}
# (a, b) of each component, the signal last. The first start of each is crispat's.
STARTS = {
    2: (((1, 10), (10, 1)), ((4, 4), (9, 1)), ((20, 20), (10, 0.5)), ((2, 2), (30, 1))),
    3: (
        ((1, 10), (10, 10), (10, 1)),
        ((2, 6), (20, 20), (10, 0.5)),
        ((3, 5), (15, 10), (13, 0.4)),
        ((5, 5), (15, 5), (30, 0.5)),
    ),
}


class Proportions(NamedTuple):
    """Distinct proportions: their logarithms, those of the rest to 1, and numbers of cells."""

    log_x: Vector
    log_rest: Vector
    n_cells: Vector


def fit_beta2(
    proportions: ArrayLike,
    *,
    priors: bool = True,
    n_starts: int | None = None,
    tolerance: float = 1e-10,
    max_iterations: int = 5000,
) -> MixtureFit:
    r"""Fit two Beta components to the largest proportion of each cell.

    .. math::  f(x) = \sum_{k=1}^{K} w_k \, \frac{x^{a_k - 1} (1 - x)^{b_k - 1}}{B(a_k, b_k)}

    with priors :math:`w \sim \mathrm{Dir}(.6, .4)` and :math:`a_k, b_k \sim \mathrm{LogN}(1, 1)`.
    The last component, that of the largest mean, is the signal; it is admissible when its
    :math:`b` is the smallest, so that it is the densest towards 1, and no shape is at its bounds,
    :math:`10^{-3}` and :math:`10^3`: that component would explain the cells clipped at an end.

    Parameters
    ----------
    proportions : (n_cells,) float64 in [0, 1], clipped to [1e-4, 0.9999]; NaN (a cell without
        guide UMIs) is left out
    priors : False fits by maximum likelihood
    n_starts : climb from no more than these of the starts; None takes all
    tolerance : of the parameters, relative
    max_iterations : EM iterations of each start

    Returns
    -------
    MixtureFit with parameters ``weight_k``, ``a_k``, ``b_k`` in the order of the means; the status
    is ``no_separation`` when the BIC of a single Beta is at most that of the mixture.

    Notes
    -----
    Source: model of crispat (Braunger and Velten, Bioinformatics 40, 2024, btae535).
    """
    return _fit(2, proportions, priors, n_starts, tolerance, max_iterations)


def fit_beta3(
    proportions: ArrayLike,
    *,
    priors: bool = True,
    n_starts: int | None = None,
    tolerance: float = 1e-10,
    max_iterations: int = 5000,
) -> MixtureFit:
    r"""Fit three Beta components, with :math:`w \sim \mathrm{Dir}(.3, .3, .4)`.

    Parameters
    ----------
    proportions, priors, n_starts, tolerance, max_iterations : as in :func:`fit_beta2`

    Returns
    -------
    MixtureFit as of :func:`fit_beta2`.
    """
    return _fit(3, proportions, priors, n_starts, tolerance, max_iterations)


def log_odds_beta2(proportions: ArrayLike, parameters: Mapping[str, float]) -> Vector:
    """Log odds of the last component over all others together.

    Parameters
    ----------
    proportions : (n_cells,) float64
    parameters : of :func:`fit_beta2`

    Returns
    -------
    (n_cells,) float64, natural log; NaN where the proportion is
    """
    return _log_odds(proportions, _vector(parameters, 2))


def log_odds_beta3(proportions: ArrayLike, parameters: Mapping[str, float]) -> Vector:
    """Log odds of the last component; see :func:`log_odds_beta2`."""
    return _log_odds(proportions, _vector(parameters, 3))


def posterior_beta2(proportions: ArrayLike, parameters: Mapping[str, float]) -> Vector:
    """Probability of the signal, (n_cells,) float64; see :func:`log_odds_beta2`."""
    return expit(log_odds_beta2(proportions, parameters))


def posterior_beta3(proportions: ArrayLike, parameters: Mapping[str, float]) -> Vector:
    """Probability of the signal, (n_cells,) float64; see :func:`log_odds_beta2`."""
    return expit(log_odds_beta3(proportions, parameters))


def threshold_beta2(
    parameters: Mapping[str, float], min_confidence: float = 0.5, *, grid: bool = False
) -> float:
    """Find the proportion above which a cell's largest guide is called.

    Parameters
    ----------
    parameters : of :func:`fit_beta2`
    min_confidence : of the posterior
    grid : crispat's rule instead: the first of 0.01, 0.02, ..., 0.99 (from 0.50 on for ``beta3``)
        at which the last component has the largest weighted density of all

    Returns
    -------
    The last crossing: above it the posterior exceeds ``min_confidence`` up to 1, so that the call
    is monotone. 0 where that is so everywhere, 1 where it is nowhere.
    """
    return _threshold(_vector(parameters, 2), min_confidence, grid)


def threshold_beta3(
    parameters: Mapping[str, float], min_confidence: float = 0.5, *, grid: bool = False
) -> float:
    """Find the proportion above which a cell is called; see :func:`threshold_beta2`."""
    return _threshold(_vector(parameters, 3), min_confidence, grid)


def log_likelihood(proportions: ArrayLike, parameters: Mapping[str, float]) -> float:
    """Log likelihood of some cells under a fit of these or others.

    Parameters
    ----------
    proportions : (n_cells,) float64; NaN is left out
    parameters : of :func:`fit_beta2` or :func:`fit_beta3`
    """
    x = np.asarray(proportions, dtype=np.float64)
    x, n = np.unique(np.clip(x[np.isfinite(x)], *CLIP), return_counts=True)
    data = Proportions(np.log(x), np.log1p(-x), n.astype(np.float64))
    return _likelihood(data, _vector(parameters, len(parameters) // 3))


def _fit(
    k: int,
    proportions: ArrayLike,
    priors: bool,
    n_starts: int | None,
    tolerance: float,
    max_iterations: int,
) -> MixtureFit:
    x = np.asarray(proportions, dtype=np.float64)
    x, n = np.unique(np.clip(x[np.isfinite(x)], *CLIP), return_counts=True)
    if x.size < 2:
        closed = "no_separation" if n.sum() > 1 else "too_few" if n.sum() else "no_counts"
        return MixtureFit(f"beta{k}", closed)
    data = Proportions(np.log(x), np.log1p(-x), n.astype(np.float64))

    def objective(theta: Vector) -> float:
        return _likelihood(data, theta) + (_prior(theta) if priors else 0.0)

    climbs: list[Climb] = []
    for shapes in STARTS[k][:n_starts]:
        start = np.concatenate([np.full(k, 1.0 / k), np.log(np.array(shapes, float)).ravel()])
        climb = expectation_maximization(
            start, lambda theta: _update(data, theta, priors), objective, tolerance, max_iterations
        )
        ordered = _by_mean(climb.theta)
        if _admissible(ordered):
            climbs.append(climb._replace(theta=ordered))
    one_beta = _likelihood(data, _update(data, np.array([1.0, 0.0, 0.0]), False))

    def status(climb: Climb) -> str:
        likelihood, n = _likelihood(data, climb.theta), data.n_cells.sum()
        if bic_difference(likelihood, one_beta, n, 3 * (k - 1)) <= 0:
            return "no_separation"
        return "ok" if climb.converged else "not_converged"

    fit = best_fit(f"beta{k}", climbs, status, _named, lambda t: _likelihood(data, t))
    return replace(fit, one_component=one_beta)


def _split(theta: Vector) -> tuple[Vector, NDArray[np.float64]]:
    """Weights (K,) and shapes (K, 2) of theta: K weights, then log a and log b of each."""
    k = theta.size // 3
    return theta[:k], np.exp(theta[k:]).reshape(k, 2)


def _by_mean(theta: Vector) -> Vector:
    weights, shapes = _split(theta)
    order = np.argsort(shapes[:, 0] / shapes.sum(axis=1))
    return np.concatenate([weights[order], np.log(shapes[order]).ravel()])


def _admissible(theta: Vector) -> bool:
    weights, shapes = _split(theta)
    bounded = np.all(np.abs(theta[weights.size :]) < LOG_SHAPE_BOUND - 1e-6)
    densest = np.all(shapes[:-1, 1] > shapes[-1, 1])
    return bool(bounded and densest and np.all(weights > 2.0 * WEIGHT_FLOOR))


def _named(theta: Vector) -> dict[str, float]:
    weights, shapes = _split(theta)
    columns = {"weight": weights, "a": shapes[:, 0], "b": shapes[:, 1]}
    return {
        f"{name}_{j + 1}": float(v)
        for name, column in columns.items()
        for j, v in enumerate(column)
    }


def _vector(parameters: Mapping[str, float], k: int) -> Vector:
    weights = [parameters[f"weight_{j}"] for j in range(1, k + 1)]
    shapes = [parameters[f"{name}_{j}"] for j in range(1, k + 1) for name in ("a", "b")]
    return np.concatenate([weights, np.log(shapes)])


def _terms(log_x: Vector, log_rest: Vector, theta: Vector) -> NDArray[np.float64]:
    """Log of weight times density, (K, n)."""
    weights, shapes = _split(theta)
    a, b = shapes[:, :1], shapes[:, 1:]
    return np.log(weights)[:, None] + (a - 1.0) * log_x + (b - 1.0) * log_rest - betaln(a, b)


def _likelihood(data: Proportions, theta: Vector) -> float:
    return float(data.n_cells @ logsumexp(_terms(data.log_x, data.log_rest, theta), axis=0))


def _prior(theta: Vector) -> float:
    weights, shapes = _split(theta)
    c = CONCENTRATION[weights.size]
    dirichlet = gammaln(c.sum()) - gammaln(c).sum() + (c - 1.0) @ np.log(weights)
    return float(dirichlet) + sum(log_lognormal_density(s, 1.0, 1.0) for s in shapes.ravel())


def _log_odds(proportions: ArrayLike, theta: Vector) -> Vector:
    x = np.clip(np.asarray(proportions, dtype=np.float64), *CLIP)
    terms = _terms(np.log(x), np.log1p(-x), theta)
    return terms[-1] - logsumexp(terms[:-1], axis=0)


def _update(data: Proportions, theta: Vector, priors: bool) -> Vector:
    """One step of EM."""
    terms = _terms(data.log_x, data.log_rest, theta)
    shares = np.exp(terms - logsumexp(terms, axis=0)) * data.n_cells
    k, sizes = shares.shape[0], shares.sum(axis=1)
    pseudo = CONCENTRATION[k] - 1.0 if priors else np.zeros(k)
    weights = np.maximum((sizes + pseudo) / (sizes + pseudo).sum(), WEIGHT_FLOOR)
    bound = np.full(2, LOG_SHAPE_BOUND)
    parts = [weights / weights.sum()]
    for j in range(k):
        sums = (sizes[j], float(shares[j] @ data.log_x), float(shares[j] @ data.log_rest))
        start = theta[k + 2 * j : k + 2 * j + 2]
        parts.append(newton_maximum(_Component(*sums, priors).slopes, start, (-bound, bound)))
    return np.concatenate(parts)


class _Component(NamedTuple):
    """Expected complete log likelihood of one component, from its three sums."""

    size: float
    sum_log_x: float
    sum_log_rest: float
    priors: bool

    def slopes(self, v: Vector) -> tuple[float, Vector, NDArray[np.float64]]:
        """Value, gradient and Hessian in (log a, log b)."""
        shapes = np.exp(v)
        sums = np.array([self.sum_log_x, self.sum_log_rest])
        value = float((shapes - 1.0) @ sums - self.size * betaln(*shapes))
        gradient = shapes * (sums + self.size * (psi(shapes.sum()) - psi(shapes)))
        curvature = polygamma(1, shapes.sum()) - np.diag(polygamma(1, shapes))
        hessian = self.size * np.outer(shapes, shapes) * curvature + np.diag(gradient)
        if not self.priors:
            return value, gradient, hessian
        # LogN(1, 1) in v = log shape, evaluated at the shape itself: -v - (v - 1)^2 / 2.
        return value - float((v + (v - 1.0) ** 2 / 2.0).sum()), gradient - v, hessian - np.eye(2)


def _threshold(theta: Vector, min_confidence: float, grid: bool) -> float:
    if grid:
        t = np.arange(1 if theta.size == 6 else 50, 100) / 100.0
        terms = _terms(np.log(t), np.log1p(-t), theta)
        first = np.flatnonzero(terms.argmax(axis=0) == terms.shape[0] - 1)
        return float(t[first[0]]) if first.size else 1.0
    if min_confidence >= 1.0:
        return 1.0
    at = math.log(min_confidence) - math.log1p(-min_confidence) if min_confidence > 0 else -math.inf
    x = np.linspace(*CLIP, 9999)
    below = np.flatnonzero(~(_log_odds(x, theta) > at))
    if below.size == 0:
        return 0.0
    last = int(below[-1])
    if last == x.size - 1:
        return 1.0
    low, high = x[last], x[last + 1]
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (low, middle) if _log_odds([middle], theta)[0] > at else (middle, high)
    return float(high)
