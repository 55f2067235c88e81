"""Shrinkage of the fold changes of a negative binomial result, block by block."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from crispyx._jobs.results import Column
from crispyx._kernels.layout import CompressedBlock
from crispyx._run.budget import working_memory
from crispyx._stats.apeglm import (
    Searching,
    Shrunk,
    prior_scale,
    prior_variance,
    shrink_counts,
    shrink_statistics,
)
from crispyx._stats.nb_likelihood import Counts
from crispyx.de.nb_cells import ScreenCells
from crispyx.de.nb_passes import COLUMNS, FIELDS, Tile
from crispyx.de.nb_stages import ALL_ZERO, FEW_EXPRESSING, UNTESTED
from crispyx.settings import Engine

SHRUNK_COLUMNS: Mapping[str, Column] = {
    **COLUMNS,
    "logfoldchange": Column(np.float64, "logfoldchanges"),
    "logfoldchange_raw": Column(np.float64, "logfoldchange_raw"),
    "shrinkage_converged": Column(np.float32, "shrinkage_converged"),
}
SHRUNK_FIELDS: Mapping[str, np.dtype] = {
    column.field: np.dtype(column.dtype) for column in SHRUNK_COLUMNS.values()
}
STATISTICS = ("logfoldchange_raw_ln", "standard_error_ln", "status")
Row = Callable[[str, int], np.ndarray]


def is_fitted(status: np.ndarray) -> np.ndarray:
    """Return where the status says that a fold change was fitted."""
    return ~np.isin(status, (UNTESTED, FEW_EXPRESSING, ALL_ZERO))


def prior_scales(
    row: Row, shape: tuple[int, int], mode: str, memory_limit_gb: float | None
) -> np.ndarray:
    """Return the scale of the prior of every perturbation (n_groups,) float64.

    Parameters
    ----------
    row : callable (field, group) -> numpy.ndarray (n_genes,)
        Fitted fold changes, errors and status.
    shape : tuple
        Perturbations and genes.
    mode : {"global", "per_comparison"}
        One estimate from all perturbations, or one for each.
    memory_limit_gb : float or None
        Rows are kept where they fit into it, and read again for every step where not.
    """

    def fits(group: int) -> tuple[np.ndarray, np.ndarray]:
        fitted, error, status = (row(name, group) for name in STATISTICS)
        used = is_fitted(status) & (error > 0)
        return fitted[used], error[used]

    if mode == "per_comparison":
        return np.array([_scale(partial(list, [fits(k)])) for k in range(shape[0])])
    if 16 * shape[0] * shape[1] <= working_memory(memory_limit_gb) // 2:
        kept = [fits(k) for k in range(shape[0])]
        scale = _scale(lambda: kept)
    else:
        scale = _scale(lambda: map(fits, range(shape[0])))
    return np.full(shape[0], scale)


def _scale(pairs: Callable[[], Iterable[tuple[np.ndarray, np.ndarray]]]) -> float:
    return prior_scale(prior_variance(pairs))


@dataclass(frozen=True)
class Shrinking:
    """How the fold changes of a block are shrunk.

    Attributes
    ----------
    scale : numpy.ndarray (n_groups,) float64
        Of the prior of each perturbation.
    in_log2 : bool
        Unit of the fold changes.
    engine, n_threads
        How to compute.
    searching : Searching
        How the mode is found from counts.
    cells : ScreenCells or None
        The cells, where counts are looked at.
    """

    scale: np.ndarray
    in_log2: bool
    engine: Engine
    n_threads: int
    searching: Searching
    cells: ScreenCells | None = None

    def of_statistics(self, columns: Tile) -> Tile:
        """Return the tile of a block, from the fits in its columns (n_groups, n_genes)."""
        fitted, error, _ = (columns[name] for name in STATISTICS)
        found = shrink_statistics(fitted, error, self.scale[:, None], self.engine, self.n_threads)
        return self._tile(columns, [(slice(None), found)])

    def of_counts(self, columns: Tile, block: CompressedBlock) -> Tile:
        """Return the tile of a block, from its counts and the dispersions in its columns."""
        assert self.cells is not None  # counts are looked at
        counts = Counts.of_block(block, self.cells.membership, self.cells.table, self.n_threads)
        alpha = np.where(is_fitted(columns["status"]), columns["dispersion"], np.nan)

        def shrink(rows: slice, part: Counts, n_threads: int) -> tuple[slice, Shrunk]:
            scale = self.scale[rows]
            searching, engine = self.searching, self.engine
            return rows, shrink_counts(part, alpha[rows], scale, searching, engine, n_threads)

        return self._tile(columns, self.cells.of_parts(counts, shrink))

    def _tile(self, columns: Tile, parts: list[tuple[slice, Shrunk]]) -> Tile:
        """Put the modes in place of what was fitted; the other genes keep what they have."""
        unit = math.log(2) if self.in_log2 else 1.0
        tile = {name: np.array(columns[name]) for name in FIELDS}
        tile["logfoldchange_raw"] = np.array(columns["logfoldchanges"])
        tile["shrinkage_converged"] = np.full(tile["status"].shape, np.nan)
        for rows, found in parts:
            used = is_fitted(columns["status"][rows]) & np.isfinite(found.log_fold_change)
            for name, table in (
                ("logfoldchanges", found.log_fold_change / unit),
                ("standard_error", found.standard_error / unit),
                ("standard_error_ln", found.standard_error),
                ("shrinkage_converged", found.converged),
            ):
                tile[name][rows] = np.where(used, table, tile[name][rows])
        return tile
