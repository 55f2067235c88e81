r"""Permutation test of a log fold change of 0, on the residuals of the score test.

The residuals :math:`r_i = q_i (y_i - \mu_i)` are taken under the null
(:mod:`reference.score_test`), and their sum over the perturbed cells is compared with the sums over
random sets of as many cells of the comparison, drawn within each batch:

.. math::

    p = \min\Big(1,\; 2 \frac{1 + \#\{T_d \ge U\}}{1 + D}\Big)

in the tail on which U lies. The test assumes only that cells of a batch are exchangeable under the
null; depth enters through :math:`\mu_i` and is not permuted away.

Small p-values need many draws: they are taken in rounds, and a test stops after a round in which
enough random sets have reached its score (Besag and Clifford, Biometrika 78 (1991) 301-304).
Random sets depend on the numbers of cells alone. All genes share them, and so do perturbations of
equal size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from reference.nb_coefficients import Arm
from reference.score_test import Batch, null_batch, speaks

Vector = NDArray[np.float64]

MOST_SETS = 100_000
ENOUGH = 20
AT_A_TIME = 1_000
TIE = 1e-9


@lru_cache(maxsize=32)
def random_sets(
    n_control: int, n_perturbed: int, n_sets: int, seed: int, number: int
) -> NDArray[np.int32]:
    """Draw sets of cells of one batch of a comparison.

    Parameters
    ----------
    n_control, n_perturbed : cells of both arms in the batch
    n_sets : how many
    seed, number : seed of the test and number of the draw, so that every round has sets of its own

    Returns
    -------
    (n_sets, n_perturbed) int32, not to be written to; controls are 0 to n_control - 1, perturbed
    cells follow.
    """
    rng = np.random.default_rng([seed, number, n_control, n_perturbed])
    n_cells = n_control + n_perturbed
    sets = np.empty((n_sets, n_perturbed), dtype=np.int32)
    for one in sets:
        one[:] = rng.choice(n_cells, n_perturbed, replace=False, shuffle=False)
    sets.flags.writeable = False
    return sets


def rounds_up_to(most: int) -> list[int]:
    """Return the sets of each round: 1,000, ten times as many in all, and so on.

    Parameters
    ----------
    most : sets of all rounds, at least 1,000; rounded up to thousands
    """
    thousands = -(-most // AT_A_TIME)
    totals = [0, 1]
    while totals[-1] < thousands:
        totals.append(min(10 * totals[-1], thousands))
    return [AT_A_TIME * (b - a) for a, b in pairwise(totals)]


def permutation_pvalue(
    batches: Sequence[Batch], alpha: float, seed: int, most: int = MOST_SETS
) -> tuple[float, float]:
    """Return the p-value and the observed score U.

    Parameters
    ----------
    batches : control and perturbed cells of each batch; sets are drawn from the cells of an arm in
        the order of their size factors
    alpha : dispersion above 0
    seed : of the random sets
    most : sets of all rounds, see :func:`rounds_up_to`

    Returns
    -------
    tuple (p, U); NaN and 0 where no batch has both arms and a count.
    """
    used = [
        (b, _by_size(control), _by_size(perturbed))
        for b, (control, perturbed) in enumerate(batches)
        if speaks(control, perturbed)
    ]
    if not used:
        return math.nan, 0.0
    residuals = [score_residuals(control, perturbed, alpha) for _, control, perturbed in used]
    u = sum(
        float(r[control.counts.size :].sum())
        for r, (_, control, _) in zip(residuals, used, strict=True)
    )
    sign = math.copysign(1.0, u)
    scale = math.sqrt(sum(float(r @ r) for r in residuals))
    n_sets = reached = number = 0
    for wanted in rounds_up_to(most):
        for _ in range(wanted // AT_A_TIME):
            sums = np.zeros(AT_A_TIME)
            for r, (b, control, perturbed) in zip(residuals, used, strict=True):
                n0, n1 = control.counts.size, perturbed.counts.size
                sums += r[random_sets(n0, n1, AT_A_TIME, seed, number * len(batches) + b)].sum(
                    axis=1
                )
            # Equal sums differ by rounding only; a tie counts against the null.
            reached += int(np.count_nonzero(sign * (sums - u) >= -TIE * scale))
            number += 1
        n_sets += wanted
        if reached >= ENOUGH:
            break
    return min(1.0, 2 * (1 + reached) / (1 + n_sets)), u


def score_residuals(control: Arm, perturbed: Arm, alpha: float) -> Vector:
    """Return q (y - mu) under the null, the control's cells first."""
    null = null_batch(control, perturbed, alpha)
    mu = np.concatenate([null.control, null.perturbed])
    counts = np.concatenate([control.counts, perturbed.counts])
    return (counts - mu) / (1 + alpha * mu)


def _by_size(arm: Arm) -> Arm:
    order = np.argsort(arm.size_factors, kind="stable")
    return Arm(arm.counts[order], arm.size_factors[order])
