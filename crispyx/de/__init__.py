"""Differential expression: every perturbation against the control."""

from __future__ import annotations

from crispyx.de.calibration import calibration
from crispyx.de.calibration_tables import CalibrationResult, load_calibration
from crispyx.de.concordance import guide_concordance
from crispyx.de.nb_glm import nb_glm_test
from crispyx.de.rank_genes_groups import rank_genes_groups
from crispyx.de.residual_effects import residual_effects
from crispyx.de.results import DifferentialExpressionResult, RankGenesGroupsResult
from crispyx.de.shrinkage import shrink_lfc
from crispyx.de.steps import BlockPlan, assemble_blocks, plan_blocks, run_block
from crispyx.de.storage import load_result
from crispyx.de.t_test import t_test
from crispyx.de.wilcoxon import wilcoxon_test

__all__ = [
    "BlockPlan",
    "CalibrationResult",
    "DifferentialExpressionResult",
    "RankGenesGroupsResult",
    "assemble_blocks",
    "calibration",
    "guide_concordance",
    "load_calibration",
    "load_result",
    "nb_glm_test",
    "plan_blocks",
    "rank_genes_groups",
    "residual_effects",
    "run_block",
    "shrink_lfc",
    "t_test",
    "wilcoxon_test",
]
