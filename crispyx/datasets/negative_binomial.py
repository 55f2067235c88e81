r"""Exact negative binomial counts at a cost proportional to the non-zeros.

With mean :math:`\mu` and dispersion :math:`\alpha` (variance :math:`\mu + \alpha\mu^2`) the count
is a Poisson number of clusters of molecules with logarithmic sizes (Quenouille 1949):

.. math::

    N \sim \mathrm{Poisson}\left(\tfrac{1}{\alpha}\log(1 + \alpha\mu)\right), \qquad
    P(S = k) = \frac{-1}{\log(1 - p)}\,\frac{p^k}{k}, \quad p = \frac{\alpha\mu}{1 + \alpha\mu}.

Cells with one mean share one Poisson draw for all their clusters, which then fall on these cells
uniformly: nothing is drawn for the zeros. Genes with more than about one cluster a cell have few
zeros, and a Gamma mixture of Poissons costs less there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crispyx.errors import InputError

# A packed entry is (cell x n_columns + column) << COUNT_BITS | count, so that one sort of plain
# integers brings the entries into the order of the file and repeated ones together.
COUNT_BITS = 28
_LARGEST_PROBABILITY = np.nextafter(1.0, 0.0)


@dataclass(frozen=True)
class CountBlock:
    """Counts of a block of cells: data and indices (n_entries,), entries_per_cell (n_cells,)."""

    data: np.ndarray
    indices: np.ndarray
    entries_per_cell: np.ndarray


def negative_binomial(
    rng: np.random.Generator, mean: np.ndarray, dispersion: np.ndarray | float
) -> np.ndarray:
    """Draw one count for every mean, as Poisson with a Gamma distributed rate.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    mean : ndarray
        Expected counts, any shape.
    dispersion : ndarray or float
        Broadcast against ``mean``.

    Returns
    -------
    ndarray of int64
        Counts, the shape of ``mean``.
    """
    rate = rng.standard_gamma(np.broadcast_to(1.0 / np.asarray(dispersion), mean.shape))
    rate *= mean * dispersion
    return rng.poisson(rate)


def cluster_rate(mean: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
    """Return the expected number of clusters of one cell, minus the logarithm of P(count = 0)."""
    return np.log1p(dispersion * mean) / dispersion


def cluster_probability(odds: np.ndarray) -> np.ndarray:
    """Return the parameter p of the logarithmic sizes from ``odds`` = dispersion x mean."""
    return np.minimum(odds / (1.0 + odds), _LARGEST_PROBABILITY)


@dataclass(frozen=True)
class Clusters:
    """Molecules that fall together: ``row`` of the means, ``rank`` of the cell within its group."""

    row: np.ndarray
    cell: np.ndarray
    size: np.ndarray


def draw_clusters(
    rng: np.random.Generator,
    mean: np.ndarray,
    dispersion: np.ndarray,
    group_sizes: np.ndarray,
) -> Clusters:
    """Draw the clusters of all genes in all groups of cells.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    mean : ndarray (n_genes, n_groups)
        Expected count of a gene in each cell of a group.
    dispersion : ndarray (n_genes,)
        Dispersion of a gene.
    group_sizes : ndarray (n_groups,)
        Number of cells in each group.

    Returns
    -------
    Clusters
        ``cell`` counts through the cells in the order of the groups. One cell and gene may occur
        several times: its count is the sum.
    """
    odds = dispersion[:, None] * mean
    n_clusters = rng.poisson(np.log1p(odds) * (group_sizes / dispersion[:, None])).ravel()
    probability = cluster_probability(odds)
    first_cell = np.cumsum(group_sizes) - group_sizes
    n_genes = len(dispersion)
    rank = rng.random(n_clusters.sum())
    rank *= np.repeat(np.tile(group_sizes, n_genes), n_clusters)
    cell = np.repeat(np.tile(first_cell, n_genes), n_clusters)
    cell += rank.astype(np.int64)
    row = np.repeat(np.arange(n_genes), n_clusters.reshape(mean.shape).sum(axis=1))
    return Clusters(row, cell, rng.logseries(np.repeat(probability.ravel(), n_clusters)))


def pack(key: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Pack positions and counts into one int64 each.

    Raises
    ------
    InputError
        A count does not fit.
    """
    if count.size and count.max() >= 1 << COUNT_BITS:
        raise InputError(
            f"a simulated count is {count.max():,}, the largest allowed is "
            f"{(1 << COUNT_BITS) - 1:,}; lower the means (library_size, signal_umi) or dispersions"
        )
    return (key << COUNT_BITS) | count


def assemble(entries: list[np.ndarray], n_cells: int, n_columns: int) -> CountBlock:
    """Sort packed entries, add up those of the same cell and column, and unpack.

    Parameters
    ----------
    entries : list of ndarray of int64
        Packed entries in any order; counts above 0.
    n_cells, n_columns : int
        Shape of the block.

    Returns
    -------
    CountBlock
        Cells in order, columns increasing within a cell.
    """
    packed = np.concatenate(entries)
    packed.sort()
    key = packed >> COUNT_BITS
    packed &= (1 << COUNT_BITS) - 1
    starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]])[: len(key)])
    data = np.add.reduceat(packed, starts) if len(key) else packed
    key = key[starts]
    row_starts = np.arange(n_cells + 1) * n_columns
    entries_per_cell = np.diff(np.searchsorted(key, row_starts))
    key -= np.repeat(row_starts[:-1], entries_per_cell)
    return CountBlock(data, key, entries_per_cell)
