"""Multiplicity of infection from the number of cells with 0, 1, 2, ... guides.

Reference: ``reference.multiplicity``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

import reference.multiplicity
from crispyx.settings import Engine

STEPS = 60


@dataclass(frozen=True)
class MultiplicityEstimate:
    """An estimate.

    Attributes
    ----------
    moi : float
        Mean number of infections before selection; infinite when no finite one fits.
    capture : float
        Probability to see a guide that is there.
    standard_error : float
        Of ``moi``; NaN where the estimate stands at the border of what is possible.
    """

    moi: float
    capture: float
    standard_error: float


def estimate_multiplicity(
    histogram: np.ndarray, capture: float | None, engine: Engine
) -> MultiplicityEstimate:
    """Return the multiplicity of largest likelihood.

    Parameters
    ----------
    histogram : numpy.ndarray (n_largest + 1,) int
        Cells with 0, 1, ... guides; some have one.
    capture : float in (0, 1] or None
        None estimates it; 1 only without cells that have none.
    engine : {"compiled", "reference"}
        Which definition runs.
    """
    if engine == "reference":
        n_guides = np.repeat(np.arange(len(histogram)), histogram)
        return MultiplicityEstimate(*reference.multiplicity.estimate(n_guides, capture))
    n_cells, n_none = int(histogram.sum()), int(histogram[0])
    total = int(np.arange(len(histogram)) @ histogram)
    if capture is not None:
        return _with_capture(n_cells, n_none, total, capture)
    n_seen = n_cells - n_none
    if total == n_seen:
        return MultiplicityEstimate(0.0, 1.0 - n_none / n_cells, math.nan)
    m = _truncated_mean_inverse(total / n_seen)
    q = n_none / n_cells
    left = math.exp(-m) - q
    if left <= 0:
        return MultiplicityEstimate(math.inf, 0.0, math.nan)
    moi = math.log1p(-q) - math.log(left)
    some = -math.expm1(-m)
    by_m, by_q = math.exp(-m) / left, 1 / left - 1 / (1 - q)
    variance = by_m**2 / (n_seen * (1 / (m * some) - math.exp(-m) / some**2))
    variance += by_q**2 * q * (1 - q) / n_cells
    return MultiplicityEstimate(moi, m / moi, math.sqrt(variance))


def _truncated_mean_inverse(mean: float) -> float:
    """Return m with ``m / (1 - exp(-m)) = mean``, by Newton's method from above."""
    m = 2 * (mean - 1) if mean < 2 else mean
    for _ in range(STEPS):
        some = -math.expm1(-m)
        # Of m - mean (1 - exp(-m)), which is convex: steps come down to the root and stay above it.
        step = (m - mean * some) / (1 - mean * math.exp(-m))
        m -= step
        if abs(step) <= 1e-15 * m:
            break
    return m


def _with_capture(n_cells: int, n_none: int, total: int, capture: float) -> MultiplicityEstimate:
    missed = 1 - capture

    def slopes(moi: float) -> tuple[float, float]:
        a = moi * missed
        slope = total / moi - n_cells * capture - n_cells / math.expm1(moi)
        curve = -total / moi**2 + n_cells / (math.expm1(moi) * -math.expm1(-moi))
        if n_none:
            slope += n_none * missed / math.expm1(a)
            curve -= n_none * missed**2 / (math.expm1(a) * -math.expm1(-a))
        return slope, curve

    low, high = 1e-6, 1.0
    if slopes(low)[0] <= 0:
        return MultiplicityEstimate(0.0, capture, math.nan)
    while slopes(high)[0] > 0:
        high *= 2
    moi = (low + high) / 2
    for _ in range(STEPS):
        slope, curve = slopes(moi)
        low, high = (moi, high) if slope > 0 else (low, moi)
        best = moi - slope / curve if curve < 0 else low
        # Newton's step where it stays within the bracket, else its middle.
        after = best if low < best < high else (low + high) / 2
        done = abs(after - moi) <= 1e-15 * moi
        moi = after
        if done:
            break
    return MultiplicityEstimate(moi, capture, 1 / math.sqrt(-slopes(moi)[1]))


def expected_cells(n_cells: int, moi: float, capture: float, n_largest: int) -> np.ndarray:
    r"""Return the cells expected with 0, 1, ..., ``n_largest`` guides (n_largest + 1,) float64.

    In closed form, with :math:`m = \lambda p`:
    :math:`P(0) = (e^{-m} - e^{-\lambda}) / (1 - e^{-\lambda})` and
    :math:`P(k) = e^{-m} m^k / k! / (1 - e^{-\lambda})`.
    """
    from scipy.special import gammaln

    k = np.arange(n_largest + 1)
    m = moi * capture
    probability = np.exp(k * np.log(m) - m - gammaln(k + 1.0)) / -math.expm1(-moi)
    probability[0] = math.exp(-m) * -math.expm1(-(moi - m)) / -math.expm1(-moi)
    return n_cells * probability


def share_infected_repeatedly(moi: float) -> float:
    r"""Return the share of infected cells with more than one infection.

    :math:`1 - \lambda / (e^\lambda - 1)`, seen or not.
    """
    return 1 - moi / math.expm1(moi) if moi > 0 else 0.0
