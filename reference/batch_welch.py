"""The t-test within batches: one difference of means, with a variance for each arm of each batch.

Example: one batch is Welch's test.

>>> result = welch_in_batches([([0, 2], [3, 5, 7])])
>>> round(result.difference, 6), round(result.statistic, 6)
(4.0, 2.618615)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr

from reference.moments import mean, variance
from reference.pseudobulk import batch_weights
from reference.van_elteren import ALTERNATIVES

Batch = tuple[ArrayLike, ArrayLike]


class BatchWelchTest(NamedTuple):
    """One test.

    Attributes
    ----------
    difference : weighted mean of the differences (perturbed - control) within batches
    statistic : t, positive when the perturbed cells express more
    degrees_of_freedom : Satterthwaite's approximation
    pvalue : Student's distribution
    """

    difference: float
    statistic: float
    degrees_of_freedom: float
    pvalue: float


def welch_in_batches(batches: Sequence[Batch], alternative: str = "two-sided") -> BatchWelchTest:
    r"""Compare two means within batches, without assuming equal variances anywhere.

    .. math::

        \hat\delta = \sum_b w_b (\bar x_{1b} - \bar x_{0b}), \qquad
        w_b \propto \frac{n_{0b} n_{1b}}{n_{0b} + n_{1b}}, \qquad
        t = \frac{\hat\delta}{\sqrt{\sum_a q_a}}, \qquad q_{kb} = w_b^2 \frac{v_{kb}}{n_{kb}},
        \qquad
        \nu = \frac{(\sum_a q_a)^2}{\sum_a q_a^2 / (n_a - 1)}

    where a runs over both arms of all batches. :math:`\hat\delta` is the least-squares coefficient
    of the perturbation in a model with an intercept for every batch; its variance is estimated as
    in Welch's test. One batch has weight 1: the test is then Welch's.

    Parameters
    ----------
    batches : (control, perturbed) of every batch, log-normalized expression of one gene
    alternative : "two-sided", "greater" (perturbed cells express more) or "less"

    Returns
    -------
    BatchWelchTest: all NaN when no batch has two cells of both arms; statistic and p NaN when no
    arm varies. Batches with fewer than two cells in an arm are left out.

    Notes
    -----
    Source: B. L. Welch, Biometrika 34 (1947) 28-35, for linear combinations of means.
    """
    used = [(c, p) for c, p in batches if np.size(c) >= 2 and np.size(p) >= 2]
    if not used:
        return BatchWelchTest(math.nan, math.nan, math.nan, math.nan)
    weights = batch_weights([np.size(c) for c, _ in used], [np.size(p) for _, p in used])
    difference, shares = 0.0, []
    for w, (control, perturbed) in zip(weights.tolist(), used, strict=True):
        difference += w * (mean(perturbed) - mean(control))
        for arm in (control, perturbed):
            shares.append((w**2 * variance(arm) / np.size(arm), np.size(arm) - 1))
    total = sum(q for q, _ in shares)
    if total == 0:
        return BatchWelchTest(difference, math.nan, math.nan, math.nan)
    t = difference / math.sqrt(total)
    df = 1 / sum((q / total) ** 2 / n for q, n in shares)
    return BatchWelchTest(difference, t, df, student_tail(t, df, alternative))


def student_tail(t: float, degrees_of_freedom: float, alternative: str = "two-sided") -> float:
    """Return the p-value of a t statistic.

    Parameters
    ----------
    t : statistic
    degrees_of_freedom : of Student's distribution
    alternative : "two-sided", "greater" (large t) or "less" (small t)

    Raises
    ------
    ValueError
        Another alternative.
    """
    if alternative not in ALTERNATIVES:
        raise ValueError(f"alternative={alternative!r}; choose one of {ALTERNATIVES}.")
    if alternative == "two-sided":
        return float(2 * stdtr(degrees_of_freedom, -abs(t)))
    return float(stdtr(degrees_of_freedom, -t if alternative == "greater" else t))
