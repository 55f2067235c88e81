"""Highly variable genes of a matrix that stays on disk."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.annotations import as_labels
from crispyx._io.segments import MAX_SEGMENT_MAJOR
from crispyx._io.source import MatrixSource, open_source
from crispyx._jobs.batches import read_batches
from crispyx._jobs.labels import resolve_control_label
from crispyx._kernels.compressed import inspect_values
from crispyx._kernels.layout import CompressedBlock, Membership
from crispyx._run.prefetch import prefetch
from crispyx._run.progress import track
from crispyx._stats.highly_variable_genes import (
    FLAVORS,
    BatchedCells,
    dispersion_table,
    gene_variation,
    top_by_dispersion,
    top_by_variance,
)
from crispyx.data.arguments import positive, whole
from crispyx.dimred.target import resolve_target
from crispyx.errors import InputError
from crispyx.settings import settings

if TYPE_CHECKING:
    import pandas as pd

OTHER_NAMES = {"mean_dispersion": "seurat"}
LARGEST_TABLE = 2**31 - 1  # places of batches x genes


def highly_variable_genes(
    data: Any,
    *,
    n_top_genes: int | None = 2000,
    flavor: str = "seurat_v3",
    cells: str = "control",
    perturbation_column: str | None = None,
    control_label: str | None = None,
    batch_key: str | None = None,
    layer: str | None = None,
    span: float = 0.3,
    n_bins: int = 20,
    min_mean: float = 0.0125,
    max_mean: float = 3.0,
    min_disp: float = 0.5,
    max_disp: float = math.inf,
    inplace: bool = True,
    copy: bool = False,
    show_progress: bool = True,
) -> Any:
    """Mark the genes that vary more than others of the same mean, by default among control cells.

    Among all cells of a screen the genes that a perturbation silences, or that perturbed cells
    turn on, vary most; control cells show what varies by itself. The matrix is passed over three
    times (``seurat_v3``) or twice; neither layout, nor block size, nor threads change a bit.

    Parameters
    ----------
    data : path, crispyx.AnnData or anndata.AnnData (backed or in memory)
        Cells x genes: counts for ``seurat_v3``, log-normalized values otherwise. With
        ``inplace=False`` anything that can be read: zarr stores, 10x files, lists of files.
    n_top_genes : int or None
        Number of genes; None, not for ``seurat_v3``, takes all within the four bounds.
    flavor : {"seurat_v3", "seurat", "cell_ranger", "mean_dispersion"}
        How genes are compared, see ``docs/methods/highly_variable_genes.md``; ``mean_dispersion``
        is another name of ``seurat``.
    cells : {"control", "all"}
        Cells to look at.
    perturbation_column : str or None
        obs column of labels, for ``cells="control"``.
    control_label : str or None
        Label of the control; None infers it.
    batch_key : str or None
        obs column of batches: genes are ranked within each.
    layer : str or None
        Layer to use instead of X.
    span : float
        Share of the genes in a neighborhood of the curve (``seurat_v3``), above 0, at most 1.
    n_bins : int
        Bins of the mean (``seurat``).
    min_mean, max_mean, min_disp, max_disp : float
        Bounds of mean and normalized dispersion where ``n_top_genes`` is None, exclusive.
    inplace : bool
        Write into var of ``data``, all columns or none; False only returns the table.
    copy : bool
        Leave ``data`` as it is, and write into a copy: for a file ``crispyx_hvg.h5ad`` beside it.
    show_progress : bool
        Progress on standard error, where that is a terminal.

    Returns
    -------
    pandas.DataFrame (n_genes, n_columns), or the copy
        Columns, as scanpy names them: ``highly_variable`` bool, ``means`` float64; of ``seurat_v3``
        ``variances``, ``variances_norm``, ``highly_variable_rank`` float64 (NaN beyond
        ``n_top_genes``); else ``dispersions``, ``dispersions_norm`` float64. With batches
        ``highly_variable_nbatches`` int64. ``means`` and ``variances`` are averages over batches.
        ``uns["hvg"]``: flavor, cells.

    Raises
    ------
    InputError, MissingColumnError
        Unknown words; values that are no counts for ``seurat_v3`` (cell and gene are named); fewer
        than two cells in a batch; no control.

    Notes
    -----
    Reference: ``reference.highly_variable_genes``, with the sources. Agrees with
    ``scanpy.pp.highly_variable_genes`` on the same cells.
    """
    flavor = OTHER_NAMES.get(flavor, flavor)
    _check(flavor, cells, n_top_genes, span, n_bins)
    bounds = (float(min_mean), float(max_mean), float(min_disp), float(max_disp))
    target = resolve_target(data) if inplace or copy else None
    with open_source(data, layer) as source:
        used = _cells(source, cells, perturbation_column, control_label, batch_key)
        batched = BatchedCells(*used, source.layout == "csc", source.shape[1], flavor == "seurat")
        if batched.shape[0] * batched.n_genes > LARGEST_TABLE:
            raise InputError(f"{batched.shape[0]} batches of {batch_key!r} are too many to rank in")
        found = gene_variation(
            lambda: _passes(source, batched, flavor, show_progress),
            batched,
            float(span) if flavor == "seurat_v3" else None,
            settings.engine,
        )
        index = source.var.index
    if flavor == "seurat_v3":
        assert found.normalized is not None  # a span was given
        assert n_top_genes is not None  # checked
        chosen, rank, n_batches = top_by_variance(found.normalized, int(n_top_genes))
        columns: dict[str, np.ndarray] = {
            "highly_variable": chosen,
            "highly_variable_rank": rank,
            "means": found.means.mean(axis=0),
            "variances": found.variances.mean(axis=0),
            "variances_norm": found.normalized.mean(axis=0),
        }
    else:
        columns, n_batches = _by_dispersion(
            found.means, found.variances, flavor, n_bins, n_top_genes, bounds
        )
    if batch_key is not None:
        columns["highly_variable_nbatches"] = n_batches
    if target is not None:
        slots: Mapping[str, Any] = {
            "var": columns,
            "uns": {"hvg": {"flavor": flavor, "cells": cells}},
        }
        if copy:
            parameters = {
                "n_top_genes": n_top_genes,
                "flavor": flavor,
                "cells": cells,
                "columns": [perturbation_column, control_label, batch_key, layer],
                "numbers": [span, n_bins, *map(str, bounds)],
            }
            return target.added_to_copy(slots, "hvg", parameters)
        target.add(slots)
    return _table(index, columns)


def _table(index: np.ndarray, columns: Mapping[str, np.ndarray]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(dict(columns), index=pd.Index(index))


def _check(flavor: str, cells: str, n_top_genes: Any, span: Any, n_bins: Any) -> None:
    if flavor not in FLAVORS:
        raise InputError(f"flavor is {flavor!r}; choose one of {FLAVORS}")
    if cells not in ("control", "all"):
        raise InputError(f"cells is {cells!r}; choose 'control' or 'all'")
    if n_top_genes is not None:
        whole("n_top_genes", n_top_genes, 1)
    elif flavor == "seurat_v3":
        raise InputError("n_top_genes is None; seurat_v3 ranks genes and needs a number")
    if positive("span", span) > 1:
        raise InputError(f"span is {span!r}; give a share above 0, at most 1")
    whole("n_bins", n_bins, 1)


def _cells(
    source: MatrixSource,
    cells: str,
    perturbation_column: str | None,
    control_label: str | None,
    batch_key: str | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the batch of every cell in use, -1 of the others, and the cells of each batch."""
    where = source.path or source.where
    batches = read_batches(source, batch_key)
    batch = batches.of_cell.copy()
    if cells == "control":
        if perturbation_column is None:
            raise InputError(
                "give perturbation_column= to look at control cells, or cells='all' for all cells"
            )
        labels = as_labels(source.obs.column(perturbation_column))
        control = resolve_control_label(labels, control_label, verbose=False)
        batch[labels != control] = -1
        if not (labels == control).any():
            raise InputError(f"no cell of {where} has the control label {control!r}")
    known = np.unique(batch[batch >= 0])
    renumbered = np.append(np.full(len(batches.names), -1, dtype=np.int64), -1)
    renumbered[known] = np.arange(len(known))
    batch = renumbered[batch]
    n_cells = np.bincount(batch[batch >= 0], minlength=len(known))
    if not len(known) or n_cells.min() < 2:
        raise InputError(
            f"{where}: a variance needs two {cells if cells == 'control' else ''} cells in every "
            "batch; choose other batches, or other cells"
        )
    return batch, n_cells


def _passes(
    source: MatrixSource, cells: BatchedCells, flavor: str, show_progress: bool
) -> Iterator[CompressedBlock]:
    """Pass over the cells in use; gaps of others are skipped where cells are stored one by one."""
    group = np.minimum(cells.batch, 0)
    stretches = [(0, source.shape[1])]
    if not cells.by_genes:
        stretches = Membership.from_labels(group, 1).stretches()

    def read() -> Iterator[CompressedBlock]:
        for start, stop in stretches:
            yield from source.native_blocks(start=start, stop=stop, max_major=MAX_SEGMENT_MAJOR)

    show = None if show_progress else False
    with closing(prefetch(read())) as blocks:
        for block in track(blocks, total=None, label="variation", unit="block", show=show):
            if flavor == "seurat_v3":
                _require_counts(source, cells, block)
            yield block


def _require_counts(source: MatrixSource, cells: BatchedCells, block: CompressedBlock) -> None:
    major = np.repeat(np.arange(block.start, block.stop), np.diff(block.ptr))
    places = np.flatnonzero(cells.batch[block.minor if cells.by_genes else major] >= 0)
    _, negative, fractional, _ = inspect_values(block.values[places])
    summary = source.empty_summary()
    if negative >= 0:
        summary.negative = source.entry(block, int(places[negative]))
    if fractional >= 0:
        summary.fractional = source.entry(block, int(places[fractional]))
    source.require_counts(summary, "flavor='seurat_v3'")


def _by_dispersion(
    means: np.ndarray,
    variances: np.ndarray,
    flavor: str,
    n_bins: int,
    n_top_genes: int | None,
    bounds: tuple[float, float, float, float],
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the columns, and the number of batches that choose each gene (n_genes,)."""
    n_batches, n_genes = means.shape
    table = np.zeros((3, n_batches, n_genes))
    votes = np.zeros(n_genes, dtype=np.int64)
    for b in range(n_batches):
        # As in scanpy, genes that no cell of a batch expresses are left out within batches.
        used = means[b] > 0 if n_batches > 1 else np.ones(n_genes, dtype=bool)
        found = dispersion_table(means[b, used], variances[b, used], flavor, n_bins)
        table[:, b, used] = found
        votes[used] += _chosen(found.means, found.dispersions_norm, n_top_genes, bounds)
    mean, dispersion = table[0].mean(axis=0), table[1].mean(axis=0)
    normalized = table[2].mean(axis=0)
    chosen = votes > 0
    if n_batches > 1 and n_top_genes is not None:
        order = np.lexsort([-np.nan_to_num(normalized, nan=-np.inf), -votes])
        chosen = np.zeros(n_genes, dtype=bool)
        chosen[order[:n_top_genes]] = True
    elif n_batches > 1:
        chosen = _chosen(mean, normalized, None, bounds)
    names = ("highly_variable", "means", "dispersions", "dispersions_norm")
    return dict(zip(names, (chosen, mean, dispersion, normalized), strict=True)), votes


def _chosen(
    mean: np.ndarray,
    normalized: np.ndarray,
    n_top_genes: int | None,
    bounds: tuple[float, float, float, float],
) -> np.ndarray:
    if n_top_genes is not None:
        return top_by_dispersion(normalized, n_top_genes)
    low, high, least, most = bounds
    normalized = np.nan_to_num(normalized)
    return (mean > low) & (mean < high) & (normalized > least) & (normalized < most)
