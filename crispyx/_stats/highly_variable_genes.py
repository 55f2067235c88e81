"""Moments of genes within batches from passes over a matrix, and what is highly variable.

Reference: ``reference.highly_variable_genes``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

import reference.highly_variable_genes as reference
from crispyx._kernels.layout import CompressedBlock
from crispyx._kernels.projection import add_column_moments
from crispyx.settings import Engine

FLAVORS = ("seurat_v3", "seurat", "cell_ranger")
Blocks = Callable[[], Iterable[CompressedBlock]]


@dataclass(frozen=True)
class BatchedCells:
    """The cells in use.

    Attributes
    ----------
    batch : numpy.ndarray (n_cells,) int64
        Batch of each cell of the matrix, -1 for one that takes no part.
    n_cells : numpy.ndarray (n_batches,) int64
        Cells of each batch.
    by_genes : bool
        Blocks hold genes (CSC), not cells.
    n_genes : int
        Genes of the matrix.
    exp_minus_1 : bool
        Values are logarithms of 1 + x; the moments are those of x.
    """

    batch: np.ndarray
    n_cells: np.ndarray
    by_genes: bool
    n_genes: int
    exp_minus_1: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Batches and genes."""
        return len(self.n_cells), self.n_genes

    def used(self, block: CompressedBlock) -> tuple[np.ndarray, np.ndarray]:
        """Return the values of cells in use, and the place of each among batches x genes."""
        major = np.repeat(np.arange(block.start, block.stop), np.diff(block.ptr))
        cell, gene = (block.minor, major) if self.by_genes else (major, block.minor)
        batch = self.batch[cell]
        inside = batch >= 0
        values = block.values[inside].astype(np.float64)
        place = (batch[inside] * self.n_genes + gene[inside]).astype(np.int32)
        return np.expm1(values) if self.exp_minus_1 else values, place


@dataclass(frozen=True)
class GeneVariation:
    """Mean, variance and normalized variance (n_batches, n_genes); the last of seurat_v3 alone."""

    means: np.ndarray
    variances: np.ndarray
    normalized: np.ndarray | None


def gene_variation(
    blocks: Blocks, cells: BatchedCells, span: float | None, engine: Engine
) -> GeneVariation:
    """Return how every gene varies within every batch.

    Sums of a gene run over its non-zeros in the order of the cells: neither layout nor block size
    changes a bit. Squares are summed around the mean, in a pass of their own.

    Parameters
    ----------
    blocks : callable
        Starts a pass over the matrix.
    cells : BatchedCells
        Which cells take part.
    span : float or None
        Share of the genes in a neighborhood of the curve; None for no normalized variances, which
        saves a pass.
    engine : {"compiled", "reference"}
        Which definition runs; the reference holds the cells in use dense.
    """
    if engine == "reference":
        return _reference(blocks, cells, span)
    sums, squares = np.zeros((2, cells.shape[0] * cells.n_genes))
    for block in blocks():
        values, place = cells.used(block)
        add_column_moments(values, place, sums, squares)
    means = sums.reshape(cells.shape) / cells.n_cells[:, None]
    variances = _around(blocks, cells, means, None) / (cells.n_cells[:, None] - 1)
    if span is None:
        return GeneVariation(means, variances, None)
    expected = np.array(
        [
            reference.expected_variances(mean, variance, span)
            for mean, variance in zip(means, variances, strict=True)
        ]
    )
    bound = means + np.sqrt(cells.n_cells[:, None] * expected)
    clipped = _around(blocks, cells, means, bound) / (cells.n_cells[:, None] - 1)
    return GeneVariation(means, variances, np.where(variances > 0, clipped / expected, 0.0))


def _around(
    blocks: Blocks, cells: BatchedCells, means: np.ndarray, bound: np.ndarray | None
) -> np.ndarray:
    """Return sums of squares around the means (n_batches, n_genes), values bounded."""
    center = means.ravel()
    scratch, squares = np.zeros((2, center.size))
    n_values = np.zeros(center.size, dtype=np.int64)
    for block in blocks():
        values, place = cells.used(block)
        if bound is not None:
            values = np.minimum(values, bound.ravel()[place])
        n_values += np.bincount(place, minlength=center.size)
        add_column_moments(values - center[place], place, scratch, squares)
    n_zeros = np.repeat(cells.n_cells, cells.n_genes) - n_values
    total = (squares + n_zeros * center**2).reshape(cells.shape)
    if bound is None:
        # A gene of one value has variance 0, whatever the rounding of its mean.
        n_cells = cells.n_cells[:, None]
        total[total <= n_cells * (4 * np.finfo(float).eps * np.abs(means)) ** 2] = 0.0
    return total


def _reference(blocks: Blocks, cells: BatchedCells, span: float | None) -> GeneVariation:
    place_of_cell = np.cumsum(cells.batch >= 0) - 1
    dense = np.zeros((int(cells.n_cells.sum()), cells.n_genes))
    for block in blocks():
        major = np.repeat(np.arange(block.start, block.stop), np.diff(block.ptr))
        cell, gene = (block.minor, major) if cells.by_genes else (major, block.minor)
        inside = cells.batch[cell] >= 0
        dense[place_of_cell[cell[inside]], gene[inside]] = block.values[inside]
    if cells.exp_minus_1:
        dense = np.expm1(dense)
    batch = cells.batch[cells.batch >= 0]
    parts = [dense[batch == b] for b in range(len(cells.n_cells))]
    means, variances = (np.array(part) for part in zip(*map(reference.moments, parts), strict=True))
    if span is None:
        return GeneVariation(means, variances, None)
    normalized = [
        reference.normalized_variances(
            part, mean, variance, reference.expected_variances(mean, variance, span)
        )
        for part, mean, variance in zip(parts, means, variances, strict=True)
    ]
    return GeneVariation(means, variances, np.array(normalized))


top_by_variance = reference.top_by_variance
top_by_dispersion = reference.top_by_dispersion
dispersion_table = reference.dispersion_table
