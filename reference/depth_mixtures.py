"""Mixtures that know each cell's guide UMIs: ``poisson``, ``neg_binomial`` and ``binomial``.

``y_i`` is the count of one guide in cell ``i`` and ``s_i`` the guide UMIs of that cell, the guide
itself included. All cells enter, the many zeros too: at a given depth a zero is evidence. Cells
with equal ``(y, s)`` are alike and counted once, with their number.

The rates of the two components are ``exp(t_0) < exp(t_1)`` (probabilities on the logit scale for
``binomial``). With priors ``t_0 = b_0 + g`` and ``t_1 = t_0 + b_1``, where the intercept ``b_0``
and the effect ``g`` of the one batch enter only by their sum: its best split has the log density
``-t_0^2 / (2 (v + 1))`` up to a constant, ``v`` being the prior variance of ``b_0``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, gammaln, xlogy

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

# Log rates (logits) and the log dispersion. A background without a single count has rate 0 as its
# maximum likelihood; exp(-25) per UMI says the same in finite numbers.
BOUNDS = (np.array([-25.0, -25.0, math.log(0.01)]), np.array([25.0, 25.0, math.log(1e4)]))
SMALLEST_GAP = 1e-6
Derivatives = tuple[float, Vector, Vector]


class Cells(NamedTuple):
    """Groups of equal cells: count of the guide, exposure, number of cells."""

    y: Vector
    exposure: Vector
    n_cells: Vector


@dataclass(frozen=True)
class CountModel:
    """One count distribution: its log density, slopes in (t, log dispersion), and priors."""

    name: str
    log_density: Callable[[Cells, float, float], Vector]
    slopes: Callable[[Cells, float, float], tuple[Vector, ...]]
    intercept_variance: float
    offset: float
    dispersed: bool = False


def fit_poisson(
    counts: ArrayLike,
    depth: ArrayLike,
    *,
    priors: bool = False,
    n_starts: int | None = None,
    tolerance: float = 1e-10,
    max_iterations: int = 1000,
) -> MixtureFit:
    r"""Fit two Poisson rates per guide UMI of the cell.

    .. math::

        y_i \sim (1 - \pi)\,\mathrm{Pois}(e^{t_0} d_i) + \pi\,\mathrm{Pois}(e^{t_1} d_i),
        \qquad d_i = s_i + 1, \; t_0 < t_1

    With priors: :math:`b_0 \sim N(0, 3)`, :math:`g \sim N(0, 1)`,
    :math:`b_1 \sim \mathrm{LogN}(1, 2)`, :math:`\pi \sim \mathrm{Beta}(1, 10)`.

    Parameters
    ----------
    counts : (n_cells,) int, UMI, zeros included
    depth : (n_cells,) int, guide UMIs of each cell, ``counts`` included
    priors : add the log priors to what is maximized
    n_starts : climb from no more than these of the starts; None takes all
    tolerance : of the parameters, relative
    max_iterations : EM iterations of each start

    Returns
    -------
    MixtureFit with parameters ``weight`` (of the signal), ``log_rate_background``,
    ``log_rate_signal``.

    Notes
    -----
    Source: model of crispat (Braunger and Velten, Bioinformatics 40, 2024, btae535).
    """
    return _fit(_POISSON, counts, depth, priors, n_starts, tolerance, max_iterations)


def fit_neg_binomial(
    counts: ArrayLike,
    depth: ArrayLike,
    *,
    priors: bool = False,
    n_starts: int | None = None,
    tolerance: float = 1e-10,
    max_iterations: int = 1000,
) -> MixtureFit:
    r"""Fit two negative binomials of one dispersion, with rates per guide UMI of the cell.

    .. math::

        y_i \sim (1 - \pi)\,\mathrm{NB}(e^{t_0} d_i, \theta) + \pi\,\mathrm{NB}(e^{t_1} d_i,
        \theta), \qquad d_i = s_i + 1, \quad \operatorname{Var} = m + m^2 / \theta

    with :math:`\theta \in [0.01, 10^4]`. With priors: :math:`b_0 \sim N(0, 2)`,
    :math:`\theta \sim \mathrm{LogN}(1, 1)`, the rest as in :func:`fit_poisson`.

    Parameters
    ----------
    counts, depth, priors, n_starts, tolerance, max_iterations : as in :func:`fit_poisson`

    Returns
    -------
    MixtureFit with parameters ``weight`` (of the signal), ``log_rate_background``,
    ``log_rate_signal``, ``dispersion``.

    Notes
    -----
    Source: model of crispat (Braunger and Velten, Bioinformatics 40, 2024, btae535).
    """
    return _fit(_NEG_BINOMIAL, counts, depth, priors, n_starts, tolerance, max_iterations)


def fit_binomial(
    counts: ArrayLike,
    depth: ArrayLike,
    *,
    priors: bool = False,
    n_starts: int | None = None,
    tolerance: float = 1e-10,
    max_iterations: int = 1000,
) -> MixtureFit:
    r"""Fit two probabilities that a guide UMI of the cell is of this guide.

    .. math::

        y_i \sim (1 - \pi)\,\mathrm{Bin}(s_i, p_0) + \pi\,\mathrm{Bin}(s_i, p_1),
        \qquad \operatorname{logit} p_0 = t_0 < t_1 = \operatorname{logit} p_1

    Cells without guide UMIs carry no information and are left out. With priors:
    :math:`b_0 \sim N(0, 2)`, the rest as in :func:`fit_poisson`.

    Parameters
    ----------
    counts, depth, priors, n_starts, tolerance, max_iterations : as in :func:`fit_poisson`

    Returns
    -------
    MixtureFit with parameters ``weight`` (of the signal), ``logit_background``, ``logit_signal``.

    Notes
    -----
    Source: model of crispat (Braunger and Velten, Bioinformatics 40, 2024, btae535), with the link
    of its fit in the prediction as well.
    """
    return _fit(_BINOMIAL, counts, depth, priors, n_starts, tolerance, max_iterations)


def log_odds_poisson(
    counts: ArrayLike,
    depth: ArrayLike,
    parameters: Mapping[str, float],
    exposure: str = "consistent",
) -> Vector:
    """Log odds of signal over background.

    Parameters
    ----------
    counts : (n_cells,) int, UMI
    depth : (n_cells,) int, guide UMIs of each cell
    parameters : of :func:`fit_poisson`
    exposure : ``consistent`` predicts at ``s + 1``, as fitted; ``crispat`` at ``s``

    Returns
    -------
    (n_cells,) float64, natural log
    """
    return _log_odds(_POISSON, counts, depth, parameters, exposure)


def log_odds_neg_binomial(
    counts: ArrayLike,
    depth: ArrayLike,
    parameters: Mapping[str, float],
    exposure: str = "consistent",
) -> Vector:
    """Log odds of signal over background; parameters as in :func:`log_odds_poisson`."""
    return _log_odds(_NEG_BINOMIAL, counts, depth, parameters, exposure)


def log_odds_binomial(
    counts: ArrayLike, depth: ArrayLike, parameters: Mapping[str, float]
) -> Vector:
    """Log odds of signal over background; parameters as in :func:`log_odds_poisson`."""
    return _log_odds(_BINOMIAL, counts, depth, parameters, "consistent")


def posterior_poisson(
    counts: ArrayLike,
    depth: ArrayLike,
    parameters: Mapping[str, float],
    exposure: str = "consistent",
) -> Vector:
    """Probability of the signal, (n_cells,) float64; see :func:`log_odds_poisson`."""
    return expit(log_odds_poisson(counts, depth, parameters, exposure))


def posterior_neg_binomial(
    counts: ArrayLike,
    depth: ArrayLike,
    parameters: Mapping[str, float],
    exposure: str = "consistent",
) -> Vector:
    """Probability of the signal, (n_cells,) float64; see :func:`log_odds_poisson`."""
    return expit(log_odds_neg_binomial(counts, depth, parameters, exposure))


def posterior_binomial(
    counts: ArrayLike, depth: ArrayLike, parameters: Mapping[str, float]
) -> Vector:
    """Probability of the signal, (n_cells,) float64; see :func:`log_odds_poisson`."""
    return expit(log_odds_binomial(counts, depth, parameters))


# ------------------------------------------------------------------------------- distributions


def _poisson_density(cells: Cells, t: float, log_dispersion: float) -> Vector:
    mean = cells.exposure * math.exp(t)
    return xlogy(cells.y, mean) - mean - gammaln(cells.y + 1.0)


def _poisson_slopes(cells: Cells, t: float, log_dispersion: float) -> tuple[Vector, ...]:
    mean = cells.exposure * math.exp(t)
    return cells.y - mean, -mean


def _binomial_density(cells: Cells, t: float, log_dispersion: float) -> Vector:
    y, s = cells.y, cells.exposure
    ways = gammaln(s + 1.0) - gammaln(y + 1.0) - gammaln(s - y + 1.0)
    return ways + y * t - s * np.logaddexp(0.0, t)


def _binomial_slopes(cells: Cells, t: float, log_dispersion: float) -> tuple[Vector, ...]:
    p = expit(t)
    return cells.y - cells.exposure * p, -cells.exposure * p * (1.0 - p)


def _neg_binomial_density(cells: Cells, t: float, log_dispersion: float) -> Vector:
    y, theta, mean = cells.y, math.exp(log_dispersion), cells.exposure * math.exp(t)
    ways = _rising_sum(y, lambda k: np.log(theta + k)) - gammaln(y + 1.0)
    return ways - theta * np.log1p(mean / theta) - y * np.log(theta + mean) + xlogy(y, mean)


def _neg_binomial_slopes(cells: Cells, t: float, log_dispersion: float) -> tuple[Vector, ...]:
    """Slopes in t and u = log theta: d/dt, d2/dt2, d/du, d2/du2, d2/dt du."""
    y, theta, mean = cells.y, math.exp(log_dispersion), cells.exposure * math.exp(t)
    total, share = theta + mean, (y + theta) / (theta + mean)
    slope_t = theta * (y - mean) / total
    digamma = _rising_sum(y, lambda k: 1.0 / (theta + k))
    trigamma = _rising_sum(y, lambda k: -1.0 / (theta + k) ** 2)
    slope_u = theta * (digamma - np.log1p(mean / theta) + 1.0 - share)
    curve_u = slope_u + theta**2 * (trigamma + 1.0 / theta - (2.0 - share) / total)
    return slope_t, -theta * mean * share / total, slope_u, curve_u, slope_t * mean / total


def _rising_sum(y: Vector, term: Callable[[Vector], Vector]) -> Vector:
    """Sum ``term(k)`` over k < y: differences of log gamma, digamma, trigamma, not cancelled."""
    sums = np.concatenate([[0.0], np.cumsum(term(np.arange(y.max(initial=0.0))))])
    return sums[y.astype(np.int64)]


_POISSON = CountModel("poisson", _poisson_density, _poisson_slopes, 9.0, 1.0)
_BINOMIAL = CountModel("binomial", _binomial_density, _binomial_slopes, 4.0, 0.0)
_NEG_BINOMIAL = CountModel(
    "neg_binomial", _neg_binomial_density, _neg_binomial_slopes, 4.0, 1.0, True
)
MODELS = {model.name: model for model in (_POISSON, _NEG_BINOMIAL, _BINOMIAL)}
NAMES = {
    "poisson": ("weight", "log_rate_background", "log_rate_signal"),
    "binomial": ("weight", "logit_background", "logit_signal"),
    "neg_binomial": ("weight", "log_rate_background", "log_rate_signal", "dispersion"),
}


# ------------------------------------------------------------------------------------------ EM


def _fit(
    model: CountModel,
    counts: ArrayLike,
    depth: ArrayLike,
    priors: bool,
    n_starts: int | None,
    tolerance: float,
    max_iterations: int,
) -> MixtureFit:
    y = np.asarray(counts)
    closed = gate(y)
    if closed is not None:
        return MixtureFit(model.name, closed)
    cells = _group(y, np.asarray(depth), model.offset)

    def objective(theta: Vector) -> float:
        return _likelihood(model, cells, theta) + (_prior(model, theta) if priors else 0.0)

    climbs: list[Climb] = []
    for r in hard_splits(cells.y, n_starts):
        climb = expectation_maximization(
            _update(model, cells, r, _moments(model, cells, r), priors),
            lambda theta: _update(model, cells, expit(_odds(model, cells, theta)), theta, priors),
            objective,
            tolerance,
            max_iterations,
        )
        if climb.theta[2] > climb.theta[1] + SMALLEST_GAP and 2e-9 < climb.theta[0] < 1.0 - 2e-9:
            climbs.append(climb)

    def named(theta: Vector) -> dict[str, float]:
        values = [*theta[:3], math.exp(theta[3])] if model.dispersed else list(theta[:3])
        names = NAMES[model.name]
        return {name: float(value) for name, value in zip(names, values, strict=True)}

    return best_fit(
        model.name,
        climbs,
        lambda climb: status_of_guide(y, climb),
        named,
        lambda theta: _likelihood(model, cells, theta),
        _one_component(model, cells),
        cells.n_cells.sum(),
    )


def _group(y: Vector, depth: Vector, offset: float) -> Cells:
    seen = depth > 0 if offset == 0.0 else np.ones(depth.shape, dtype=bool)
    pairs, n = np.unique(np.stack([y[seen], depth[seen]]), axis=1, return_counts=True)
    return Cells(pairs[0].astype(np.float64), pairs[1] + offset, n.astype(np.float64))


def _moments(model: CountModel, cells: Cells, r: Vector) -> Vector:
    def rate(share: Vector) -> float:
        weights = cells.n_cells * share
        proportion = max(float(weights @ cells.y), 0.5) / float(weights @ cells.exposure)
        proportion = min(proportion, 1.0 - 1e-6)
        return math.log(proportion) - (math.log1p(-proportion) if model.offset == 0.0 else 0.0)

    return np.array([0.5, rate(1.0 - r), rate(r) if r.any() else 0.0, 0.0])


def _odds(model: CountModel, cells: Cells, theta: Vector) -> Vector:
    weight, low, high, u = theta
    densities = model.log_density(cells, high, u) - model.log_density(cells, low, u)
    return math.log(weight) - math.log1p(-weight) + densities


def _likelihood(model: CountModel, cells: Cells, theta: Vector) -> float:
    weight, low, high, u = theta
    signal = math.log(weight) + model.log_density(cells, high, u)
    background = math.log1p(-weight) + model.log_density(cells, low, u)
    return float(cells.n_cells @ np.logaddexp(signal, background))


def _one_component(model: CountModel, cells: Cells) -> float:
    """Log likelihood of background alone."""

    def derivatives(free: Vector) -> Derivatives:
        u = float(free[1]) if model.dispersed else 0.0
        slopes = [float(cells.n_cells @ slope) for slope in model.slopes(cells, free[0], u)]
        value = float(cells.n_cells @ model.log_density(cells, free[0], u))
        if not model.dispersed:
            return value, np.array(slopes[:1]), np.array([slopes[1:]])
        hessian = np.array([[slopes[1], slopes[4]], [slopes[4], slopes[3]]])
        return value, np.array([slopes[0], slopes[2]]), hessian

    n_free = 2 if model.dispersed else 1
    start = _moments(model, cells, np.zeros(cells.y.shape))[[1, 3]][:n_free]
    bounds = (BOUNDS[0][1:][:n_free], BOUNDS[1][1:][:n_free])
    return derivatives(newton_maximum(derivatives, start, bounds))[0]


def _prior(model: CountModel, theta: Vector) -> float:
    weight, low, high, u = (float(value) for value in theta)
    v = model.intercept_variance
    intercept = log_normal_density(low * v / (v + 1.0), 0.0, math.sqrt(v))
    batch = log_normal_density(low / (v + 1.0), 0.0, 1.0)
    total = log_beta_density(weight, 1.0, 10.0) + float(intercept + batch)
    if high > low:
        total += log_lognormal_density(high - low, 1.0, 2.0)
    else:
        total = -math.inf
    return total + (log_lognormal_density(math.exp(u), 1.0, 1.0) if model.dispersed else 0.0)


def _update(model: CountModel, cells: Cells, r: Vector, theta: Vector, priors: bool) -> Vector:
    signal, background = cells.n_cells * r, cells.n_cells * (1.0 - r)
    total = cells.n_cells.sum()
    weight = clip_weight(signal.sum() / (total + 9.0) if priors else signal.sum() / total)
    n_free = 3 if model.dispersed else 2

    def derivatives(free: Vector) -> Derivatives:
        return _expected(model, cells, (background, signal), free, priors)

    bounds = (BOUNDS[0][:n_free], BOUNDS[1][:n_free])
    free = newton_maximum(derivatives, theta[1 : 1 + n_free], bounds)
    return np.array([weight, *free, *theta[1 + n_free :]])


def _expected(
    model: CountModel, cells: Cells, shares: tuple[Vector, Vector], free: Vector, priors: bool
) -> Derivatives:
    """Sum up the complete log likelihood and log priors in (t_0, t_1[, log dispersion])."""
    p = free.size
    u = float(free[2]) if model.dispersed else 0.0
    value, gradient, hessian = 0.0, np.zeros(p), np.zeros((p, p))
    for k, share in enumerate(shares):
        slopes = [float(share @ slope) for slope in model.slopes(cells, free[k], u)]
        value += float(share @ model.log_density(cells, free[k], u))
        gradient[k] += slopes[0]
        hessian[k, k] += slopes[1]
        if model.dispersed:
            gradient[2] += slopes[2]
            hessian[2, 2] += slopes[3]
            hessian[k, 2] = hessian[2, k] = slopes[4]
    if not priors:
        return value, gradient, hessian
    prior = _prior_slopes(model, free)
    return value + prior[0], gradient + prior[1], hessian + prior[2]


def _prior_slopes(model: CountModel, free: Vector) -> Derivatives:
    p = free.size
    gradient, hessian = np.zeros(p), np.zeros((p, p))
    gap, variance = float(free[1] - free[0]), model.intercept_variance + 1.0
    if gap <= 0.0:
        return -math.inf, gradient, hessian
    log_gap = math.log(gap)
    value = -(free[0] ** 2) / (2.0 * variance) - log_gap - (log_gap - 1.0) ** 2 / 8.0
    gradient[0] = -free[0] / variance
    hessian[0, 0] = -1.0 / variance
    slope = (-1.0 - (log_gap - 1.0) / 4.0) / gap
    curve = (-slope - 0.25 / gap) / gap
    gradient[:2] += [-slope, slope]
    hessian[:2, :2] += curve * np.array([[1.0, -1.0], [-1.0, 1.0]])
    if model.dispersed:
        value += -free[2] - (free[2] - 1.0) ** 2 / 2.0
        gradient[2] += -1.0 - (free[2] - 1.0)
        hessian[2, 2] -= 1.0
    return float(value), gradient, hessian


def _log_odds(
    model: CountModel,
    counts: ArrayLike,
    depth: ArrayLike,
    parameters: Mapping[str, float],
    exposure: str,
) -> Vector:
    if exposure not in ("consistent", "crispat"):
        raise ValueError(f"exposure is {exposure!r}; allowed are 'consistent' and 'crispat'")
    y, s = np.asarray(counts, dtype=np.float64), np.asarray(depth, dtype=np.float64)
    cells = Cells(y, s + (model.offset if exposure == "consistent" else 0.0), np.ones(y.shape))
    values = [parameters[name] for name in NAMES[model.name]]
    u = math.log(values[3]) if model.dispersed else 0.0
    return _odds(model, cells, np.array([*values[:3], u]))
