"""Which genes are expressed enough in a comparison to be worth a test.

A gene is left out only when it is low on *both* sides, and a side is low only when its fraction of
expressing cells *and* its mean are low. A gene that is well expressed in the control and silenced,
or absent from it and switched on, is tested.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ExpressionThresholds:
    """Four thresholds; a fraction of 0 switches the filter off.

    Attributes
    ----------
    min_pct_ctrl : fraction of control cells expressing the gene, in [0, 1]
    min_pct_pert : fraction of perturbed cells expressing the gene, in [0, 1]
    min_mean_ctrl : mean in the control, log1p units
    min_mean_pert : mean in the perturbed cells, log1p units
    """

    min_pct_ctrl: float = 0.01
    min_pct_pert: float = 0.002
    min_mean_ctrl: float = 0.05
    min_mean_pert: float = 0.005


def is_tested(
    pct_ctrl: float,
    mean_ctrl: float,
    pct_pert: float,
    mean_pert: float,
    thresholds: ExpressionThresholds,
) -> bool:
    r"""Return whether a gene is tested in one comparison.

    .. math::

        \text{untested} \iff
        (f_0 < f_0^{\min} \wedge m_0 < m_0^{\min}) \wedge
        (f_1 < f_1^{\min} \wedge m_1 < m_1^{\min})

    Parameters
    ----------
    pct_ctrl, pct_pert : fraction of cells with a value above 0
    mean_ctrl, mean_pert : mean expression, log1p units
    thresholds : a value equal to its threshold is not low

    Returns
    -------
    bool
    """
    control_is_low = pct_ctrl < thresholds.min_pct_ctrl and mean_ctrl < thresholds.min_mean_ctrl
    perturbed_is_low = pct_pert < thresholds.min_pct_pert and mean_pert < thresholds.min_mean_pert
    return not (control_is_low and perturbed_is_low)
