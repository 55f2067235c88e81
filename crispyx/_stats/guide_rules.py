"""Guide calls by rule for a block of cells.

Reference: ``reference.guide_rules``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

import reference.guide_rules
from crispyx._kernels import guide_rules as kernel
from crispyx._kernels.layout import CompressedBlock
from crispyx.settings import Engine

Rule = Literal["umi", "max", "ratio"]
DENSE_VALUES = 4_000_000  # counts that the reference holds at once: 32 MB


def assigned_flags(
    block: CompressedBlock,
    n_guides: int,
    rule: Rule,
    threshold: float,
    engine: Engine,
    n_threads: int = 1,
) -> np.ndarray:
    """Return which stored counts are calls.

    Parameters
    ----------
    block : CompressedBlock
        Rows of a cells x guides matrix of whole numbers >= 0.
    n_guides : int
        Columns of that matrix.
    rule : {"umi", "max", "ratio"}
        At least ``threshold`` UMIs; the only largest count of the cell, if at least ``threshold``;
        the largest counts of the cell, if their proportion of it is above ``threshold``.
    threshold : float
        UMIs (inclusive) or proportion (strict).
    engine : {"compiled", "reference"}
        Which definition runs.
    n_threads : int
        Threads of the kernel.

    Returns
    -------
    numpy.ndarray (nnz,) uint8
        1 for a call; a stored zero is never one.
    """
    if engine == "reference":
        return _reference_flags(block, n_guides, rule, threshold)
    assigned = np.empty(len(block.values), dtype=np.uint8)
    if rule == "umi":
        kernel.assign_umi(block.values, threshold, assigned, n_threads)
    elif rule == "max":
        kernel.assign_max(block.values, block.ptr, threshold, assigned, n_threads)
    else:
        kernel.assign_ratio(block.values, block.ptr, threshold, assigned, n_threads)
    return assigned


def _reference_flags(
    block: CompressedBlock, n_guides: int, rule: Rule, threshold: float
) -> np.ndarray:
    assign: Callable[..., np.ndarray] = {
        "umi": reference.guide_rules.assign_umi,
        "max": reference.guide_rules.assign_max,
        "ratio": reference.guide_rules.assign_ratio,
    }[rule]
    assigned = np.empty(len(block.values), dtype=np.uint8)
    cell_of_value = np.repeat(np.arange(block.n_major), np.diff(block.ptr))
    step = max(1, DENSE_VALUES // n_guides)
    for start in range(0, block.n_major, step):
        stop = min(start + step, block.n_major)
        here = slice(block.ptr[start], block.ptr[stop])
        place = cell_of_value[here] - start, block.minor[here]
        counts = np.zeros((stop - start, n_guides), dtype=np.int64)
        counts[place] = block.values[here]
        assigned[here] = assign(counts, threshold)[place]
    return assigned


def quantile_flags(guides: np.ndarray, proportions: np.ndarray, quantile: float) -> np.ndarray:
    """Return the counts in the first ``floor(quantile n)`` of the n counts of their guide.

    Parameters
    ----------
    guides : numpy.ndarray (nnz,) int
        Guide of each count above 0, cell after cell.
    proportions : numpy.ndarray (nnz,) float64
        Share of the cell's guide UMIs; the largest come first, earlier cells on ties.
    quantile : float
        Share of the guide's cells.

    Returns
    -------
    numpy.ndarray (nnz,) bool
    """
    order = np.lexsort((-proportions, guides))
    n = np.bincount(guides) if len(guides) else np.zeros(0, dtype=np.int64)
    first = np.cumsum(n) - n
    sorted_guides = guides[order]
    rank = np.arange(len(order)) - first[sorted_guides]
    flags = np.empty(len(order), dtype=bool)
    # A product such as 0.1 * 30 may lie below its whole number by rounding.
    flags[order] = rank < np.floor(quantile * n * (1 + 1e-15))[sorted_guides]
    return flags
