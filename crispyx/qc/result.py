"""What quality control returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crispyx.data.ondisk import AnnData


@dataclass
class QualityControlResult:
    """Result of quality control.

    Attributes
    ----------
    cell_mask : numpy.ndarray (n_cells,) bool
        Cells of the input that are kept.
    gene_mask : numpy.ndarray (n_genes,) bool
        Genes of the input that are kept.
    perturbation_keep : dict of str to bool
        Every label of the input, in order of first appearance, and whether its cells are kept.
    filtered : AnnData or None
        The filtered file; None when none was asked for.
    cell_gene_counts : numpy.ndarray (n_cells,) int64
        Expressed genes of every cell of the input.
    gene_cell_counts : numpy.ndarray (n_genes,) int64
        Kept cells that express each gene of the input.
    """

    cell_mask: np.ndarray
    gene_mask: np.ndarray
    perturbation_keep: dict[str, bool]
    filtered: AnnData | None
    cell_gene_counts: np.ndarray
    gene_cell_counts: np.ndarray

    @property
    def filtered_path(self) -> Path | None:
        """Path of the filtered file; None when none was asked for."""
        return None if self.filtered is None else self.filtered.path


@dataclass
class _CellFilterResult:
    """Result of filtering cells, with the counts of both axes from the same pass.

    Attributes
    ----------
    cell_mask : numpy.ndarray (n_cells,) bool
        Cells that are kept.
    gene_counts_per_cell : numpy.ndarray (n_cells,) int64
        Expressed genes of every cell.
    gene_cell_counts_all : numpy.ndarray (n_genes,) int64
        Expressing cells of every gene, among all cells.
    """

    cell_mask: np.ndarray
    gene_counts_per_cell: np.ndarray
    gene_cell_counts_all: np.ndarray
