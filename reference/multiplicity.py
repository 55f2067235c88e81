"""Multiplicity of infection: how many guides cells carry, of which not every one is seen.

A cell is infected ``n`` times, with ``n`` Poisson distributed; only cells with at least one
infection survive selection. Every guide of a cell is seen with the same probability, the capture
``p``, so that ``k`` guides are counted in it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import binom, poisson


class Multiplicity(NamedTuple):
    """An estimate.

    Attributes
    ----------
    moi : mean number of infections before selection; infinite when no finite one fits
    capture : probability to see a guide that is there
    standard_error : of moi; NaN where the estimate stands at the border of what is possible
    """

    moi: float
    capture: float
    standard_error: float


def probabilities(moi: float, capture: float, n_largest: int) -> NDArray[np.float64]:
    r"""Return the probability to count 0, 1, ..., ``n_largest`` guides in a cell.

    .. math::

        P(k) = \sum_{n \ge \max(k, 1)} \frac{e^{-\lambda} \lambda^n / n!}{1 - e^{-\lambda}}
        \binom{n}{k} p^k (1 - p)^{n - k}

    Parameters
    ----------
    moi : lambda, above 0
    capture : p in (0, 1]
    n_largest : last k

    Returns
    -------
    (n_largest + 1,) float64

    Notes
    -----
    Source: Dixit et al., Cell 167, 2016, 1853-1866.e17, supplementary methods (cells per guide).
    More than ten standard deviations above the mean the Poisson probabilities are below 1e-20, and
    left out of the sum.
    """
    n = np.arange(1, n_largest + 2 + int(moi + 10.0 * math.sqrt(moi) + 50.0))
    weight = poisson.pmf(n, moi) / -math.expm1(-moi)
    k = np.arange(n_largest + 1)[:, None]
    total: NDArray[np.float64] = (weight * binom.pmf(k, n, capture)).sum(axis=1)
    return total


def log_likelihood(n_guides: ArrayLike, moi: float, capture: float) -> float:
    """Return the log likelihood of the numbers of guides seen in cells, natural log."""
    k = np.asarray(n_guides, dtype=np.int64)
    p = probabilities(moi, capture, int(k.max(initial=0)))
    return float(np.log(p)[k].sum())


def estimate(n_guides: ArrayLike, capture: float | None = None) -> Multiplicity:
    r"""Return the multiplicity and capture of largest likelihood.

    The guides that are seen are Poisson distributed with mean :math:`m = \lambda p`, so that cells
    with a guide tell m, and the share :math:`q` of cells without one tells the rest:

    .. math::

        \frac{m}{1 - e^{-m}} = \bar k_+, \qquad
        q = \frac{e^{-m} - e^{-\lambda}}{1 - e^{-\lambda}} \;\Rightarrow\;
        \lambda = -\ln \frac{e^{-m} - q}{1 - q}

    with :math:`\bar k_+` the mean of the counts above 0. A given capture leaves one unknown, the
    root of :func:`score`.

    Parameters
    ----------
    n_guides : (n_cells,) int, guides seen in each cell, at least one above 0
    capture : p in (0, 1], or None to estimate it too; 1 only without a count of 0

    Returns
    -------
    Multiplicity

    Notes
    -----
    Standard errors are those of the observed information. The two unknowns (m, q) are independent:

    .. math::

        \operatorname{Var}(\hat m)^{-1} = n_+ \left( \frac{1}{m (1 - e^{-m})}
        - \frac{e^{-m}}{(1 - e^{-m})^2} \right), \qquad
        \operatorname{Var}(\hat q) = \frac{q (1 - q)}{N}

    and those of :math:`\lambda` follow from its derivatives (delta method).
    """
    k = np.asarray(n_guides, dtype=np.int64)
    seen = k[k > 0]
    n_cells, n_none, total = k.size, k.size - seen.size, int(seen.sum())
    if capture is not None:
        return _with_capture(n_cells, n_none, total, capture)
    if total == seen.size:
        return Multiplicity(0.0, 1.0 - n_none / n_cells, math.nan)
    mean = total / seen.size
    m = float(brentq(lambda x: x / -math.expm1(-x) - mean, 1e-12, mean, xtol=1e-15, rtol=1e-15))
    q = n_none / n_cells
    left = math.exp(-m) - q
    if left <= 0:
        return Multiplicity(math.inf, 0.0, math.nan)
    moi = -math.log(left / (1.0 - q))
    some = -math.expm1(-m)
    variance_m = 1.0 / (seen.size * (1.0 / (m * some) - math.exp(-m) / some**2))
    variance_q = q * (1.0 - q) / n_cells
    by_m, by_q = math.exp(-m) / left, 1.0 / left - 1.0 / (1.0 - q)
    error = math.sqrt(by_m**2 * variance_m + by_q**2 * variance_q)
    return Multiplicity(moi, m / moi, error)


def score(moi: float, n_cells: int, n_none: int, total: int, capture: float) -> float:
    r"""Return the derivative of the log likelihood in lambda.

    .. math::

        \frac{K}{\lambda} - N p + \frac{n_0 (1 - p)}{e^{\lambda (1 - p)} - 1}
        - \frac{N}{e^\lambda - 1}

    with N cells, n_0 of them without a guide, and K guides in all.
    """
    missed = 1.0 - capture
    none = n_none * missed / math.expm1(moi * missed) if n_none else 0.0
    return total / moi - n_cells * capture + none - n_cells / math.expm1(moi)


def _with_capture(n_cells: int, n_none: int, total: int, capture: float) -> Multiplicity:
    facts = (n_cells, n_none, total, capture)
    low, high = 1e-6, 1.0
    if score(low, *facts) <= 0:
        return Multiplicity(0.0, capture, math.nan)
    while score(high, *facts) > 0:
        high *= 2.0
    moi = float(brentq(score, low, high, args=facts, xtol=1e-15, rtol=1e-14))
    return Multiplicity(moi, capture, 1.0 / math.sqrt(_information(moi, *facts)))


def _information(moi: float, n_cells: int, n_none: int, total: int, capture: float) -> float:
    missed = 1.0 - capture
    a = moi * missed
    none = n_none * missed**2 * math.exp(a) / math.expm1(a) ** 2 if n_none else 0.0
    return total / moi**2 + none - n_cells * math.exp(moi) / math.expm1(moi) ** 2
