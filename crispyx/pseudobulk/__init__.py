"""Profiles of groups of cells and their differences (``crispyx.pseudobulk``, ``cx.pb``)."""

from crispyx.pseudobulk.effects import effects, normalized_effects
from crispyx.pseudobulk.expression import (
    compute_average_log_expression,
    compute_pseudobulk_expression,
)
from crispyx.pseudobulk.profiles import aggregate

__all__ = [
    "aggregate",
    "compute_average_log_expression",
    "compute_pseudobulk_expression",
    "effects",
    "normalized_effects",
]
