r"""``poisson``, ``neg_binomial`` and ``binomial`` of a screen made in several batches.

Lanes differ in ambient RNA and capture, so each batch :math:`b` has its own background, while what
a guide adds is the same everywhere. Rates (odds for ``binomial``) per guide UMI are

.. math::  e^{c_b} \text{ (background)}, \qquad e^{c_b + b_1} \text{ (signal)}, \qquad
           c_b = b_0 + g_b, \quad g_b \sim N(0, 1)

with one share of signal cells and one dispersion. The batch effects :math:`g_b` are shrunken
towards each other: where a batch has no background counts to speak of, its rate is that of the
others. Without priors :math:`b_0` is free; with them :math:`b_0 \sim N(0, v)` and the rest is as in
:mod:`reference.depth_mixtures`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from reference.depth_mixtures import (
    BOUNDS,
    MODELS,
    NAMES,
    SMALLEST_GAP,
    Cells,
    CountModel,
    Derivatives,
    _fit,
    _moments,
)
from reference.mixtures import (
    Climb,
    MixtureFit,
    Vector,
    best_fit,
    clip_weight,
    expectation_maximization,
    gate,
    hard_splits,
    log_beta_density,
    log_lognormal_density,
    log_normal_density,
    newton_maximum,
    status_of_guide,
)

LARGEST_GAP = 50.0
FIRST = 3  # theta: weight, b_1, log dispersion, then c_b of every batch


class BatchFit(NamedTuple):
    """A fit, whose background is :math:`b_0`, and the effect :math:`g_b` (n_batches,) of each."""

    fit: MixtureFit
    effects: Vector


class _Data(NamedTuple):
    model: CountModel
    cells: Cells
    batch: NDArray[np.int64]
    n_batches: int
    priors: bool


def fit_batch_effects(
    model: str,
    counts: ArrayLike,
    depth: ArrayLike,
    batch: ArrayLike,
    *,
    priors: bool = False,
    n_starts: int | None = None,
    tolerance: float = 1e-10,
    max_iterations: int = 1000,
) -> BatchFit:
    r"""Fit one guide in all batches together.

    Maximized is the log likelihood less :math:`\frac12 \sum_b g_b^2`, with priors plus their log
    densities. The first start is the fit without batch effects, so the result is never worse.

    Parameters
    ----------
    model : ``poisson``, ``neg_binomial`` or ``binomial``
    counts : (n_cells,) int, UMI, zeros included
    depth : (n_cells,) int, guide UMIs of each cell, ``counts`` included
    batch : (n_cells,) int, 0 to n_batches - 1
    priors : add the log priors to what is maximized
    n_starts : climb from no more than these of the further starts; None takes all
    tolerance : of the parameters, relative
    max_iterations : EM iterations of each start

    Returns
    -------
    BatchFit; its parameters have the names of :mod:`reference.depth_mixtures`, the background rate
    being that of a batch without effect.

    Notes
    -----
    Source: model of crispat (Braunger and Velten, Bioinformatics 40, 2024, btae535).
    """
    kind, y, of = MODELS[model], np.asarray(counts), np.asarray(batch, dtype=np.int64)
    n_batches = int(of.max(initial=-1)) + 1
    closed = gate(y)
    if closed is not None:
        return BatchFit(MixtureFit(model, closed), np.full(n_batches, np.nan))
    data = _group(kind, y, np.asarray(depth), of, n_batches, priors)
    climbs: list[Climb] = []
    for start in _starts(data, y, np.asarray(depth), n_starts):
        climb = expectation_maximization(
            start,
            lambda theta: _update(data, expit(_odds(data, theta)), theta),
            lambda theta: _likelihood(data, theta) + _penalty(data, theta),
            tolerance,
            max_iterations,
        )
        if climb.theta[1] > SMALLEST_GAP and 2e-9 < climb.theta[0] < 1.0 - 2e-9:
            climbs.append(climb)
    fit = best_fit(
        model,
        climbs,
        lambda climb: status_of_guide(y, climb),
        lambda theta: _named(data, theta),
        lambda theta: _likelihood(data, theta),
        _one_component(data),
        data.cells.n_cells.sum(),
    )
    if not climbs:
        return BatchFit(fit, np.full(n_batches, np.nan))
    best = max(climbs, key=lambda climb: climb.objective).theta
    return BatchFit(fit, best[FIRST:] - _intercept(data, best[FIRST:]))


def log_odds_batch_effects(
    counts: ArrayLike,
    depth: ArrayLike,
    batch: ArrayLike,
    fitted: BatchFit,
    exposure: str = "consistent",
) -> Vector:
    """Log odds of signal over background, each cell at the background of its batch.

    Parameters
    ----------
    counts, depth : (n_cells,) int, UMI of the guide and of all guides
    batch : (n_cells,) int
    fitted : of :func:`fit_batch_effects`
    exposure : as in :func:`reference.depth_mixtures.log_odds_poisson`

    Returns
    -------
    (n_cells,) float64, natural log
    """
    kind, of = MODELS[fitted.fit.model], np.asarray(batch, dtype=np.int64)
    y, s = np.asarray(counts, dtype=np.float64), np.asarray(depth, dtype=np.float64)
    cells = Cells(y, s + (kind.offset if exposure == "consistent" else 0.0), np.ones(y.shape))
    data = _Data(kind, cells, of, len(fitted.effects), False)
    return _odds(data, _theta(kind, fitted.fit.parameters, fitted.effects))


def _theta(model: CountModel, parameters: Mapping[str, float], effects: Vector) -> Vector:
    weight, low, high, *dispersion = (parameters[name] for name in NAMES[model.name])
    u = math.log(dispersion[0]) if dispersion else 0.0
    return np.concatenate([[weight, high - low, u], low + effects])


def _named(data: _Data, theta: Vector) -> dict[str, float]:
    low = _intercept(data, theta[FIRST:])
    values = [theta[0], low, low + theta[1], math.exp(theta[2])]
    return {name: float(v) for name, v in zip(NAMES[data.model.name], values, strict=False)}


def _group(
    model: CountModel,
    y: Vector,
    depth: Vector,
    batch: NDArray[np.int64],
    n_batches: int,
    priors: bool,
) -> _Data:
    seen = depth > 0 if model.offset == 0.0 else np.ones(depth.shape, dtype=bool)
    keys = np.stack([y[seen], depth[seen], batch[seen]])
    alike, n = np.unique(keys, axis=1, return_counts=True)
    cells = Cells(alike[0].astype(np.float64), alike[1] + model.offset, n.astype(np.float64))
    return _Data(model, cells, alike[2], n_batches, priors)


def _starts(data: _Data, y: Vector, depth: Vector, n_starts: int | None) -> list[Vector]:
    none = np.zeros(data.n_batches)
    pooled = _fit(data.model, y, depth, False, n_starts, 1e-10, 1000)
    starts = [_theta(data.model, pooled.parameters, none)] if pooled.parameters else []
    for r in hard_splits(data.cells.y, n_starts):
        weight, low, high, _ = _moments(data.model, data.cells, r)
        gap = min(max(high - low, 1.0), LARGEST_GAP)
        start = np.concatenate([[weight, gap, 0.0], low + none])
        starts.append(_update(data, r, start))
    return starts


def _intercept(data: _Data, c: Vector) -> float:
    """Return the best b_0 given the background of each batch."""
    return float(c.sum() / (data.n_batches + _intercept_precision(data)))


def _intercept_precision(data: _Data) -> float:
    return 1.0 / data.model.intercept_variance if data.priors else 0.0


def _penalty(data: _Data, theta: Vector) -> float:
    weight, gap, u = theta[:FIRST]
    b0 = _intercept(data, theta[FIRST:])
    effects = theta[FIRST:] - b0
    if not data.priors:
        return -0.5 * float(effects @ effects)
    total = log_beta_density(weight, 1.0, 10.0) + log_lognormal_density(gap, 1.0, 2.0)
    total += float(log_normal_density(b0, 0.0, math.sqrt(data.model.intercept_variance)))
    total += float(log_normal_density(effects, 0.0, 1.0).sum())
    return total + (log_lognormal_density(math.exp(u), 1.0, 1.0) if data.model.dispersed else 0.0)


def _density(data: _Data, c: Vector, gap: float, u: float) -> Vector:
    """Log density of every group of cells at the rate of its batch, times ``exp(gap)``."""
    value = np.empty(data.cells.y.size)
    for b in range(data.n_batches):
        here = data.batch == b
        cells = Cells(*(column[here] for column in data.cells))
        value[here] = data.model.log_density(cells, c[b] + gap, u)
    return value


def _odds(data: _Data, theta: Vector) -> Vector:
    weight, gap, u = theta[:FIRST]
    signal, background = (_density(data, theta[FIRST:], g, u) for g in (gap, 0.0))
    return math.log(weight) - math.log1p(-weight) + signal - background


def _likelihood(data: _Data, theta: Vector) -> float:
    weight, gap, u = theta[:FIRST]
    signal = math.log(weight) + _density(data, theta[FIRST:], gap, u)
    background = math.log1p(-weight) + _density(data, theta[FIRST:], 0.0, u)
    return float(data.cells.n_cells @ np.logaddexp(signal, background))


def _update(data: _Data, r: Vector, theta: Vector) -> Vector:
    n = data.cells.n_cells
    size, total = float(n @ r), float(n.sum())
    weight = clip_weight(size / (total + 9.0) if data.priors else size / total)
    used = _free(data)

    def derivatives(free: Vector) -> Derivatives:
        at = theta[1:].copy()
        at[used] = free
        value, gradient, hessian = _expected(data, r, at)
        return value, gradient[used], hessian[np.ix_(used, used)]

    low, high = _bounds(data)
    found = theta[1:].copy()
    found[used] = newton_maximum(derivatives, found[used], (low[used], high[used]))
    return np.concatenate([[weight], found])


def _free(data: _Data) -> NDArray[np.int64]:
    """Return which of (b_1, log dispersion, c_b) the model has."""
    everything = np.arange(2 + data.n_batches)
    return everything if data.model.dispersed else np.delete(everything, 1)


def _bounds(data: _Data) -> tuple[Vector, Vector]:
    low = np.concatenate([[SMALLEST_GAP / 10, BOUNDS[0][2]], np.full(data.n_batches, BOUNDS[0][0])])
    high = np.concatenate([[LARGEST_GAP, BOUNDS[1][2]], np.full(data.n_batches, BOUNDS[1][0])])
    return low, high


def _expected(data: _Data, r: Vector, free: Vector) -> Derivatives:
    """Sum up the complete log likelihood and the penalty in (b_1, log dispersion, c_b)."""
    gap, u, c = float(free[0]), float(free[1]), free[2:]
    value, gradient, hessian = _penalty_slopes(data, free)
    for b in range(data.n_batches):
        here, k = data.batch == b, 2 + b
        cells = Cells(*(column[here] for column in data.cells))
        for signal, share in ((0, 1.0 - r[here]), (1, r[here])):
            weights, t = cells.n_cells * share, c[b] + signal * gap
            slopes = [float(weights @ slope) for slope in data.model.slopes(cells, t, u)]
            value += float(weights @ data.model.log_density(cells, t, u))
            moved = [k, 0][: 1 + signal]  # t moves with c_b, in the signal with b_1 too
            gradient[moved] += slopes[0]
            hessian[np.ix_(moved, moved)] += slopes[1]
            if data.model.dispersed:
                gradient[1] += slopes[2]
                hessian[1, 1] += slopes[3]
                hessian[1, moved] += slopes[4]
                hessian[moved, 1] += slopes[4]
    return value, gradient, hessian


def _penalty_slopes(data: _Data, free: Vector) -> Derivatives:
    n, precision = data.n_batches, _intercept_precision(data)
    gap, u, c = float(free[0]), float(free[1]), free[2:]
    b0 = _intercept(data, c)
    gradient, hessian = np.zeros(2 + n), np.zeros((2 + n, 2 + n))
    value = -0.5 * float((c - b0) @ (c - b0)) - 0.5 * precision * b0**2
    gradient[2:] = b0 - c
    hessian[2:, 2:] = 1.0 / (n + precision) - np.eye(n)
    if data.priors:
        log_gap = math.log(gap)
        value -= log_gap + (log_gap - 1.0) ** 2 / 8.0
        gradient[0] = -(1.0 + (log_gap - 1.0) / 4.0) / gap
        hessian[0, 0] = (-gradient[0] - 0.25 / gap) / gap
    if data.priors and data.model.dispersed:
        value -= u + (u - 1.0) ** 2 / 2.0
        gradient[1], hessian[1, 1] = -u, -1.0
    return value, gradient, hessian


def _one_component(data: _Data) -> float:
    """Log likelihood of background alone, with its batch effects."""
    none = np.zeros(data.cells.y.size)
    used = _free(data)[1:]
    theta = np.concatenate([[1.0, 0.0], np.zeros(data.n_batches)])
    theta[2:] = _moments(data.model, data.cells, none)[1]
    plain = data._replace(priors=False)

    def derivatives(free: Vector) -> Derivatives:
        at = theta.copy()
        at[used] = free
        value, gradient, hessian = _expected(plain, none, at)
        return value, gradient[used], hessian[np.ix_(used, used)]

    low, high = _bounds(data)
    theta[used] = newton_maximum(derivatives, theta[used], (low[used], high[used]))
    density = _density(data, theta[2:], 0.0, float(theta[1]))
    return float(data.cells.n_cells @ density)
