"""Guide calls by rule for a block of cells.

Reference: ``reference.guide_rules``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
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


def quantile_flags(
    shape: tuple[int, int],
    cells: np.ndarray,
    guides: np.ndarray,
    counts: np.ndarray,
    quantile: float,
    engine: Engine,
) -> np.ndarray:
    """Return the counts of highest proportion, ``floor(quantile n)`` of the n counts of each guide.

    Parameters
    ----------
    shape : tuple (n_cells, n_guides)
        Shape of the matrix.
    cells, guides : numpy.ndarray (nnz,) int
        Place of each count above 0, cell after cell.
    counts : numpy.ndarray (nnz,) int
        UMIs.
    quantile : float
        Share of the guide's cells, read as the decimal number it is written as.
    engine : {"compiled", "reference"}
        Which definition runs.

    Returns
    -------
    numpy.ndarray (nnz,) bool
        On equal proportions the earlier cell goes first.
    """
    if engine == "reference":
        dense = np.zeros(shape, dtype=np.int64)
        dense[cells, guides] = counts
        taken: np.ndarray = reference.guide_rules.assign_quantiles(dense, quantile)[cells, guides]
        return taken
    y = counts.astype(np.float64)
    depth = np.bincount(cells, weights=y, minlength=shape[0])
    order = np.lexsort((-y / depth[cells], guides))
    n = np.bincount(guides, minlength=shape[1])
    share = Fraction(repr(float(quantile)))
    n_taken = np.array([math.floor(share * int(size)) for size in n], dtype=np.int64)
    sorted_guides = guides[order]
    rank = np.arange(len(order)) - (np.cumsum(n) - n)[sorted_guides]
    flags = np.empty(len(order), dtype=bool)
    flags[order] = rank < n_taken[sorted_guides]
    return flags
