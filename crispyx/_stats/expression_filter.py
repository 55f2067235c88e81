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
    pct_control, pct_perturbed = control.fraction_expressing, perturbed.fraction_expressing
    if engine == "reference":
        sides = np.broadcast_arrays(pct_control, control.mean, pct_perturbed, perturbed.mean)
        tested = np.empty(perturbed.mean.shape, dtype=bool)
        for at in np.ndindex(tested.shape):
            pct0, mean0, pct1, mean1 = (float(side[at]) for side in sides)
            tested[at] = is_tested(pct0, mean0, pct1, mean1, thresholds)
        return tested
    low_control = (pct_control < thresholds.min_pct_ctrl) & (
        control.mean < thresholds.min_mean_ctrl
    )
    low_perturbed = (pct_perturbed < thresholds.min_pct_pert) & (
        perturbed.mean < thresholds.min_mean_pert
    )
    return ~(low_control & low_perturbed)
