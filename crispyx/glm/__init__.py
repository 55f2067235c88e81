"""The parts of the negative binomial test as functions and fitters on matrices."""

from __future__ import annotations

from crispyx.glm.batch_fitter import NBGLMBatchFitter
from crispyx.glm.control import (
    precompute_control_statistics,
    precompute_control_statistics_streaming,
    precompute_global_dispersion,
    precompute_global_dispersion_from_path,
)
from crispyx.glm.design import build_design_matrix
from crispyx.glm.dispersions import (
    estimate_dispersion_map,
    fit_dispersion_trend,
    shrink_dispersions,
)
from crispyx.glm.fitter import NBGLMFitter
from crispyx.glm.outliers import compute_cooks_distance_batch, filter_outliers_cooks
from crispyx.glm.results import ControlStatisticsCache, NBGLMBatchResult, NBGLMResult
from crispyx.glm.shrinkage import shrink_lfc_apeglm, shrink_lfc_apeglm_from_stats
from crispyx.glm.streaming import (
    estimate_covariate_effects_streaming,
    estimate_global_dispersion_streaming,
)

__all__ = [
    "ControlStatisticsCache",
    "NBGLMBatchFitter",
    "NBGLMBatchResult",
    "NBGLMFitter",
    "NBGLMResult",
    "build_design_matrix",
    "compute_cooks_distance_batch",
    "estimate_covariate_effects_streaming",
    "estimate_dispersion_map",
    "estimate_global_dispersion_streaming",
    "filter_outliers_cooks",
    "fit_dispersion_trend",
    "precompute_control_statistics",
    "precompute_control_statistics_streaming",
    "precompute_global_dispersion",
    "precompute_global_dispersion_from_path",
    "shrink_dispersions",
    "shrink_lfc_apeglm",
    "shrink_lfc_apeglm_from_stats",
]
