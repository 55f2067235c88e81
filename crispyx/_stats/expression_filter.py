"""Which (perturbation, gene) pairs of a block are expressed enough to be tested.

Reference: ``reference.expression_filter``.
"""

from __future__ import annotations

import numpy as np

from crispyx._stats.moments import Arm
from crispyx.settings import Engine
from reference.expression_filter import ExpressionThresholds, is_tested

__all__ = ["ExpressionThresholds", "tested_pairs"]


def tested_pairs(
    control: Arm, perturbed: Arm, thresholds: ExpressionThresholds, engine: Engine
) -> np.ndarray:
    """Return the pairs that pass (n_groups - 1, n_genes) bool."""
    sides = (control.fraction_expressing, control.mean)
    sides += (perturbed.fraction_expressing, perturbed.mean)
    if engine == "reference":
        sides = np.broadcast_arrays(*sides)
        tested = np.empty(sides[0].shape, dtype=bool)
        for at in np.ndindex(tested.shape):
            tested[at] = is_tested(*(side[at] for side in sides), thresholds)
        return tested
    pct_control, mean_control, pct_perturbed, mean_perturbed = sides
    low_control = (pct_control < thresholds.min_pct_ctrl) & (
        mean_control < thresholds.min_mean_ctrl
    )
    low_perturbed = (pct_perturbed < thresholds.min_pct_pert) & (
        mean_perturbed < thresholds.min_mean_pert
    )
    return ~(low_control & low_perturbed)
