"""Quality control: which cells, perturbations and genes of a screen are kept.

The three filters run in this order, each on what the one before has left:

1. cells that express at least ``min_genes`` genes;
2. perturbations with at least ``min_cells_per_perturbation`` of those cells, the control always;
3. genes expressed in at least ``min_cells_per_gene`` of the cells that remain.

All three thresholds are inclusive, and a gene is expressed in a cell when its count is above 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class QualityControl:
    """What quality control keeps and the counts it decided on.

    Attributes
    ----------
    cell_mask : (n_cells,) bool, cells kept after filters 1 and 2
    gene_mask : (n_genes,) bool, genes kept after filter 3
    perturbation_keep : label -> kept, in order of first appearance, control included
    genes_per_cell : (n_cells,) int64, expressed genes of every cell of the input
    cells_per_gene : (n_genes,) int64, expressing cells among the cells kept
    """

    cell_mask: NDArray[np.bool_]
    gene_mask: NDArray[np.bool_]
    perturbation_keep: dict[str, bool]
    genes_per_cell: NDArray[np.int64]
    cells_per_gene: NDArray[np.int64]


def genes_per_cell(counts: ArrayLike) -> NDArray[np.int64]:
    """Count the genes each cell expresses.

    Parameters
    ----------
    counts : (n_cells, n_genes), UMI counts

    Returns
    -------
    (n_cells,) int64
    """
    return np.count_nonzero(np.asarray(counts) > 0, axis=1).astype(np.int64)


def cells_per_gene(counts: ArrayLike) -> NDArray[np.int64]:
    """Count the cells in which each gene is expressed.

    Parameters
    ----------
    counts : (n_cells, n_genes), UMI counts

    Returns
    -------
    (n_genes,) int64
    """
    return np.count_nonzero(np.asarray(counts) > 0, axis=0).astype(np.int64)


def filter_cells(counts: ArrayLike, min_genes: int) -> NDArray[np.bool_]:
    """Keep cells that express at least ``min_genes`` genes.

    Parameters
    ----------
    counts : (n_cells, n_genes), UMI counts
    min_genes : inclusive

    Returns
    -------
    (n_cells,) bool
    """
    return genes_per_cell(counts) >= min_genes


def filter_perturbations(
    labels: ArrayLike, cell_mask: NDArray[np.bool_], control: str, min_cells: int
) -> dict[str, bool]:
    """Keep perturbations with at least ``min_cells`` cells among those of ``cell_mask``.

    Parameters
    ----------
    labels : (n_cells,) str, the perturbation of every cell
    cell_mask : (n_cells,) bool, cells that count
    control : label of the control, kept whatever its size
    min_cells : inclusive

    Returns
    -------
    dict, label -> kept, for every label of the input in order of first appearance.
    """
    label = np.asarray(labels)
    return {
        name: name == control or int((cell_mask & (label == name)).sum()) >= min_cells
        for name in dict.fromkeys(label.tolist())
    }


def filter_genes(
    counts: ArrayLike, cell_mask: NDArray[np.bool_], min_cells: int
) -> NDArray[np.bool_]:
    """Keep genes expressed in at least ``min_cells`` cells among those of ``cell_mask``.

    Parameters
    ----------
    counts : (n_cells, n_genes), UMI counts
    cell_mask : (n_cells,) bool, cells that count
    min_cells : inclusive

    Returns
    -------
    (n_genes,) bool
    """
    return cells_per_gene(np.asarray(counts)[cell_mask]) >= min_cells


def quality_control(
    counts: ArrayLike,
    labels: ArrayLike,
    control: str,
    min_genes: int,
    min_cells_per_perturbation: int,
    min_cells_per_gene: int,
) -> QualityControl:
    """Filter cells, then perturbations, then genes.

    Parameters
    ----------
    counts : (n_cells, n_genes), UMI counts
    labels : (n_cells,) str, the perturbation of every cell
    control : label of the control
    min_genes : genes a cell must express, inclusive
    min_cells_per_perturbation : surviving cells a perturbation must have, inclusive
    min_cells_per_gene : remaining cells that must express a gene, inclusive

    Returns
    -------
    QualityControl
    """
    y = np.asarray(counts)
    survives = filter_cells(y, min_genes)
    keep = filter_perturbations(labels, survives, control, min_cells_per_perturbation)
    remains = survives & np.array([keep[name] for name in np.asarray(labels).tolist()], dtype=bool)
    return QualityControl(
        cell_mask=remains,
        gene_mask=filter_genes(y, remains, min_cells_per_gene),
        perturbation_keep=keep,
        genes_per_cell=genes_per_cell(y),
        cells_per_gene=cells_per_gene(y[remains]),
    )
