"""Thresholds of quality control that follow the data."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from crispyx._io.annotations import as_labels
from crispyx._io.source import MatrixSource, open_source
from crispyx._stats.qc import ExpressionCounts, cells_per_label
from crispyx.data.arguments import require_nonnegative, whole
from crispyx.data.chunk_sizes import calculate_optimal_chunk_size
from crispyx.errors import InputError
from crispyx.settings import settings

PERCENTILES = {"conservative": 10, "aggressive": 5}
SEED = 0


def calculate_adaptive_qc_thresholds(
    adata: Any,
    perturbation_column: str,
    mode: Literal["conservative", "aggressive"] = "conservative",
    sample_size: int = 10_000,
    chunk_size: int | None = None,
) -> dict[str, int]:
    """Suggest thresholds that keep most of a data set and drop its outliers.

    ====================================  ========================================================
    ``min_genes``                         a tenth of the median number of expressed genes, 5 to 50
    ``min_cells_per_perturbation``        percentile of the cells per perturbation, 5 to 50
    ``min_cells_per_gene``                percentile of the expressing cells per gene, 5 to 100
    ====================================  ========================================================

    Genes are counted in a sample of cells, the same at every call.

    Parameters
    ----------
    adata : AnnData, anndata.AnnData, str or pathlib.Path
        Counts, on disk or in memory.
    perturbation_column : str
        obs column of labels.
    mode : {"conservative", "aggressive"}
        10th percentile (keeps about 90 %) or 5th (about 95 %).
    sample_size : int
        Cells whose genes are counted, at most.
    chunk_size : int or None
        Returned as it is, and cells read at a time; None takes
        :func:`calculate_optimal_chunk_size`.

    Returns
    -------
    dict
        ``min_genes``, ``min_cells_per_perturbation``, ``min_cells_per_gene``, ``chunk_size``: int.

    Raises
    ------
    ValueError
        Another mode; no labels; negative, NaN or infinite values.
    KeyError
        No such column.
    """
    if mode not in PERCENTILES:
        raise InputError(f"mode is {mode!r}; choose one of {tuple(PERCENTILES)}")
    whole("sample_size", sample_size, 1)
    with open_source(adata) as source:
        labels = as_labels(source.obs.column(perturbation_column))
        per_label = cells_per_label(labels, np.ones(len(labels), dtype=bool))
        if not per_label:
            raise InputError(f"obs column {perturbation_column!r} of {source.where} holds no label")
        if chunk_size is None:
            chunk_size = calculate_optimal_chunk_size(*source.shape)
        cells = _sample(source.shape[0], sample_size)
        counts = _count(source, cells, whole("chunk_size", chunk_size, 1))
    percentile = PERCENTILES[mode]
    return {
        "min_genes": _between(np.median(counts.genes_per_cell[cells]) // 10, 5, 50),
        "min_cells_per_perturbation": _between(
            np.percentile(list(per_label.values()), percentile), 5, 50
        ),
        "min_cells_per_gene": _between(np.percentile(counts.cells_per_gene, percentile), 5, 100),
        "chunk_size": int(chunk_size),
    }


def _sample(n_cells: int, sample_size: int) -> np.ndarray:
    """Return the sampled cells (n_cells,) bool."""
    chosen = np.ones(n_cells, dtype=bool)
    if n_cells > sample_size:
        left_out = n_cells - sample_size
        chosen[np.random.default_rng(SEED).permutation(n_cells)[:left_out]] = False
    return chosen


def _count(source: MatrixSource, cells: np.ndarray, chunk_size: int) -> ExpressionCounts:
    counts = ExpressionCounts.zeros(source.shape)
    by_cell = source.layout != "csc"
    summary = source.empty_summary()
    # Rows that lie between two sampled ones are not read; of columns every one is needed.
    spans = _runs(cells) if by_cell else [(0, source.shape[1])]
    for start, stop in spans:
        for block in source.native_blocks(summary, start=start, stop=stop, max_major=chunk_size):
            require_nonnegative(source, summary, "quality control")
            counts.add(block, cells, by_cell=by_cell, engine=settings.engine)
    return counts


def _runs(cells: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], cells, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _between(value: float, least: int, most: int) -> int:
    return int(min(max(value, least), most))
