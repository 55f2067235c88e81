r"""What all mixtures of guide counts share: the result, the gate, EM, and Newton's method.

A guide is seen in cells that carry it (*signal*) and, at low counts, in cells that do not
(*background*). Every model here is a mixture of the two whose parameters maximize

.. math::  \log L(\theta) + \log \pi(\theta)

the log likelihood plus, where the model has priors, their log densities. EM climbs from several
deterministic starts and the best *admissible* end is the fit: what is admissible (ordered
components, a floor for a standard deviation) is part of each model.

Source: Dempster, Laird and Rubin, J. R. Stat. Soc. B 39 (1977) 1-38.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]

WEIGHT_FLOOR = 1e-9
MIN_NONZERO_CELLS = 10
SPLITS = (1.0, 2.0, 3.0, 5.0, 10.0)


@dataclass(frozen=True)
class MixtureFit:
    """The mixture of one guide, or the one mixture of a screen (beta models).

    Attributes
    ----------
    model : name of the model
    status : ``ok``, ``no_counts``, ``too_few``, ``no_separation``, ``weak`` or ``not_converged``
    parameters : by name; empty where nothing was fitted
    objective : log likelihood plus log priors, natural log; NaN where nothing was fitted
    log_likelihood : natural log
    n_iterations : EM iterations of the winning start
    converged : whether the parameters stood still before the iterations ran out
    one_component : log likelihood of the best single component; NaN where nothing was fitted
    """

    model: str
    status: str
    parameters: dict[str, float] = field(default_factory=dict)
    objective: float = math.nan
    log_likelihood: float = math.nan
    n_iterations: int = 0
    converged: bool = False
    one_component: float = math.nan


class Climb(NamedTuple):
    """Where EM ended: parameters, value of the objective, iterations, whether it stood still."""

    theta: Vector
    objective: float
    n_iterations: int
    converged: bool


def gate(counts: ArrayLike) -> str | None:
    """Say why a guide cannot be fitted, or None.

    Parameters
    ----------
    counts : (n_cells,) int, UMI, zeros allowed

    Returns
    -------
    ``no_counts`` without a count, ``too_few`` with one non-zero cell, ``no_separation`` when all
    non-zero counts are equal (all 1 included).
    """
    y = np.asarray(counts)
    y = y[y > 0]
    if y.size == 0:
        return "no_counts"
    if y.size < 2:
        return "too_few"
    return "no_separation" if y.min() == y.max() else None


def status_of_guide(counts: ArrayLike, climb: Climb) -> str:
    """Status of a fit: ``not_converged``, ``weak`` below ten non-zero cells, else ``ok``."""
    if not climb.converged:
        return "not_converged"
    return "weak" if np.count_nonzero(counts) < MIN_NONZERO_CELLS else "ok"


def bic_difference(
    log_likelihood: float, one_component: float, n_observations: float, n_more_parameters: int = 2
) -> float:
    """BIC of one component minus that of the mixture: above 0 speaks for the mixture.

    Source: Schwarz, Ann. Statist. 6 (1978) 461-464.
    """
    penalty = n_more_parameters * math.log(max(n_observations, 1.0))
    return 2.0 * (log_likelihood - one_component) - penalty


def hard_splits(counts: ArrayLike, n_starts: int | None = None) -> Iterator[Vector]:
    """Yield first responsibilities: the signal is ``y > c``, for cuts c low and relative.

    The cuts are 1, 2, 3, 5 and 10, where ambient counts end in most screens, then 1/4, 1/2 and 3/4
    of the way from the smallest to the largest non-zero count on a log scale, then 0.

    Parameters
    ----------
    counts : (n,) int, UMI, one per observation (or group of equal observations)
    n_starts : yield no more than these; None yields all

    Yields
    ------
    (n,) float64 of 0 and 1; only splits with both sides occupied, each once.
    """
    y = np.asarray(counts, dtype=np.float64)
    ends = y[y > 0].min(), y.max()
    seen: set[bytes] = set()
    for cut in (*SPLITS, *np.geomspace(*ends, 5)[1:-1], 0.0):
        if n_starts is not None and len(seen) >= n_starts:
            return
        signal = y > cut
        if signal.any() and not signal.all() and signal.tobytes() not in seen:
            seen.add(signal.tobytes())
            yield signal.astype(np.float64)


def expectation_maximization(
    start: Vector,
    step: Callable[[Vector], Vector],
    objective: Callable[[Vector], float],
    tolerance: float,
    max_iterations: int,
) -> Climb:
    """Repeat ``step`` until no parameter moves by more than ``tolerance``, relative to its size."""
    theta = start
    for iteration in range(1, max_iterations + 1):
        previous, theta = theta, step(theta)
        if np.all(np.abs(theta - previous) <= tolerance * (1e-3 + np.abs(previous))):
            return Climb(theta, objective(theta), iteration, True)
    return Climb(theta, objective(theta), max_iterations, False)


def newton_maximum(
    derivatives: Callable[[Vector], tuple[float, Vector, NDArray[np.float64]]],
    start: Vector,
    bounds: tuple[Vector, Vector] | None = None,
    max_steps: int = 50,
) -> Vector:
    r"""Maximize a smooth function in a box by Newton's method with step halving.

    .. math::  x \leftarrow x - h\,(H - \mu I)^{-1} g

    with :math:`\mu \ge 0` just large enough to make :math:`H - \mu I` negative definite and
    :math:`h \in \{1, 1/2, 1/4, \dots\}` the first step that does not lower the function. A
    coordinate at its bound stays there while the gradient points outward.

    Parameters
    ----------
    derivatives : x -> (value, gradient (p,), Hessian (p, p))
    start : (p,) float64, inside the box
    bounds : lower (p,) and upper (p,), or None

    Returns
    -------
    (p,) float64; not lower than the start beyond rounding.
    """
    x = start
    unbounded = (np.full(x.size, -math.inf), np.full(x.size, math.inf))
    lower, upper = bounds if bounds is not None else unbounded
    value, gradient, hessian = derivatives(x)
    for _ in range(max_steps):
        direction = _newton_direction(x, gradient, hessian, (lower, upper))
        for halvings in range(30):
            moved = np.clip(x + direction / 2.0**halvings, lower, upper)
            candidate = derivatives(moved)
            # Near the maximum the value is flat to rounding, while the step is still exact.
            if candidate[0] >= value - 1e-13 * (1.0 + abs(value)):
                break
        else:
            return x
        step, x = np.abs(moved - x), moved
        value, gradient, hessian = candidate
        if np.all(step <= 1e-9 * (1.0 + np.abs(x))):
            return x
    return x


def _newton_direction(
    x: Vector, gradient: Vector, hessian: NDArray[np.float64], bounds: tuple[Vector, Vector]
) -> Vector:
    stuck = ((x <= bounds[0]) & (gradient < 0)) | ((x >= bounds[1]) & (gradient > 0))
    free = np.flatnonzero(~stuck)
    direction = np.zeros(x.size)
    if free.size == 0:
        return direction
    curvature = hessian[np.ix_(free, free)]
    top = np.linalg.eigvalsh(curvature)[-1] if free.size > 1 else curvature[0, 0]
    shift = 0.0 if top < 0 else top + 1e-3 * (1.0 + np.abs(curvature).max())
    direction[free] = -np.linalg.solve(curvature - shift * np.eye(free.size), gradient[free])
    # Two units of a logarithm at most: far from the maximum the quadratic says little.
    return direction / max(1.0, np.abs(direction).max() / 2.0)


def best_fit(
    model: str,
    climbs: Sequence[Climb],
    status: Callable[[Climb], str],
    named: Callable[[Vector], dict[str, float]],
    log_likelihood: Callable[[Vector], float],
    one_component: float = math.nan,
    n_observations: float = 1.0,
) -> MixtureFit:
    """Report the admissible end of EM with the largest objective; the first of equals.

    A fit that would be ``ok`` has the status ``no_separation`` when its BIC is no better than that
    of one component.
    """
    if not climbs:
        return MixtureFit(model, "no_separation", one_component=one_component)
    best = max(climbs, key=lambda climb: climb.objective)
    found, likelihood = status(best), log_likelihood(best.theta)
    if found == "ok" and bic_difference(likelihood, one_component, n_observations) <= 0:
        found = "no_separation"
    return MixtureFit(
        model,
        found,
        named(best.theta),
        best.objective,
        likelihood,
        best.n_iterations,
        best.converged,
        one_component,
    )


def clip_weight(weight: float) -> float:
    """Keep a mixture weight inside [1e-9, 1 - 1e-9]."""
    return min(max(weight, WEIGHT_FLOOR), 1.0 - WEIGHT_FLOOR)


def log_beta_density(x: float, a: float, b: float) -> float:
    """Log density of Beta(a, b), which is that of Dirichlet(b, a) at (1 - x, x)."""
    constant = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return constant + (a - 1.0) * math.log(x) + (b - 1.0) * math.log1p(-x)


def log_normal_density(x: ArrayLike, mean: float, sd: float) -> Vector:
    """Log density of Normal(mean, sd)."""
    z = (np.asarray(x, dtype=np.float64) - mean) / sd
    return -0.5 * z * z - math.log(sd) - 0.5 * math.log(2.0 * math.pi)


def log_lognormal_density(x: float, mean: float, sd: float) -> float:
    """Log density, at x itself, of a variable whose logarithm is Normal(mean, sd)."""
    return float(log_normal_density(math.log(x), mean, sd)) - math.log(x)
