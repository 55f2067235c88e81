r"""The negative binomial likelihood of one gene, written so that it keeps its digits.

A count has mean ``mu`` and variance ``mu + alpha mu^2``. With :math:`r = 1 / \alpha`,

.. math::

    \log P(y) = \sum_{j < y} \log(1 + j \alpha) - \log y! + y \log \mu
    - (y + r) \log(1 + \alpha \mu)

which is the usual form with :math:`\log\Gamma(y + r) - \log\Gamma(r)` written as the sum it is.
Subtracting two values of log Gamma near :math:`r = 10^8` leaves no digit of a difference near 1;
the sum has every digit down to :math:`\alpha = 0`, the Poisson distribution.

>>> round(log_likelihood([3], [2.0], 0.5), 6), round(np.log(4 * 0.5**5).item(), 6)
(-2.079442, -2.079442)
>>> round(log_likelihood([3], [2.0], 0.0), 6), round(np.log(2**3 / 6).item() - 2, 6)
(-1.712318, -1.712318)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, xlogy

Vector = NDArray[np.float64]


def log_likelihood(counts: ArrayLike, mu: ArrayLike, alpha: float) -> float:
    r"""Return the log-likelihood of counts that are independent given their means.

    Parameters
    ----------
    counts : (n_cells,) int
    mu : (n_cells,), fitted means
    alpha : dispersion, >= 0

    Returns
    -------
    float
    """
    y, m = np.asarray(counts, dtype=np.float64), np.asarray(mu, dtype=np.float64)
    if alpha == 0:
        return float(np.sum(xlogy(y, m) - m - gammaln(y + 1)))
    rising = 0.0
    for count, n_cells in zip(*np.unique(y, return_counts=True), strict=True):
        rising += n_cells * float(np.log1p(np.arange(int(count)) * alpha).sum())
    return float(rising) + float(
        np.sum(xlogy(y, m) - gammaln(y + 1) - (y + 1 / alpha) * np.log1p(alpha * m))
    )


def mean_slopes(counts: ArrayLike, mu: ArrayLike, alpha: float) -> tuple[float, float]:
    r"""Return score and observed information for a common shift of all log means.

    .. math::

        S = \sum_i \frac{y_i - \mu_i}{1 + \alpha \mu_i}, \qquad
        J = \sum_i \frac{\mu_i (1 + \alpha y_i)}{(1 + \alpha \mu_i)^2}

    Parameters
    ----------
    counts, mu, alpha : as in :func:`log_likelihood`

    Returns
    -------
    tuple (S, J); J > 0, the log-likelihood is concave in the log mean.
    """
    y, m = np.asarray(counts, dtype=np.float64), np.asarray(mu, dtype=np.float64)
    score = np.sum((y - m) / (1 + alpha * m))
    return float(score), float(np.sum(m * (1 + alpha * y) / (1 + alpha * m) ** 2))


def working_weights(mu: ArrayLike, alpha: float) -> Vector:
    r"""Return the expected information :math:`\mu / (1 + \alpha \mu)` of every cell (n_cells,)."""
    m = np.asarray(mu, dtype=np.float64)
    return m / (1 + alpha * m)


def dispersion_slopes(counts: ArrayLike, mu: ArrayLike, alpha: float) -> tuple[float, float]:
    r"""Return the first and second derivative of the log-likelihood in :math:`a = \log \alpha`.

    With :math:`u = \alpha \mu` and :math:`v = u / (1 + u)`,

    .. math::

        \partial_a &= \sum_{j < y} \frac{j \alpha}{1 + j \alpha}
        + r \big(\log(1 + u) - v\big) - y v \\
        \partial_a^2 &= \sum_{j < y} \frac{j \alpha}{(1 + j \alpha)^2}
        - r \big(\log(1 + u) - 2 v + v (1 - v)\big) - y v (1 - v)

    summed over cells.

    Parameters
    ----------
    counts, mu, alpha : as in :func:`log_likelihood`; alpha > 0

    Returns
    -------
    tuple of float
    """
    y, m = np.asarray(counts, dtype=np.float64), np.asarray(mu, dtype=np.float64)
    first = second = 0.0
    for count, n_cells in zip(*np.unique(y, return_counts=True), strict=True):
        ratio = np.arange(int(count)) * alpha
        first += n_cells * float(np.sum(ratio / (1 + ratio)))
        second += n_cells * float(np.sum(ratio / (1 + ratio) ** 2))
    u = alpha * m
    v = u / (1 + u)
    first += float(np.sum((np.log1p(u) - v) / alpha - y * v))
    second -= float(np.sum((np.log1p(u) - 2 * v + v * (1 - v)) / alpha + y * v * (1 - v)))
    return first, second
