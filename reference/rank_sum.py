"""Wilcoxon's rank-sum test (Mann-Whitney U) of one gene, exact up to the variance.

The pool of both arms is ranked; equal values share the mean of their ranks. Everything up to the
variance is an integer once doubled, so it is kept in integers: ``2 R``, ``2 U``, the tie term and
``N^3 - N`` have no rounding error, and Python's integers no overflow.

Example (worked by hand in ``README.md``):

>>> result = rank_sum([0.0, 0.0, 1.5], [0.0, 1.5, 2.0])
>>> result.u, round(result.z, 6), round(result.pvalue, 6)
(6.5, 0.942809, 0.345779)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class RankSumStatistic(NamedTuple):
    """What a rank-sum test rests on.

    Attributes
    ----------
    twice_excess : 2 U - n0 n1, twice the excess of U over its mean without an effect; an integer
    variance : of U without an effect; 0 when all values are equal, NaN when an arm is empty
    """

    twice_excess: int
    variance: float


class RankSumTest(NamedTuple):
    """One rank-sum test.

    Attributes
    ----------
    u : U of the perturbed arm, pairs (perturbed, control) won plus half the pairs tied
    z : standardized U, positive when the perturbed cells express more
    pvalue : two-sided, normal approximation, no continuity correction
    effect_size : U / (n1 n0) - 1/2 in [-1/2, 1/2]; the area under the ROC curve minus 1/2
    """

    u: float
    z: float
    pvalue: float
    effect_size: float


def rank_sum(control: ArrayLike, perturbed: ArrayLike, tie_correct: bool = True) -> RankSumTest:
    r"""Test whether perturbed cells rank above or below control cells.

    .. math::

        U = R_1 - \frac{n_1 (n_1 + 1)}{2}, \qquad
        \sigma^2 = \frac{n_0 n_1}{12} \, \frac{N^3 - N - T}{N (N - 1)}, \qquad
        z = \frac{U - n_0 n_1 / 2}{\sigma}, \qquad
        p = \operatorname{erfc}\frac{|z|}{\sqrt 2}

    with :math:`R_1` the sum of the perturbed cells' midranks, :math:`N = n_0 + n_1` and
    :math:`T = \sum (t^3 - t)` over the groups of ``t`` equal values in the pool. The variance is
    :math:`n_0 n_1 (N + 1) / 12` times the usual tie factor :math:`1 - T / (N^3 - N)`.

    Parameters
    ----------
    control : (n0,), one gene, any unit: only the order of the values matters
    perturbed : (n1,), same gene and unit
    tie_correct : subtract ``T``; False uses the variance of a pool without ties

    Returns
    -------
    RankSumTest, all NaN when an arm is empty; z = 0 and p = 1 when all values are equal.

    Raises
    ------
    ValueError
        If a value is NaN or infinite: it has no rank.

    Notes
    -----
    Source: H. B. Mann and D. R. Whitney, Ann. Math. Statist. 18 (1947) 50-60; variance with ties:
    J. Hemelrijk, Indagationes Mathematicae 14 (1952) 150-155.
    """
    twice_excess, variance = statistic(control, perturbed, tie_correct)
    if math.isnan(variance):
        return RankSumTest(math.nan, math.nan, math.nan, math.nan)
    pairs = np.size(control) * np.size(perturbed)
    z = twice_excess / 2 / math.sqrt(variance) if variance > 0 else 0.0
    u = (twice_excess + pairs) / 2
    return RankSumTest(u, z, math.erfc(abs(z) / math.sqrt(2)), u / pairs - 0.5)


def statistic(
    control: ArrayLike, perturbed: ArrayLike, tie_correct: bool = True
) -> RankSumStatistic:
    """Return the integer and the variance that the test rests on.

    Parameters
    ----------
    control, perturbed, tie_correct : see :func:`rank_sum`

    Returns
    -------
    RankSumStatistic
    """
    x0, x1 = _finite(control, "control"), _finite(perturbed, "perturbed")
    n0, n1 = x0.size, x1.size
    if n0 == 0 or n1 == 0:
        return RankSumStatistic(0, math.nan)
    n = n0 + n1
    pool = np.sort(np.concatenate([x0, x1]))

    twice_rank_sum = int(twice_midranks(pool, x1).sum())
    twice_u = twice_rank_sum - n1 * (n1 + 1)
    ties = tie_term(pool) if tie_correct else 0

    # Python divides integers of any size with a single rounding.
    variance = (n0 * n1 * (n**3 - n - ties)) / (12 * n * (n - 1))
    return RankSumStatistic(twice_u - n0 * n1, variance)


def twice_midranks(pool: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return twice the midrank of every value within the sorted pool.

    The cells equal to ``x`` hold ranks ``below + 1 .. below + t``; their mean is
    ``below + (t + 1) / 2``, and twice that is ``below + (below + t) + 1``.

    Parameters
    ----------
    pool : (N,), sorted
    values : (n,), all of them in the pool

    Returns
    -------
    (n,) int64
    """
    below = np.searchsorted(pool, values, side="left")
    below_or_equal = np.searchsorted(pool, values, side="right")
    return below + below_or_equal + 1


def tie_term(pool: NDArray[np.float64]) -> int:
    """Return ``T``, the sum of ``t^3 - t`` over the groups of ``t`` equal values.

    Parameters
    ----------
    pool : (N,), sorted

    Returns
    -------
    int, exact; 0 when all values differ, ``N^3 - N`` when all are equal.
    """
    ends = np.flatnonzero(pool[1:] != pool[:-1]) + 1
    sizes = np.diff(ends, prepend=0, append=pool.size)
    return sum(t**3 - t for t in sizes.tolist())


def _finite(values: ArrayLike, arm: str) -> NDArray[np.float64]:
    x = np.asarray(values, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(x))
    if bad.size:
        cell = int(bad[0])
        raise ValueError(
            f"{arm} cell {cell} has value {x[cell]}, which has no rank; remove or replace "
            "NaN and infinite values before testing."
        )
    return x
