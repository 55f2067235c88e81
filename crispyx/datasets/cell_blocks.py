"""Cells and their counts, one block of cells at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crispyx.datasets.negative_binomial import (
    CountBlock,
    assemble,
    cluster_probability,
    cluster_rate,
    draw_clusters,
    negative_binomial,
    pack,
)
from crispyx.datasets.screen_model import GeneTable, GuideModel, ScreenModel, ScreenTables
from crispyx.datasets.streams import CELLS_PER_BLOCK, Stream, generator

if TYPE_CHECKING:
    import scipy.sparse as sp

# Library sizes are rounded to steps of 2^(1/16) = 4.4 %: cells at one step share their means, and
# the size factor told to the user is the rounded one, so the model holds exactly.
STEPS_PER_OCTAVE = 16
# Means or draws held at once: bounds memory, and keeps the arrays within the processor's caches.
_SLICE = 1 << 16
_LARGEST_LOG_FOLD = math.log(1e6)


@dataclass(frozen=True)
class Cells:
    """Cells in file order.

    ``batch`` (n_cells,) and ``step`` (n_cells,) are int32; ``guides`` is CSR (n_cells, n_guides)
    with ones.
    """

    batch: np.ndarray
    step: np.ndarray
    guides: sp.csr_matrix

    @property
    def size_factor(self) -> np.ndarray:
        """Expected library size relative to the average cell, (n_cells,)."""
        return np.exp2(self.step / STEPS_PER_OCTAVE)

    def __getitem__(self, rows: slice) -> Cells:
        return Cells(self.batch[rows], self.step[rows], self.guides[rows])


def block_rows(n_cells: int) -> list[slice]:
    """Return the rows of every block of cells."""
    starts = range(0, n_cells, CELLS_PER_BLOCK)
    return [slice(start, min(start + CELLS_PER_BLOCK, n_cells)) for start in starts]


def draw_cells(model: ScreenModel, share: np.ndarray) -> Cells:
    """Draw batch, library size and guides of all cells.

    Batches are contiguous, as in a file that joins lanes.
    """
    import scipy.sparse as sp

    design, sd = model.design, model.expression.library_log_sd
    steps, counts, chosen = [], [], []
    for block, rows in enumerate(block_rows(design.n_cells)):
        rng = generator(design.seed, Stream.CELLS, block)
        log_size = rng.normal(-(sd**2) / 2, sd, rows.stop - rows.start)
        steps.append(np.rint(log_size * (STEPS_PER_OCTAVE / math.log(2))).astype(np.int32))
        n_guides = _number_of_guides(rng, model.guides, rows.stop - rows.start)
        counts.append(n_guides)
        chosen.append(_choose(rng, share, n_guides.sum()))
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    indices = np.concatenate(chosen)
    guides = sp.csr_matrix(
        (np.ones(len(indices), dtype=np.int8), indices, indptr), shape=(design.n_cells, len(share))
    )
    guides.sum_duplicates()
    guides.data[:] = 1
    batch = np.arange(design.n_cells) * design.n_batches // design.n_cells
    return Cells(batch.astype(np.int32), np.concatenate(steps), guides)


def _number_of_guides(rng: np.random.Generator, model: GuideModel, n: int) -> np.ndarray:
    """Draw zero for the cells without a guide, else a Poisson number above zero.

    Above zero means that the first of the Poisson arrivals falls into the interval of length moi;
    those after it are Poisson again.
    """
    has_guide = rng.random(n) >= model.fraction_without_guide
    first = -np.log1p(rng.random(n) * math.expm1(-model.moi))
    further = rng.poisson(np.maximum(model.moi - first, 0.0))
    return np.where(has_guide, 1 + further, 0)


def _choose(rng: np.random.Generator, share: np.ndarray, n: int) -> np.ndarray:
    edges = np.cumsum(share)
    return np.searchsorted(edges / edges[-1], rng.random(n), side="right").astype(np.int32)


def expression_block(
    rng: np.random.Generator, genes: GeneTable, cells: Cells, log_fold: sp.csr_matrix
) -> CountBlock:
    """Draw the expression counts of a block of cells.

    Parameters
    ----------
    rng : numpy.random.Generator
        The block's own.
    genes : GeneTable
        Means and dispersions.
    cells : Cells
        The cells of the block.
    log_fold : scipy.sparse.csr_matrix (n_cells, n_genes)
        Natural logarithm of the change the guides of a cell make to a gene's mean. The entries
        present here are drawn one by one, all others together.

    Returns
    -------
    CountBlock
        Entries in order of cells and genes.
    """
    n_cells, n_genes = log_fold.shape
    affected = np.repeat(np.arange(n_cells), np.diff(log_fold.indptr))
    affected_keys = affected * n_genes + log_fold.indices
    is_affected = np.zeros(n_cells * n_genes, dtype=bool)
    is_affected[affected_keys] = True

    few_zeros = cluster_rate(genes.mean, genes.dispersion) > 1.0
    entries = []
    for draw, columns in (
        (_clustered, np.flatnonzero(~few_zeros)),
        (_one_by_one, np.flatnonzero(few_zeros)),
    ):
        for key, count in draw(rng, genes, cells, columns):
            entries.append(pack(key, count)[~is_affected[key]])
    mean = genes.mean[log_fold.indices] * cells.size_factor[affected] * np.exp(log_fold.data)
    mean *= genes.batch_factor[cells.batch[affected], log_fold.indices]
    entries.extend(_each_pair(rng, affected_keys, mean, genes.dispersion[log_fold.indices]))
    return assemble(entries, n_cells, n_genes)


def _clustered(
    rng: np.random.Generator, genes: GeneTable, cells: Cells, columns: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield keys and cluster sizes of genes with many zeros, the cells grouped by their mean."""
    kinds, group, group_sizes = np.unique(
        np.stack([cells.batch, cells.step]), axis=1, return_inverse=True, return_counts=True
    )
    batch, size_factor = kinds[0], np.exp2(kinds[1] / STEPS_PER_OCTAVE)
    row_start = np.argsort(group.ravel(), kind="stable") * len(genes.mean)
    for part in _slices(columns, _SLICE // len(group_sizes)):
        mean = genes.mean[part, None] * genes.batch_factor[batch[:, None], part].T * size_factor
        clusters = draw_clusters(rng, mean, genes.dispersion[part], group_sizes)
        yield row_start[clusters.cell] + part[clusters.row], clusters.size


def _one_by_one(
    rng: np.random.Generator, genes: GeneTable, cells: Cells, columns: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield keys and counts of genes with few zeros."""
    row_start = np.arange(len(cells.step)) * len(genes.mean)
    for part in _slices(columns, _SLICE // len(cells.step)):
        mean = genes.mean[part] * genes.batch_factor[cells.batch[:, None], part]
        mean *= cells.size_factor[:, None]
        count = negative_binomial(rng, mean, genes.dispersion[part])
        cell, column = np.nonzero(count)
        yield row_start[cell] + part[column], count[cell, column]


def _each_pair(
    rng: np.random.Generator, keys: np.ndarray, mean: np.ndarray, dispersion: np.ndarray
) -> list[np.ndarray]:
    """Return packed entries of cells and genes that have a mean of their own."""
    rate = cluster_rate(mean, dispersion)
    often = rate > 1.0
    count = negative_binomial(rng, mean[often], dispersion[often])
    n_clusters = rng.poisson(np.where(often, 0.0, rate))
    size = rng.logseries(np.repeat(cluster_probability(dispersion * mean), n_clusters))
    return [
        pack(keys[often][count > 0], count[count > 0]),
        pack(np.repeat(keys, n_clusters), size),
    ]


def _slices(columns: np.ndarray, length: int) -> Iterator[np.ndarray]:
    length = max(1, length)
    for start in range(0, len(columns), length):
        yield columns[start : start + length]


def guide_block(
    rng: np.random.Generator, model: GuideModel, cells: Cells, share: np.ndarray
) -> CountBlock:
    """Draw the guide UMI counts of a block of cells.

    Ambient UMIs are Poisson, in proportion to the share of a guide in the pool; the guides of a
    cell add negative binomial counts. Both grow with a power of the cell's size factor.

    Parameters
    ----------
    rng : numpy.random.Generator
        The block's own.
    model : GuideModel
        Rates.
    cells : Cells
        The cells of the block.
    share : ndarray (n_guides,)
        Shares of the guides in the pool.

    Returns
    -------
    CountBlock
        Entries in order of cells and guides.
    """
    n_cells, n_guides = cells.guides.shape
    size_factor = cells.size_factor
    n_ambient = rng.poisson(model.ambient_umi * size_factor**model.ambient_depth_exponent)
    ambient_cell = np.repeat(np.arange(n_cells), n_ambient)
    ambient = ambient_cell * n_guides + _choose(rng, share, len(ambient_cell))

    cell = np.repeat(np.arange(n_cells), np.diff(cells.guides.indptr))
    mean = model.signal_umi * size_factor[cell] ** model.signal_depth_exponent
    signal = negative_binomial(rng, mean, 1.0 / model.signal_size)
    key = cell * n_guides + cells.guides.indices
    entries = [pack(ambient, np.ones_like(ambient)), pack(key[signal > 0], signal[signal > 0])]
    return assemble(entries, n_cells, n_guides)


def effect_of_guides(tables: ScreenTables) -> sp.csr_matrix:
    """Return the natural log fold changes every guide causes, CSR (n_guides, n_genes)."""
    import scipy.sparse as sp

    guides = tables.guides
    acting = np.flatnonzero(guides.perturbation >= 0)
    shape = (len(guides.share), tables.log2_effects.shape[0])
    efficacy = sp.csr_matrix(
        (guides.efficacy[acting], (acting, guides.perturbation[acting])), shape=shape
    )
    return (efficacy @ tables.log2_effects * math.log(2)).tocsr()


def log_fold_of_cells(cells: Cells, guide_effects: sp.csr_matrix) -> sp.csr_matrix:
    """Return the natural log fold changes in every cell; those of several guides add up.

    Limited to a million-fold, so that no mean overflows.
    """
    log_fold = (cells.guides.astype(np.float64) @ guide_effects).tocsr()
    log_fold.sort_indices()
    np.clip(log_fold.data, -_LARGEST_LOG_FOLD, _LARGEST_LOG_FOLD, out=log_fold.data)
    return log_fold
