"""Mixtures that see only a guide's own counts: ``poisson_gauss`` and ``gauss``.

Cells with equal counts are alike, so a guide is its histogram: distinct counts ``u_k`` and the
number ``n_k`` of cells that have them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, gammaln, xlogy

from reference.mixtures import (
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

GAUSS_SD_FLOOR = 1e-3
ONE_UMI = np.log10([2.0])
POISSON_GAUSS = ("weight", "rate", "mean", "sd")
GAUSS = ("weight", "mean_background", "mean_signal", "sd")


class Histogram(NamedTuple):
    """Distinct counts of a guide, the number of cells with each, and the transformed counts."""

    counts: Vector
    n_cells: Vector
    x: Vector


# ---------------------------------------------------------------------------- poisson_gauss


def fit_poisson_gauss(
    counts: ArrayLike,
    *,
    priors: bool = True,
    sd_floor: float = 0.5,
    n_starts: int | None = None,
    tolerance: float = 1e-10,
    max_iterations: int = 1000,
) -> MixtureFit:
    r"""Fit a Poisson background and a Normal signal to the log2 of the non-zero counts.

    .. math::

        x = \log_2 y, \qquad
        f(x) = (1 - w) \frac{\lambda^x e^{-\lambda}}{\Gamma(x + 1)} + w\,\phi(x; \mu, \sigma)

    with priors :math:`(1-w, w) \sim \mathrm{Dir}(.9, .1)`, :math:`\mu \sim N(3, 2)`,
    :math:`\sigma \sim \mathrm{LogN}(2, 1)`, :math:`\lambda \sim \mathrm{LogN}(0, 1)`. Admissible
    fits have :math:`\sigma \ge` ``sd_floor``, :math:`\mu` above the mean of the background, and a
    weight off its bounds.

    Parameters
    ----------
    counts : (n_cells,) int, UMI; zeros are ignored
    priors : False fits by maximum likelihood
    sd_floor : smallest standard deviation of the signal, log2 units
    n_starts : climb from no more than these of the starts; None takes all
    tolerance : of the parameters, relative
    max_iterations : EM iterations of each start

    Returns
    -------
    MixtureFit with parameters ``weight`` (of the signal), ``rate``, ``mean``, ``sd``.

    Notes
    -----
    Source: Replogle et al., Nat. Biotechnol. 38 (2020) 954-961; priors of crispat (Braunger and
    Velten, Bioinformatics 40, 2024, btae535).
    """
    y = np.asarray(counts)
    closed = gate(y)
    if closed is not None:
        return MixtureFit("poisson_gauss", closed)
    u, n = np.unique(y[y > 0], return_counts=True)
    data = Histogram(u.astype(np.float64), n.astype(np.float64), np.log2(u))

    def objective(theta: Vector) -> float:
        return _poisson_gauss_likelihood(data, theta) + (
            _poisson_gauss_prior(theta) if priors else 0.0
        )

    def maximize(r: Vector, theta: Vector) -> Vector:
        return _poisson_gauss_update(data, r, theta, priors, sd_floor)

    climbs = []
    for r in hard_splits(u, n_starts):
        start = maximize(r, _poisson_gauss_moments(data, r, sd_floor))
        climb = expectation_maximization(
            start,
            lambda theta: maximize(expit(_poisson_gauss_log_odds(data.x, theta)), theta),
            objective,
            tolerance,
            max_iterations,
        )
        if _poisson_gauss_admissible(data, climb.theta):
            climbs.append(climb)

    def named(theta: Vector) -> dict[str, float]:
        return dict(zip(POISSON_GAUSS, theta.tolist(), strict=True))

    return best_fit(
        "poisson_gauss",
        climbs,
        lambda climb: status_of_guide(y, climb),
        named,
        lambda theta: _poisson_gauss_likelihood(data, theta),
        max(_one_poisson(data), _one_normal(data, sd_floor)),
        data.n_cells.sum(),
    )


def log_odds_poisson_gauss(counts: ArrayLike, parameters: Mapping[str, float]) -> Vector:
    """Log odds of signal over background; minus infinity for a count of 0.

    Parameters
    ----------
    counts : (n_cells,) int, UMI
    parameters : of :func:`fit_poisson_gauss`

    Returns
    -------
    (n_cells,) float64, natural log
    """
    y = np.asarray(counts, dtype=np.float64)
    theta = np.array([parameters[name] for name in POISSON_GAUSS])
    odds = _poisson_gauss_log_odds(np.log2(np.maximum(y, 1.0)), theta)
    return np.where(y > 0, odds, -np.inf)


def posterior_poisson_gauss(counts: ArrayLike, parameters: Mapping[str, float]) -> Vector:
    """Probability of the signal, (n_cells,) float64; see :func:`log_odds_poisson_gauss`."""
    return expit(log_odds_poisson_gauss(counts, parameters))


def threshold_poisson_gauss(
    parameters: Mapping[str, float], min_confidence: float = 0.5, largest: int = 1_000_000
) -> int:
    """Find the first count whose posterior exceeds ``min_confidence``; call it and all above.

    The log odds rise and fall again: the Normal is below the Poisson far to the left, and its tail
    may be far to the right. Calling every count from the first crossing on is monotone.

    Returns
    -------
    Smallest integer ``t >= 1`` with posterior above ``min_confidence``; ``largest + 1`` if none.
    """
    return _first_count(posterior_poisson_gauss, parameters, min_confidence, largest)


def _poisson_gauss_log_odds(x: Vector, theta: Vector) -> Vector:
    weight, rate, mean, sd = theta
    signal = math.log(weight) + log_normal_density(x, mean, sd)
    return signal - (math.log1p(-weight) + x * math.log(rate) - rate - gammaln(x + 1.0))


def _poisson_gauss_likelihood(data: Histogram, theta: Vector) -> float:
    weight, rate, mean, sd = theta
    signal = math.log(weight) + log_normal_density(data.x, mean, sd)
    background = math.log1p(-weight) + data.x * math.log(rate) - rate - gammaln(data.x + 1.0)
    return float(data.n_cells @ np.logaddexp(signal, background))


def _poisson_gauss_prior(theta: Vector) -> float:
    weight, rate, mean, sd = (float(value) for value in theta)
    return (
        log_beta_density(weight, 0.1, 0.9)
        + float(log_normal_density(mean, 3.0, 2.0))
        + log_lognormal_density(sd, 2.0, 1.0)
        + log_lognormal_density(rate, 0.0, 1.0)
    )


def _poisson_gauss_moments(data: Histogram, r: Vector, sd_floor: float) -> Vector:
    signal, background = data.n_cells * r, data.n_cells * (1.0 - r)
    mean = signal @ data.x / signal.sum()
    sd = math.sqrt(signal @ (data.x - mean) ** 2 / signal.sum())
    rate = max(background @ data.x / background.sum(), 1e-6)
    return np.array([0.5, rate, mean, max(sd, sd_floor)])


def _poisson_gauss_update(
    data: Histogram, r: Vector, theta: Vector, priors: bool, sd_floor: float
) -> Vector:
    signal, background = data.n_cells * r, data.n_cells * (1.0 - r)
    total, size = data.n_cells.sum(), signal.sum()
    sum_background = background @ data.x
    if not priors:
        mean = signal @ data.x / size
        sd = math.sqrt(signal @ (data.x - mean) ** 2 / size)
        rate = max(sum_background / background.sum(), 1e-6)
        return np.array([clip_weight(size / total), rate, mean, max(sd, sd_floor)])
    _, rate, _, sd = theta
    weight = clip_weight((size - 0.9) / (total - 1.0))
    precision = 1.0 / sd**2
    mean = (signal @ data.x * precision + 3.0 / 4.0) / (size * precision + 1.0 / 4.0)
    squares = signal @ (data.x - mean) ** 2
    rate = _map_rate(float(sum_background), float(background.sum()), rate)
    return np.array([weight, rate, mean, max(_map_sd(size, squares, sd), sd_floor)])


def _map_rate(events: float, exposure: float, start: float) -> float:
    """Maximize ``A log l - B l - log l - (log l)^2 / 2`` over the rate, in ``t = log l``."""

    def derivatives(t: Vector) -> tuple[float, Vector, Vector]:
        expected = exposure * math.exp(t[0])
        value = (events - 1.0) * t[0] - expected - t[0] ** 2 / 2.0
        return value, events - 1.0 - expected - t, np.array([[-expected - 1.0]])

    return math.exp(newton_maximum(derivatives, np.array([math.log(start)]))[0])


def _map_sd(size: float, squares: float, start: float) -> float:
    """Maximize ``-R t - Q exp(-2 t) / 2 - t - (t - 2)^2 / 2`` over ``t = log sd``."""

    def derivatives(t: Vector) -> tuple[float, Vector, Vector]:
        spread = squares * math.exp(-2.0 * t[0])
        value = -(size + 1.0) * t[0] - spread / 2.0 - (t[0] - 2.0) ** 2 / 2.0
        gradient = np.array([-(size + 1.0) + spread - (t[0] - 2.0)])
        return value, gradient, np.array([[-2.0 * spread - 1.0]])

    return math.exp(newton_maximum(derivatives, np.array([math.log(start)]))[0])


def _one_poisson(data: Histogram) -> float:
    """Log likelihood of background alone."""
    size, total = data.n_cells.sum(), float(data.n_cells @ data.x)
    return float(xlogy(total, total / size) - total - data.n_cells @ gammaln(data.x + 1.0))


def _one_normal(data: Histogram, sd_floor: float) -> float:
    """Log likelihood of one Normal alone."""
    size = data.n_cells.sum()
    mean = data.n_cells @ data.x / size
    sd = max(math.sqrt(data.n_cells @ (data.x - mean) ** 2 / size), sd_floor)
    return float(data.n_cells @ log_normal_density(data.x, mean, sd))


def _poisson_gauss_admissible(data: Histogram, theta: Vector) -> bool:
    weight, _, mean, _ = theta
    background = data.n_cells * expit(-_poisson_gauss_log_odds(data.x, theta))
    interior = 2e-9 < weight < 1.0 - 2e-9
    return interior and mean > background @ data.x / background.sum()


# ------------------------------------------------------------------------------------- gauss


def fit_gauss(
    counts: ArrayLike,
    *,
    n_starts: int | None = None,
    tolerance: float = 1e-10,
    max_iterations: int = 1000,
) -> MixtureFit:
    r"""Fit two Normals of one standard deviation to the log10 of count + 1, zeros included.

    .. math::

        x = \log_{10}(y + 1), \qquad f(x) = (1 - w)\,\phi(x; \mu_0, \sigma) + w\,\phi(x; \mu_1,
        \sigma), \qquad \mu_0 < \mu_1, \; \sigma \ge 10^{-3}

    by maximum likelihood. Admissible fits leave a count of 1 to the background, with a posterior of
    at most 1/2; a guide with many ambient UMIs would else split into cells without and with any.

    Parameters
    ----------
    counts : (n_cells,) int, UMI, zeros included
    n_starts : climb from no more than these of the starts; None takes all
    tolerance : of the parameters, relative
    max_iterations : EM iterations of each start

    Returns
    -------
    MixtureFit with parameters ``weight`` (of the signal), ``mean_background``, ``mean_signal``,
    ``sd``.

    Notes
    -----
    Source: the recipe of Cell Ranger (10x Genomics), as described by crispat.
    """
    y = np.asarray(counts)
    closed = gate(y)
    if closed is not None:
        return MixtureFit("gauss", closed)
    u, n = np.unique(y, return_counts=True)
    data = Histogram(u.astype(np.float64), n.astype(np.float64), np.log10(u + 1.0))
    climbs = []
    for r in hard_splits(u, n_starts):
        climb = expectation_maximization(
            _gauss_update(data, r),
            lambda theta: _gauss_update(data, expit(_gauss_log_odds(data.x, theta))),
            lambda theta: _gauss_likelihood(data, theta),
            tolerance,
            max_iterations,
        )
        if _gauss_admissible(climb.theta):
            climbs.append(climb)

    def named(theta: Vector) -> dict[str, float]:
        return dict(zip(GAUSS, theta.tolist(), strict=True))

    return best_fit(
        "gauss",
        climbs,
        lambda climb: status_of_guide(y, climb),
        named,
        lambda theta: _gauss_likelihood(data, theta),
        _one_normal(data, GAUSS_SD_FLOOR),
        data.n_cells.sum(),
    )


def log_odds_gauss(counts: ArrayLike, parameters: Mapping[str, float]) -> Vector:
    """Log odds of signal over background, rising with the count.

    Parameters
    ----------
    counts : (n_cells,) int, UMI
    parameters : of :func:`fit_gauss`

    Returns
    -------
    (n_cells,) float64, natural log
    """
    x = np.log10(np.asarray(counts, dtype=np.float64) + 1.0)
    return _gauss_log_odds(x, np.array([parameters[name] for name in GAUSS]))


def posterior_gauss(counts: ArrayLike, parameters: Mapping[str, float]) -> Vector:
    """Probability of the signal, (n_cells,) float64; see :func:`log_odds_gauss`."""
    return expit(log_odds_gauss(counts, parameters))


def threshold_gauss(
    parameters: Mapping[str, float], min_confidence: float = 0.5, largest: int = 1_000_000
) -> int:
    """Find the smallest count of at least 1 with posterior above ``min_confidence``.

    Returns
    -------
    int; ``largest + 1`` if there is none.
    """
    return _first_count(posterior_gauss, parameters, min_confidence, largest)


def _gauss_log_odds(x: Vector, theta: Vector) -> Vector:
    weight, low, high, sd = theta
    prior = math.log(weight) - math.log1p(-weight)
    return prior + (high - low) * (x - (low + high) / 2.0) / sd**2


def _gauss_admissible(theta: Vector) -> bool:
    weight, low, high, _ = theta
    interior = 2e-9 < weight < 1.0 - 2e-9
    return bool(interior and high > low and _gauss_log_odds(ONE_UMI, theta)[0] <= 0.0)


def _gauss_likelihood(data: Histogram, theta: Vector) -> float:
    weight, low, high, sd = theta
    signal = math.log(weight) + log_normal_density(data.x, high, sd)
    background = math.log1p(-weight) + log_normal_density(data.x, low, sd)
    return float(data.n_cells @ np.logaddexp(signal, background))


def _gauss_update(data: Histogram, r: Vector) -> Vector:
    signal, background = data.n_cells * r, data.n_cells * (1.0 - r)
    low = background @ data.x / background.sum()
    high = signal @ data.x / signal.sum()
    squares = signal @ (data.x - high) ** 2 + background @ (data.x - low) ** 2
    total = data.n_cells.sum()
    sd = max(math.sqrt(squares / total), GAUSS_SD_FLOOR)
    return np.array([clip_weight(signal.sum() / total), low, high, sd])


# ------------------------------------------------------------------------------------ shared


def log_likelihood(model: str, counts: ArrayLike, parameters: Mapping[str, float]) -> float:
    """Log likelihood of some cells under a fit of these or others.

    Parameters
    ----------
    model : ``poisson_gauss`` or ``gauss``
    counts : (n_cells,) int, UMI; ``poisson_gauss`` ignores zeros
    parameters : of :func:`fit_poisson_gauss` or :func:`fit_gauss`
    """
    y = np.asarray(counts)
    if model == "poisson_gauss":
        u, n = np.unique(y[y > 0], return_counts=True)
        theta = np.array([parameters[name] for name in POISSON_GAUSS])
        data = Histogram(u.astype(np.float64), n.astype(np.float64), np.log2(u))
        return _poisson_gauss_likelihood(data, theta)
    u, n = np.unique(y, return_counts=True)
    theta = np.array([parameters[name] for name in GAUSS])
    data = Histogram(u.astype(np.float64), n.astype(np.float64), np.log10(u + 1.0))
    return _gauss_likelihood(data, theta)


def _first_count(
    posterior: Callable[[ArrayLike, Mapping[str, float]], Vector],
    parameters: Mapping[str, float],
    min_confidence: float,
    largest: int,
) -> int:
    stop = 1
    while stop <= largest:
        block = np.arange(stop, min(2 * stop + 4096, largest + 1))
        above = np.flatnonzero(posterior(block, parameters) > min_confidence)
        if above.size:
            return int(block[above[0]])
        stop = int(block[-1]) + 1
    return largest + 1
