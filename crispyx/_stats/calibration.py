"""Splits of control cells and what is counted of their p-values: one engine, the definition.

Reference: ``reference.calibration``.
"""

from __future__ import annotations

from reference.calibration import (
    CONFIDENCE,
    KINDS,
    binomial_interval,
    cell_generator,
    groups_that_fit,
    inflation,
    quantiles,
    random_split,
    ranks_of,
    share_below,
    split_generator,
    split_within_batches,
    thinned,
)

__all__ = [
    "CONFIDENCE",
    "KINDS",
    "binomial_interval",
    "cell_generator",
    "groups_that_fit",
    "inflation",
    "quantiles",
    "random_split",
    "ranks_of",
    "share_below",
    "split_generator",
    "split_within_batches",
    "thinned",
]
