"""Van Elteren's test: Wilcoxon's rank-sum test within batches, combined over batches.

Example: two batches of two cells each. In both the perturbed cell ranks above the control cell.

>>> result = van_elteren([([0.0], [1.0]), ([5.0], [7.0])])
>>> result.u, result.effect_size, round(result.z, 6)
(1.0, 0.5, 1.414214)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from reference.rank_sum import RankSumTest, statistic

ALTERNATIVES = ("two-sided", "greater", "less")

Batch = tuple[ArrayLike, ArrayLike]


def van_elteren(
    batches: Sequence[Batch], tie_correct: bool = True, alternative: str = "two-sided"
) -> RankSumTest:
    r"""Test whether perturbed cells rank above or below the control cells of their own batch.

    .. math::

        z = \frac{\sum_b w_b \left(U_b - n_{0b} n_{1b} / 2\right)}
                 {\sqrt{\sum_b w_b^2 \sigma_b^2}}, \qquad
        w_b \propto \frac{1}{N_b + 1}, \qquad \sum_b w_b = 1

    with :math:`U_b` and :math:`\sigma_b^2` those of the rank-sum test within batch b and
    :math:`N_b = n_{0b} + n_{1b}`. Batches without one of the arms say nothing and are left out. One
    batch has weight 1: the test is then the rank-sum test.

    Parameters
    ----------
    batches : (control, perturbed) of every batch, values of one gene
    tie_correct : account for ties in the variances
    alternative : "two-sided", "greater" (perturbed cells express more) or "less"

    Returns
    -------
    RankSumTest: u, the weighted mean of the U of all batches; z; p; effect_size, that u over the
    weighted mean of n1 n0, minus 1/2. All NaN when no batch has both arms; z = 0 when all values
    are equal within every batch.

    Notes
    -----
    Source: Ph. van Elteren, Bulletin de l'Institut International de Statistique 37 (1960) 351-361;
    E. L. Lehmann, Nonparametrics: Statistical Methods Based on Ranks (1975), section 3.3.
    """
    used = [(c, p) for c, p in batches if np.size(c) and np.size(p)]
    if not used:
        return RankSumTest(math.nan, math.nan, math.nan, math.nan)
    weights = [1 / (np.size(c) + np.size(p) + 1) for c, p in used]
    total = sum(weights)
    excess = variance = u = pairs = 0.0
    for weight, (control, perturbed) in zip(weights, used, strict=True):
        w = weight / total
        batch = statistic(control, perturbed, tie_correct)
        n = np.size(control) * np.size(perturbed)
        excess += w * batch.twice_excess / 2
        variance += w**2 * batch.variance
        u += w * (batch.twice_excess + n) / 2
        pairs += w * n
    z = excess / math.sqrt(variance) if variance > 0 else 0.0
    return RankSumTest(u, z, normal_tail(z, alternative), u / pairs - 0.5)


def normal_tail(z: float, alternative: str = "two-sided") -> float:
    """Return the p-value of a standardized statistic.

    Parameters
    ----------
    z : statistic, standard normal without an effect
    alternative : "two-sided", "greater" (large z) or "less" (small z)

    Raises
    ------
    ValueError
        Another alternative.
    """
    if alternative not in ALTERNATIVES:
        raise ValueError(f"alternative={alternative!r}; choose one of {ALTERNATIVES}.")
    if alternative == "two-sided":
        return math.erfc(abs(z) / math.sqrt(2))
    return math.erfc((z if alternative == "greater" else -z) / math.sqrt(2)) / 2
