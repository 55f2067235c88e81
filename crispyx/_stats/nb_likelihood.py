"""Size factors of grouped cells laid out for sums of the negative binomial likelihood.

Reference: ``reference.nb_likelihood``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from crispyx._kernels import grouping, ranked_counts
from crispyx._kernels import nb_likelihood as kernel
from crispyx._kernels.layout import CompressedBlock, Membership
from crispyx.settings import Engine

STRIDE = 8
DIGITS = 33.0  # natural logs of the accuracy of the node sums, about 14 decimal digits
Arrays = tuple[
    np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray
]
SUMS = ("log_likelihood", "score", "observed", "expected", "slope", "curvature")


@dataclass(frozen=True)
class CellTable:
    """Size factors of the cells of every group, and the nodes that stand for them.

    Attributes
    ----------
    cell_ptr : numpy.ndarray (n_groups + 1,) int64
        Where the cells of each group start in the arrays over members.
    rank : numpy.ndarray (n_members,) int32
        Place of each cell in its group by rising size factor, in the order in which the cells were
        given: that of the groups, or of the memberships (:func:`grouped_cells`).
    size_factors : numpy.ndarray (n_members,) float64
        Of the cells by rank.
    rows : numpy.ndarray (n_members, n_nodes) float64
        Lagrange basis at each cell, by rank.
    suffix_ptr, suffix : numpy.ndarray
        Rows summed from every eighth rank of a group on.
    node_s, node_log : numpy.ndarray (n_groups, n_nodes) float64
        Size factors at the nodes, and their logs.
    prefix_log : numpy.ndarray (n_members + n_groups,) float64
        Sums of the log size factors before each rank of a group.
    """

    cell_ptr: np.ndarray
    rank: np.ndarray
    size_factors: np.ndarray
    rows: np.ndarray
    suffix_ptr: np.ndarray
    suffix: np.ndarray
    node_s: np.ndarray
    node_log: np.ndarray
    prefix_log: np.ndarray

    @property
    def n_groups(self) -> int:
        return len(self.cell_ptr) - 1

    @property
    def n_cells(self) -> np.ndarray:
        """Cells of each group (n_groups,) int64."""
        return np.diff(self.cell_ptr)

    @cached_property
    def mean_inverse(self) -> np.ndarray:
        """Mean of 1 / s of each group (n_groups,) float64, NaN without cells."""
        means = np.full(self.n_groups, np.nan)
        for k in np.flatnonzero(self.n_cells).tolist():
            means[k] = np.mean(1 / self.of_group(k))
        return means

    @property
    def arrays(self) -> Arrays:
        """The arrays in the order in which kernels take them."""
        return (
            self.cell_ptr,
            self.suffix_ptr,
            self.size_factors,
            self.rows,
            self.suffix,
            self.node_s,
            self.node_log,
            self.prefix_log,
        )

    def of_group(self, k: int) -> np.ndarray:
        """Return the size factors of a group by rank (n_cells,)."""
        return self.size_factors[self.cell_ptr[k] : self.cell_ptr[k + 1]]

    def pair(self, k: int) -> CellTable:
        """Return group 0 and group ``k`` alone, at the same nodes, their cells given by rank."""
        cells, suffixes, prefixes = (
            np.concatenate([np.arange(ptr[j], ptr[j + 1]) for j in (0, k)])
            for ptr in (
                self.cell_ptr,
                self.suffix_ptr,
                self.cell_ptr + np.arange(self.n_groups + 1),
            )
        )
        n_suffixes = np.diff(self.suffix_ptr)
        return CellTable(
            np.concatenate([[0], np.cumsum(self.n_cells[[0, k]])]),
            np.concatenate([np.arange(n, dtype=np.int32) for n in self.n_cells[[0, k]]]),
            self.size_factors[cells],
            self.rows[cells],
            np.concatenate([[0], np.cumsum(n_suffixes[[0, k]])]),
            self.suffix[suffixes],
            self.node_s[[0, k]],
            self.node_log[[0, k]],
            self.prefix_log[prefixes],
        )


@dataclass(frozen=True)
class Counts:
    """Counts of a block of genes by group, with the rank of each count's cell.

    Attributes
    ----------
    values : numpy.ndarray (nnz,) float32 or float64
        Non-zero counts, gene after gene, within a gene group after group, within a group in the
        order of the cells in the input.
    ranks : numpy.ndarray (nnz,) int32
        Rank of the cell in its group.
    run_ptr : numpy.ndarray (n_genes, n_groups + 1) int64
        Where each run starts.
    table : CellTable
        The cells.
    moments : dict
        Those of the counts divided by size factors, once they have been asked for, see
        :func:`crispyx._stats.dispersion.normalized_moments`.
    """

    values: np.ndarray
    ranks: np.ndarray
    run_ptr: np.ndarray
    table: CellTable
    moments: dict[Engine, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of_block(
        cls,
        block: CompressedBlock,
        membership: Membership,
        table: CellTable,
        n_threads: int = 1,
    ) -> Counts:
        """Group the non-zeros of a block of genes.

        Parameters
        ----------
        block : CompressedBlock
            Genes of a count matrix, without stored zeros.
        membership : Membership
            Groups of the cells, not pooled.
        table : CellTable
            The same cells, from :func:`grouped_cells`.
        n_threads : int
            Threads of the kernel.
        """
        n_groups = len(membership.sizes)
        run_ptr = np.empty((block.n_major, n_groups + 1), dtype=np.int64)
        members = (membership.ptr, membership.groups)
        grouping.count_runs(block.minor, block.ptr, *members, run_ptr, n_threads)
        ends = np.cumsum(run_ptr[:, -1])
        run_ptr[1:] += ends[:-1, None]
        n_values = int(ends[-1]) if len(ends) else 0
        ranks = np.empty(n_values, dtype=np.int32)
        values = np.empty(n_values, dtype=block.values.dtype)
        ranked_counts.fill_ranked_runs(
            block.values,
            block.minor,
            block.ptr,
            *members,
            table.rank,
            run_ptr,
            np.empty((n_threads, n_groups), dtype=np.int64),
            values,
            ranks,
            n_threads,
        )
        return cls(values, ranks, run_ptr, table)

    @classmethod
    def of_arms(cls, arms: list[tuple[np.ndarray, np.ndarray]]) -> Counts:
        """Build one gene from the counts and the size factors of each group, (n_cells,) arrays."""
        cell_ptr = np.concatenate([[0], np.cumsum([len(y) for y, _ in arms])])
        table = cell_table(np.concatenate([s for _, s in arms]), cell_ptr)
        places = [np.flatnonzero(y) for y, _ in arms]
        ranks = [table.rank[start + at] for start, at in zip(cell_ptr[:-1], places, strict=True)]
        run_ptr = np.concatenate([[0], np.cumsum([len(at) for at in places])])
        values = np.concatenate([y[y != 0] for y, _ in arms]).astype(np.float64)
        return cls(values, np.concatenate(ranks), run_ptr[None].astype(np.int64), table)

    def pair(self, k: int, table: CellTable, n_threads: int = 1) -> Counts:
        """Return group 0 and group ``k`` alone.

        Parameters
        ----------
        k : int
            The other group.
        table : CellTable
            Cells of both, given in the order of their ranks here, such as ``self.table.pair(k)``.
        n_threads : int
            Threads of the kernel.
        """
        lengths = self.run_ptr[:, [1, k + 1]] - self.run_ptr[:, [0, k]]
        run_ptr = np.zeros((self.n_genes, 3), dtype=np.int64)
        np.cumsum(lengths, axis=1, out=run_ptr[:, 1:])
        ends = np.cumsum(run_ptr[:, -1])
        run_ptr[1:] += ends[:-1, None]
        size = int(ends[-1]) if len(ends) else 0
        values, ranks = np.empty(size, dtype=self.values.dtype), np.empty(size, dtype=np.int32)
        ranked_counts.fill_pair_runs(
            self.values,
            self.ranks,
            self.run_ptr,
            k,
            table.rank,
            int(self.table.n_cells[0]),
            run_ptr,
            values,
            ranks,
            n_threads,
        )
        return Counts(values, ranks, run_ptr, table)

    @property
    def n_genes(self) -> int:
        return len(self.run_ptr)

    @cached_property
    def n_tail(self) -> int:
        """One more than the largest count of the block."""
        return int(self.values.max(initial=0)) + 1

    def dense(self, gene: int, group: int) -> np.ndarray:
        """Return the counts of a group by rank (n_cells,) float64."""
        run = slice(self.run_ptr[gene, group], self.run_ptr[gene, group + 1])
        vector = np.zeros(int(self.table.n_cells[group]))
        vector[self.ranks[run]] = self.values[run]
        return vector


def grouped_cells(
    size_factors: np.ndarray, membership: Membership, n_threads: int = 1
) -> CellTable:
    """Lay out the size factors (n_cells,) of the cells of a membership, group after group."""
    cells = np.repeat(np.arange(len(membership.ptr) - 1), np.diff(membership.ptr))
    cell_ptr = np.concatenate([[0], np.cumsum(membership.sizes)])
    by_group = np.argsort(membership.groups, kind="stable")
    table = cell_table(size_factors[cells[by_group]], cell_ptr, n_threads)
    rank = np.empty_like(table.rank)
    rank[by_group] = table.rank
    return replace(table, rank=rank)


def cell_table(size_factors: np.ndarray, cell_ptr: np.ndarray, n_threads: int = 1) -> CellTable:
    r"""Lay out the size factors of grouped cells.

    A function that is smooth in the log size factor :math:`l` is replaced by its interpolant at
    Chebyshev nodes on the range of l in the group. With h half of the widest range, the likelihood
    terms are analytic for :math:`|\mathrm{Im}\, l| < \pi` and the error falls like

    .. math::  \rho^{-m}, \qquad \rho = \pi / h + \sqrt{(\pi / h)^2 + 1}

    with the number m of nodes.

    Parameters
    ----------
    size_factors : numpy.ndarray (n_members,) float64
        Of the cells of group 0, then of group 1, and so on.
    cell_ptr : numpy.ndarray (n_groups + 1,) int64
        Where each group starts.
    n_threads : int
        Threads of the kernel.
    """
    n_groups, n_members = len(cell_ptr) - 1, len(size_factors)
    group = np.repeat(np.arange(n_groups), np.diff(cell_ptr))
    order = np.lexsort((size_factors, group))
    rank = np.empty(n_members, dtype=np.int32)
    rank[order] = np.arange(n_members) - cell_ptr[group]
    by_rank = np.ascontiguousarray(size_factors[order], dtype=np.float64)
    logs = np.log(by_rank)
    ends = [
        (logs[start], logs[stop - 1]) if stop > start else (0.0, 0.0)
        for start, stop in pairwise(cell_ptr)
    ]
    n_nodes = _n_nodes(max((high - low) / 2 for low, high in ends))
    angles = (2 * np.arange(n_nodes) + 1) * math.pi / (2 * n_nodes)
    nodes, barycentric = np.cos(angles), np.sin(angles) * (-1.0) ** np.arange(n_nodes)
    n_suffixes = -(-np.diff(cell_ptr) // STRIDE) + 1
    suffix_ptr = np.concatenate([[0], np.cumsum(n_suffixes)]).astype(np.int64)
    rows, suffix = np.empty((n_members, n_nodes)), np.empty((int(suffix_ptr[-1]), n_nodes))
    node_log, prefix_log = np.empty((n_groups, n_nodes)), np.zeros(n_members + n_groups)
    for k, (low, high) in enumerate(ends):
        cells = slice(cell_ptr[k], cell_ptr[k + 1])
        center, half = (low + high) / 2, (high - low) / 2
        places = (logs[cells] - center) / (half if half > 0 else 1.0)
        kernel.lagrange_rows(
            np.clip(places, -1, 1),
            nodes,
            barycentric,
            rows[cells],
            suffix[suffix_ptr[k] : suffix_ptr[k + 1]],
            n_threads,
        )
        node_log[k] = center + half * nodes
        prefix_log[cell_ptr[k] + k + 1 : cell_ptr[k + 1] + k + 1] = np.cumsum(logs[cells])
    return CellTable(
        np.ascontiguousarray(cell_ptr, dtype=np.int64),
        rank,
        by_rank,
        rows,
        suffix_ptr,
        suffix,
        np.exp(node_log),
        node_log,
        prefix_log,
    )


def likelihood_sums(
    counts: Counts,
    eta: np.ndarray,
    alpha: np.ndarray,
    min_mu: float,
    engine: Engine,
    n_threads: int = 1,
) -> dict[str, np.ndarray]:
    """Return the likelihood of every (group, gene) and its derivatives.

    Parameters
    ----------
    counts : Counts
        The block.
    eta, alpha : numpy.ndarray (n_groups, n_genes) float64
        Log means per size factor, dispersions above 0.
    min_mu : float
        Means are held at or above it.
    engine : {"compiled", "reference"}
        Which definition runs.
    n_threads : int
        Threads of the kernel.

    Returns
    -------
    dict of numpy.ndarray (n_groups, n_genes) float64
        log_likelihood; score, observed and expected information in eta, of the cells whose mean is
        not held; slope and curvature in log alpha of minus the log-likelihood plus half the log of
        the expected information of all cells.
    """
    out = np.empty((len(SUMS), *eta.shape))
    if engine == "reference":
        for k, g in np.ndindex(*eta.shape):
            out[:, k, g] = _reference_sums(
                counts, g, k, float(eta[k, g]), float(alpha[k, g]), min_mu
            )
    else:
        kernel.likelihood_sums(
            counts.values,
            counts.ranks,
            counts.run_ptr,
            *counts.table.arrays,
            eta,
            alpha,
            min_mu,
            np.empty((n_threads, 2 * counts.table.rows.shape[1] + 2 * counts.n_tail)),
            out,
            n_threads,
        )
    return dict(zip(SUMS, out, strict=True))


def _n_nodes(half_width: float) -> int:
    if half_width == 0:
        return 16
    ratio = math.pi / half_width
    return max(16, STRIDE * math.ceil(DIGITS / math.log(ratio + math.hypot(ratio, 1)) / STRIDE))


def _reference_sums(
    counts: Counts, gene: int, group: int, eta: float, alpha: float, min_mu: float
) -> tuple[float, ...]:
    from reference.dispersion import adjusted_slopes
    from reference.nb_coefficients import Arm, clamped_means
    from reference.nb_likelihood import log_likelihood, mean_slopes, working_weights

    arm = Arm(counts.dense(gene, group), counts.table.of_group(group))
    mu = clamped_means(arm, eta, min_mu)
    free = arm.size_factors * math.exp(eta) >= min_mu
    return (
        log_likelihood(arm.counts, mu, alpha),
        *mean_slopes(arm.counts[free], mu[free], alpha),
        float(working_weights(mu[free], alpha).sum()),
        *adjusted_slopes(math.log(alpha), [arm], [mu]),
    )
