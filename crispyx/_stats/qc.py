"""Numbers of expressed genes per cell and of expressing cells per gene, and what they keep.

Reference: ``reference.qc``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import reference.qc
from crispyx._kernels import expression_counts as kernel
from crispyx._kernels.densify import densify
from crispyx._kernels.layout import CompressedBlock
from crispyx.settings import Engine


@dataclass(frozen=True)
class ExpressionCounts:
    """Counts that grow with every block; a value above 0 is expression.

    Attributes
    ----------
    genes_per_cell : numpy.ndarray (n_cells,) int64
        Expressed genes of each cell.
    cells_per_gene : numpy.ndarray (n_genes,) int64
        Expressing cells of each gene.
    """

    genes_per_cell: np.ndarray
    cells_per_gene: np.ndarray

    @classmethod
    def zeros(cls, shape: tuple[int, int]) -> ExpressionCounts:
        """Return the counts of nothing seen, for a matrix (n_cells, n_genes)."""
        return cls(*(np.zeros(n, dtype=np.int64) for n in shape))

    def add(
        self, block: CompressedBlock, use_cells: np.ndarray, *, by_cell: bool, engine: Engine
    ) -> None:
        """Add a block.

        Parameters
        ----------
        block : CompressedBlock
            Rows of the matrix, or its columns.
        use_cells : numpy.ndarray (n_cells,) bool
            Cells that count.
        by_cell : bool
            The vectors of the block are cells, else genes.
        engine : {"compiled", "reference"}
            Which definition runs.
        """
        here = slice(block.start, block.stop)
        if by_cell:
            major, minor = self.genes_per_cell[here], self.cells_per_gene
            use_major, use_minor = use_cells[here], np.ones(len(minor), dtype=bool)
        else:
            major, minor = self.cells_per_gene[here], self.genes_per_cell
            use_major, use_minor = np.ones(len(major), dtype=bool), use_cells
        if engine == "reference":
            counts = densify(block, len(minor), np.float64)[np.ix_(use_major, use_minor)]
            counts = counts if by_cell else counts.T
            genes, cells = reference.qc.genes_per_cell(counts), reference.qc.cells_per_gene(counts)
            major[use_major] += genes if by_cell else cells
            minor[use_minor] += cells if by_cell else genes
            return
        kernel.add_expressed(
            block.values,
            block.minor,
            block.ptr,
            np.ascontiguousarray(use_major).view(np.uint8),
            np.ascontiguousarray(use_minor).view(np.uint8),
            major,
            minor,
        )

    def add_rich_cells(
        self, block: CompressedBlock, use_cells: np.ndarray, min_genes: int, *, engine: Engine
    ) -> None:
        """Add rows: genes of every cell, and cells of every gene among those in use that are rich.

        Parameters
        ----------
        block : CompressedBlock
            Rows of the matrix.
        use_cells : numpy.ndarray (n_cells,) bool
            Cells that may count for the genes.
        min_genes : int
            Expressed genes that they must have.
        engine : {"compiled", "reference"}
            Which definition runs.
        """
        here = slice(block.start, block.stop)
        use = np.ascontiguousarray(use_cells[here])
        if engine == "reference":
            dense = densify(block, len(self.cells_per_gene), np.float64)
            genes = reference.qc.genes_per_cell(dense)
            self.genes_per_cell[here] += genes
            rich = dense[use & (genes >= min_genes)]
            self.cells_per_gene[:] += reference.qc.cells_per_gene(rich)
            return
        kernel.add_rich(
            block.values,
            block.minor,
            block.ptr,
            use.view(np.uint8),
            min_genes,
            self.genes_per_cell[here],
            self.cells_per_gene,
        )


def kept_perturbations(
    labels: np.ndarray, use_cells: np.ndarray, control: str, min_cells: int, engine: Engine
) -> dict[str, bool]:
    """Tell which labels have at least ``min_cells`` cells; the control is always kept.

    Parameters
    ----------
    labels : numpy.ndarray (n_cells,) str objects
        Label of each cell, None where missing.
    use_cells : numpy.ndarray (n_cells,) bool
        Cells that count.
    control : str
        Label of the control.
    min_cells : int
        Inclusive.
    engine : {"compiled", "reference"}
        Which definition runs.

    Returns
    -------
    dict
        Label -> kept, for every label of the input in order of first appearance.
    """
    if engine == "reference":
        known = np.array([label is not None for label in labels], dtype=bool)
        return reference.qc.filter_perturbations(
            labels[known], use_cells[known], control, min_cells
        )
    counts = cells_per_label(labels, use_cells)
    return {label: label == control or n >= min_cells for label, n in counts.items()}


def cells_per_label(labels: np.ndarray, use_cells: np.ndarray) -> dict[str, int]:
    """Count the cells of each label among ``use_cells``, 0 for a label that lost all of them.

    Returns
    -------
    dict
        Label -> number of cells, in order of first appearance; missing labels left out.
    """
    counts = dict.fromkeys((label for label in labels if label is not None), 0)
    for label in labels[use_cells]:
        if label is not None:
            counts[label] += 1
    return counts
