"""Which (perturbation, gene) pairs of a block are expressed enough to be tested.

Reference: ``reference.expression_filter``.
"""

from __future__ import annotations

import numpy as np

from crispyx._kernels import expression_filter as kernel
from crispyx._stats.moments import Arm
from crispyx.settings import Engine
from reference.expression_filter import ExpressionThresholds, is_tested

__all__ = ["ExpressionThresholds", "tested_pairs"]


def tested_pairs(
    control: Arm,
    perturbed: Arm,
    thresholds: ExpressionThresholds,
    engine: Engine,
    n_threads: int,
) -> np.ndarray:
    """Return the pairs that pass (n_groups - 1, n_genes) bool."""
    if engine == "reference":
        pct_control, pct_perturbed = control.fraction_expressing, perturbed.fraction_expressing
        sides = np.broadcast_arrays(pct_control, control.mean, pct_perturbed, perturbed.mean)
        tested = np.empty(perturbed.mean.shape, dtype=bool)
        for at in np.ndindex(tested.shape):
            pct0, mean0, pct1, mean1 = (float(side[at]) for side in sides)
            tested[at] = is_tested(pct0, mean0, pct1, mean1, thresholds)
        return tested
    tested = np.empty(perturbed.mean.shape, dtype=bool)
    kernel.tested_pairs(
        np.ascontiguousarray(control.n_expressing),
        np.ascontiguousarray(control.mean),
        control.n_cells[:, 0],
        np.ascontiguousarray(perturbed.n_expressing),
        np.ascontiguousarray(perturbed.mean),
        perturbed.n_cells[:, 0],
        thresholds.min_pct_ctrl,
        thresholds.min_pct_pert,
        thresholds.min_mean_ctrl,
        thresholds.min_mean_pert,
        tested.view(np.uint8),
        n_threads,
    )
    return tested
