"""Which (perturbation, gene) pairs of a block are expressed enough to be tested.

Reference: ``reference.expression_filter``.
"""

from __future__ import annotations

import numpy as np

from crispyx._stats.moments import GroupMoments
from crispyx.settings import Engine
from reference.expression_filter import ExpressionThresholds, is_tested

__all__ = ["ExpressionThresholds", "tested_pairs"]


def tested_pairs(
    moments: GroupMoments, thresholds: ExpressionThresholds, engine: Engine
) -> np.ndarray:
    """Return the pairs that pass (n_groups - 1, n_genes) bool."""
    fraction, mean = moments.fraction_expressing, moments.mean
    if engine == "reference":
        tested = np.empty((len(moments.sizes) - 1, mean.shape[1]), dtype=bool)
        for k, g in np.ndindex(tested.shape):
            tested[k, g] = is_tested(
                fraction[0, g], mean[0, g], fraction[k + 1, g], mean[k + 1, g], thresholds
            )
        return tested
    low_control = (fraction[0] < thresholds.min_pct_ctrl) & (mean[0] < thresholds.min_mean_ctrl)
    low_perturbed = (fraction[1:] < thresholds.min_pct_pert) & (
        mean[1:] < thresholds.min_mean_pert
    )
    return ~(low_control & low_perturbed)
