"""Mean expression of both arms of one comparison, from counts that are streamed once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import closing

import numpy as np

from crispyx._io.source import MatrixSource, MatrixSummary
from crispyx._kernels.layout import CompressedBlock, Membership
from crispyx._run.prefetch import prefetch
from crispyx.data.arguments import require_nonnegative
from crispyx.errors import CrispyxWarning, InputError

CONTROL, PERTURBED, NEITHER = 0, 1, -1


def arm_means(
    source: MatrixSource,
    membership: Membership,
    *,
    log_target_sum: float | None = None,
    chunk_size: int = 1024,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the mean of every gene over the control's and over the perturbation's cells.

    .. math::

        m_j = \frac{1}{n} \sum_i y_{ij}, \qquad \text{or} \qquad
        m_j = \frac{1}{n} \sum_i \ln\left(1 + \frac{y_{ij}\, T}{s_i}\right)

    Values are added one after the other in the order of the cells, so that the means depend on
    neither the layout of the file nor the size of a block.

    Parameters
    ----------
    source : MatrixSource
        Counts.
    membership : Membership
        Group 0 is the control (or the pool), group 1 the perturbation.
    log_target_sum : float or None
        T; None takes the counts as they are.
    chunk_size : int
        Cells read at a time (genes of a CSC matrix); speed and memory only.

    Returns
    -------
    tuple of numpy.ndarray (n_genes,) float64
        Means of control and perturbation.

    Raises
    ------
    InputError
        An arm without cells; a value that is negative, NaN or infinite.
    """
    arm = _arm_of_cell(membership)
    sizes = np.array([np.count_nonzero(arm == k) for k in (CONTROL, PERTURBED)])
    if not sizes.all():
        empty = "control" if sizes[CONTROL] == 0 else "perturbation"
        raise InputError(f"the {empty} has no cells of its own in {source.where}")
    n_genes = source.shape[1]
    sums = np.zeros(2 * n_genes)
    summary = source.empty_summary()
    if log_target_sum is not None and source.layout == "csc":
        for _ in _blocks(source, summary, chunk_size):  # library sizes come first
            pass
    for block in _blocks(source, None if summary.complete else summary, chunk_size):
        major = np.repeat(np.arange(block.start, block.stop), np.diff(block.ptr))
        cells, genes = (block.minor, major) if source.layout == "csc" else (major, block.minor)
        used = (arm[cells] != NEITHER) & (block.values != 0)
        cells, genes, values = cells[used], genes[used], block.values[used].astype(np.float64)
        if log_target_sum is not None:
            values = np.log1p(values * log_target_sum / summary.library_sizes[cells])
        np.add.at(sums, arm[cells] * n_genes + genes, values)
    _warn_unless_counts(source, summary)
    control, perturbed = sums.reshape(2, n_genes) / sizes[:, None]
    return control, perturbed


def _arm_of_cell(membership: Membership) -> np.ndarray:
    cell = np.repeat(np.arange(len(membership.ptr) - 1), np.diff(membership.ptr))
    arm = np.full(len(membership.ptr) - 1, NEITHER, dtype=np.int64)
    arm[cell[membership.groups == 0]] = CONTROL
    # Also in a pool: the control of a perturbation is the pool without its cells.
    arm[cell[membership.groups == 1]] = PERTURBED
    return arm


def _blocks(
    source: MatrixSource, summary: MatrixSummary | None, chunk_size: int
) -> Iterator[CompressedBlock]:
    with closing(prefetch(source.native_blocks(summary, max_major=chunk_size))) as blocks:
        for block in blocks:
            if summary is not None:
                require_nonnegative(source, summary, "a mean of counts")
            yield block


def _warn_unless_counts(source: MatrixSource, summary: MatrixSummary) -> None:
    if summary.fractional is not None:
        cell, gene, value = summary.fractional
        warnings.warn(
            f"{source.where} holds {value:g} at cell {source.obs.index[cell]!r}, gene "
            f"{source.var.index[gene]!r}: not a count; give the file with the raw counts",
            CrispyxWarning,
            stacklevel=6,
        )
