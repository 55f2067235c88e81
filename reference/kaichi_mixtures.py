r"""What kaichi 0.2.0 fits under the names of the mixtures, for reports of parity.

Found from its output: all models are maximum likelihood, and a pair with a count above 0 is called
where the posterior is *at least* the threshold.

==================  ==============================================================================
``poisson_gauss``   Poisson and Normal on the raw counts, zeros included
``gauss``           two Normals of one width on log10(count + 1), zeros included
``poisson``         two Poisson rates per guide UMI + 1, on the cells with the guide alone
``neg_binomial``    two negative binomials of one dispersion, idem
``binomial``        two proportions of the guide UMIs, idem
``beta2, beta3``    Beta components of the largest proportion, moments matched in the M-step
==================  ==============================================================================

None of them is the model of crispat that has the name, except ``gauss``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaln, expit, gammaln, logsumexp, xlogy

from reference import depth_mixtures, histogram_mixtures
from reference.mixtures import (
    Climb,
    MixtureFit,
    Vector,
    best_fit,
    clip_weight,
    expectation_maximization,
    gate,
    hard_splits,
    log_normal_density,
)

POISSON_GAUSS = ("weight", "mean", "sd", "rate")
BETA_ITERATIONS = 200
BETA_TOLERANCE = 1e-6
CLIP = (1e-4, 0.9999)
BETA_STARTS = {
    "beta2": (np.array([1.0, 10.0]), np.array([10.0, 1.0])),
    "beta3": (np.array([1.0, 10.0, 10.0]), np.array([10.0, 10.0, 1.0])),
}
FIT_DEPTH: dict[str, Callable[..., MixtureFit]] = {
    "poisson": depth_mixtures.fit_poisson,
    "neg_binomial": depth_mixtures.fit_neg_binomial,
    "binomial": depth_mixtures.fit_binomial,
}
LOG_ODDS: dict[str, Callable[..., Vector]] = {
    "poisson": depth_mixtures.log_odds_poisson,
    "neg_binomial": depth_mixtures.log_odds_neg_binomial,
    "binomial": depth_mixtures.log_odds_binomial,
}


def fit_kaichi(model: str, counts: ArrayLike, depth: ArrayLike) -> MixtureFit:
    """Fit one guide by one of the count models.

    Parameters
    ----------
    model : ``poisson_gauss``, ``gauss``, ``poisson``, ``neg_binomial`` or ``binomial``
    counts : (n_cells,) int, UMI, zeros included
    depth : (n_cells,) int, guide UMIs of each cell, ``counts`` included
    """
    y, s = np.asarray(counts), np.asarray(depth)
    if model == "poisson_gauss":
        return fit_raw_poisson_gauss(y)
    if model == "gauss":
        return histogram_mixtures.fit_gauss(y)
    return FIT_DEPTH[model](y[y > 0], s[y > 0])


def log_odds_kaichi(counts: ArrayLike, depth: ArrayLike, fit: MixtureFit) -> Vector:
    """Log odds of signal over background of counts above 0, (n,) float64, natural log."""
    y = np.asarray(counts, dtype=np.float64)
    if fit.model == "poisson_gauss":
        return _raw_log_odds(y, np.array([fit.parameters[name] for name in POISSON_GAUSS]))
    if fit.model == "gauss":
        return histogram_mixtures.log_odds_gauss(y, fit.parameters)
    return LOG_ODDS[fit.model](y, depth, fit.parameters)


def fit_raw_poisson_gauss(counts: ArrayLike, *, max_iterations: int = 1000) -> MixtureFit:
    r"""Fit :math:`(1 - w)\,\mathrm{Pois}(\lambda) + w\,N(\mu, \sigma)` to the counts themselves.

    Parameters
    ----------
    counts : (n_cells,) int, UMI, zeros included
    max_iterations : EM iterations of each start

    Returns
    -------
    MixtureFit with parameters ``weight`` (of the signal), ``mean``, ``sd``, ``rate``.
    """
    y = np.asarray(counts)
    closed = gate(y)
    if closed is not None:
        return MixtureFit("poisson_gauss", closed)
    distinct, n = np.unique(y, return_counts=True)
    u = distinct.astype(np.float64)

    def update(r: Vector) -> Vector:
        signal, background = n * r, n * (1.0 - r)
        mean = signal @ u / signal.sum()
        sd = max(math.sqrt(signal @ (u - mean) ** 2 / signal.sum()), 1e-3)
        rate = max(background @ u / background.sum(), 1e-9)
        return np.array([clip_weight(signal.sum() / n.sum()), mean, sd, rate])

    def likelihood(theta: Vector) -> float:
        return float(n @ np.logaddexp(*_raw_terms(u, theta)))

    climbs: list[Climb] = []
    for r in hard_splits(u):
        climb = expectation_maximization(
            update(r),
            lambda theta: update(expit(_raw_log_odds(u, theta))),
            likelihood,
            1e-8,
            max_iterations,
        )
        if climb.theta[1] > climb.theta[3]:
            climbs.append(climb)

    def named(theta: Vector) -> dict[str, float]:
        return dict(zip(POISSON_GAUSS, theta.tolist(), strict=True))

    return best_fit("poisson_gauss", climbs, lambda climb: "ok", named, likelihood)


def fit_kaichi_beta(model: str, proportions: ArrayLike) -> MixtureFit:
    """Fit ``beta2`` or ``beta3`` by EM whose M-step matches moments; it climbs no objective.

    Parameters
    ----------
    model : ``beta2`` or ``beta3``
    proportions : (n_cells,) float64, clipped to [1e-4, 0.9999]; NaN is left out

    Returns
    -------
    MixtureFit with parameters ``weight_k``, ``a_k``, ``b_k`` in the order of the means.
    """
    x = np.asarray(proportions, dtype=np.float64)
    x, n = np.unique(np.clip(x[np.isfinite(x)], *CLIP), return_counts=True)
    if x.size < 2:
        return MixtureFit(model, "no_separation" if n.sum() > 1 else "no_counts")
    a, b = BETA_STARTS[model]
    weights, last, n_iterations = np.full(a.size, 1.0 / a.size), -math.inf, 0
    while n_iterations < BETA_ITERATIONS:
        n_iterations += 1
        terms = _beta_terms(x, weights, a, b)
        value = float(n @ logsumexp(terms, axis=0))
        shares = np.exp(terms - logsumexp(terms, axis=0)) * n
        weights = shares.sum(axis=1) / n.sum()
        if abs(value - last) < BETA_TOLERANCE:
            break
        last = value
        mean = shares @ x / shares.sum(axis=1)
        spread = (shares * (x - mean[:, None]) ** 2).sum(axis=1) / shares.sum(axis=1)
        size = mean * (1.0 - mean) / np.maximum(spread, 1e-12) - 1.0
        a, b = np.maximum(mean * size, 1e-3), np.maximum((1.0 - mean) * size, 1e-3)
    order = np.argsort(a / (a + b))
    parameters = {
        f"{name}_{k + 1}": float(column[j])
        for name, column in (("weight", weights), ("a", a), ("b", b))
        for k, j in enumerate(order)
    }
    value = float(n @ logsumexp(_beta_terms(x, weights, a, b), axis=0))
    return MixtureFit(model, "ok", parameters, value, value, n_iterations, True)


def _raw_terms(u: Vector, theta: Vector) -> tuple[Vector, Vector]:
    """Log of weight times density of signal and background."""
    weight, mean, sd, rate = theta
    background = math.log1p(-weight) + xlogy(u, rate) - rate - gammaln(u + 1.0)
    return math.log(weight) + log_normal_density(u, mean, sd), background


def _raw_log_odds(u: Vector, theta: Vector) -> Vector:
    signal, background = _raw_terms(u, theta)
    return signal - background


def _beta_terms(x: Vector, weights: Vector, a: Vector, b: Vector) -> NDArray[np.float64]:
    density = np.outer(a - 1.0, np.log(x)) + np.outer(b - 1.0, np.log1p(-x))
    return np.log(weights)[:, None] + density - betaln(a, b)[:, None]
