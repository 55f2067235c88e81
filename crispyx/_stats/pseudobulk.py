"""Totals of groups of cells, and differences of profiles within batches.

Reference: ``reference.pseudobulk``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import reference.pseudobulk
from crispyx._kernels import pseudobulk as kernel
from crispyx._kernels.densify import densify
from crispyx._kernels.layout import CompressedBlock, Membership
from crispyx.settings import Engine


@dataclass(frozen=True)
class Transform:
    """What becomes of a value before it is added.

    Attributes
    ----------
    target_sum : float or None
        Total each cell is scaled to; None leaves values as they are.
    log1p : bool
        Take ln(1 + value), afterwards.
    whole : bool
        Values are counts, left as they are: totals are integers, and exact.
    """

    target_sum: float | None = None
    log1p: bool = False
    whole: bool = False

    @property
    def dtype(self) -> np.dtype:
        """Type of the totals."""
        return np.dtype(np.int64 if self.whole else np.float64)


@dataclass(frozen=True)
class Members:
    """Which groups each cell counts in, and how often.

    Attributes
    ----------
    membership : Membership
        Groups of every cell.
    times : numpy.ndarray (n_memberships,) int32
        How often the cell counts in its group.
    """

    membership: Membership
    times: np.ndarray

    @classmethod
    def once(cls, membership: Membership) -> Members:
        """Let every cell count once."""
        return cls(membership, np.ones(len(membership.groups), dtype=np.int32))

    @property
    def n_groups(self) -> int:
        return len(self.membership.sizes)


def add_cells(
    totals: np.ndarray,
    block: CompressedBlock,
    members: Members,
    sizes: np.ndarray,
    transform: Transform,
    first_gene: int,
    n_genes: int,
    engine: Engine,
    n_threads: int = 1,
) -> None:
    """Add a block of cells to the totals of their groups.

    Parameters
    ----------
    totals : numpy.ndarray (n_groups, width)
        Changed in place; genes from ``first_gene`` on.
    block : CompressedBlock
        Cells with all their genes.
    members : Members
        Groups of all cells of the matrix.
    sizes : numpy.ndarray (block.n_major,) float64
        Library sizes.
    transform : Transform
        What becomes of a value first.
    first_gene, n_genes : int
        First gene of the totals; genes of the matrix.
    engine : {"compiled", "reference"}
        Which definition runs.
    n_threads : int
        Threads of the kernel.
    """
    ptr = members.membership.ptr[block.start : block.stop + 1].astype(np.int64)
    groups = members.membership.groups[ptr[0] : ptr[-1]]
    times = members.times[ptr[0] : ptr[-1]]
    if engine == "reference":
        dense = densify(block, n_genes, np.float64)[:, first_gene : first_gene + totals.shape[1]]
        _add_reference(totals, dense, ptr - ptr[0], groups, times, sizes, transform)
        return
    # Within a group the cells keep their order, and with it the sum its bits.
    order = np.argsort(groups, kind="stable")
    cells = np.repeat(np.arange(block.n_major, dtype=np.int32), np.diff(ptr))
    present, begins = np.unique(groups[order], return_index=True)
    kernel.add_cells(
        block.values,
        block.minor,
        block.ptr,
        cells[order],
        times[order],
        present,
        np.append(begins, len(order)).astype(np.int64),
        *_scale(sizes, transform),
        transform.log1p,
        first_gene,
        totals,
        n_threads,
    )


def add_genes(
    totals: np.ndarray,
    block: CompressedBlock,
    members: Members,
    sizes: np.ndarray,
    transform: Transform,
    engine: Engine,
    n_threads: int = 1,
) -> None:
    """Add a block of genes; ``totals`` (block.n_major, n_groups), else as :func:`add_cells`."""
    membership = members.membership
    if engine == "reference":
        dense = densify(block, len(sizes), np.float64).T
        begin = np.ascontiguousarray(totals.T)
        ptr, groups = membership.ptr, membership.groups
        _add_reference(begin, dense, ptr, groups, members.times, sizes, transform)
        totals[...] = begin.T
        return
    kernel.add_genes(
        block.values,
        block.minor,
        block.ptr,
        membership.ptr,
        membership.groups,
        members.times,
        *_scale(sizes, transform),
        transform.log1p,
        totals,
        n_threads,
    )


def _scale(sizes: np.ndarray, transform: Transform) -> tuple[np.ndarray, float]:
    if transform.target_sum is None:
        return np.ones(len(sizes)), 1.0
    return sizes, transform.target_sum


def _add_reference(
    totals: np.ndarray,
    expression: np.ndarray,
    ptr: np.ndarray,
    groups: np.ndarray,
    times: np.ndarray,
    sizes: np.ndarray,
    transform: Transform,
) -> None:
    if transform.target_sum is not None:
        scaled = expression * transform.target_sum
        expression = np.divide(scaled, sizes[:, None], out=scaled, where=sizes[:, None] > 0)
    if transform.log1p:
        expression = np.log1p(expression)
    places = [range(ptr[i], ptr[i + 1]) for i in range(len(expression))]
    totals[...] = reference.pseudobulk.group_totals(
        expression,
        [groups[place].tolist() for place in places],
        len(totals),
        [times[place].tolist() for place in places],
        begin=totals,
    )


def log_of_mean(mean: np.ndarray, baseline_count: float, engine: Engine) -> np.ndarray:
    """Return ln(1 + baseline_count * mean), element by element."""
    if engine == "reference":
        log = np.vectorize(reference.pseudobulk.log_of_mean, otypes=[float])
        return log(mean, baseline_count)
    return np.log1p(baseline_count * mean)


def batch_weights(n_control: np.ndarray, n_perturbed: np.ndarray, engine: Engine) -> np.ndarray:
    """Return the weight of every batch (..., n_batches), n0 n1 / (n0 + n1) scaled to the sum 1.

    0 for a batch without one of the arms; all NaN when no batch has both. Both arguments are
    (..., n_batches) and broadcast against each other.
    """
    n0, n1 = np.broadcast_arrays(
        np.asarray(n_control, dtype=float), np.asarray(n_perturbed, dtype=float)
    )
    if engine == "reference":
        rows = zip(n0.reshape(-1, n0.shape[-1]), n1.reshape(-1, n1.shape[-1]), strict=True)
        weights = [reference.pseudobulk.batch_weights(c, p) for c, p in rows]
        return np.array(weights).reshape(n0.shape)
    weights = np.divide(n0 * n1, n0 + n1, out=np.zeros(n0.shape), where=n0 + n1 > 0)
    with np.errstate(invalid="ignore"):
        return weights / weights.sum(axis=-1, keepdims=True)


def weighted_difference(
    control: np.ndarray, perturbed: np.ndarray, weights: np.ndarray, engine: Engine
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the difference within batches, the control's and the perturbation's profile.

    Parameters
    ----------
    control, perturbed : numpy.ndarray (n_batches, n_genes)
        Profiles in every batch; ignored where a batch weighs 0.
    weights : numpy.ndarray (n_batches,)
        See :func:`batch_weights`.
    engine : {"compiled", "reference"}
        Which definition runs.

    Returns
    -------
    tuple of numpy.ndarray (n_genes,) float64
        Perturbed - control, control, perturbed.
    """
    if engine == "reference":
        genes = zip(control.T, perturbed.T, strict=True)
        of_gene = [reference.pseudobulk.weighted_difference(c, p, weights) for c, p in genes]
        difference, low, high = np.array(of_gene).T
        return difference, low, high
    low, high = np.zeros((2, control.shape[1]))
    for b in np.flatnonzero(weights):  # NaN, of a comparison without a batch, is not 0
        low += weights[b] * control[b]
        high += weights[b] * perturbed[b]
    return high - low, low, high


def bootstrap_times(n_cells: int, size: int, seed: int, name: str) -> np.ndarray:
    """Return how often each cell of a group is drawn (n_cells,) int64; the reference draws."""
    return reference.pseudobulk.bootstrap_times(n_cells, size, seed, name)
