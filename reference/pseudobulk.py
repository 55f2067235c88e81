"""Profiles of groups of cells, and differences between them, with and without batches.

Example: two control cells with 1 and 3 counts of a gene, one perturbed cell with 5.

>>> totals = group_totals([[1], [3], [5]], [[0], [0], [1]], n_groups=2)
>>> totals.tolist()
[[4.0], [5.0]]
>>> weights = batch_weights(n_control=[2, 1], n_perturbed=[1, 1])  # 2/3 to 1/2
>>> [round(7 * x, 12) for x in weighted_difference([2, 1], [5, 2], weights)]
[15.0, 11.0, 26.0]
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def group_totals(
    expression: ArrayLike,
    groups: Sequence[Sequence[int]],
    n_groups: int,
    times: Sequence[Sequence[int]] | None = None,
    begin: NDArray[np.generic] | None = None,
) -> NDArray[np.generic]:
    """Return the sum of every gene over the cells of every group, cell after cell.

    Parameters
    ----------
    expression : (n_cells, n_genes), any unit
    groups : the groups of every cell: none, one or several
    n_groups : number of groups
    times : how often the cell counts in each of its groups; None counts it once
    begin : (n_groups, n_genes), totals of cells before these; integers for exact sums of counts

    Returns
    -------
    (n_groups, n_genes), of the type of ``begin``; float64 without it
    """
    x = np.asarray(expression)
    totals = np.zeros((n_groups, x.shape[1])) if begin is None else begin.copy()
    for cell, its_groups in enumerate(groups):
        for place, k in enumerate(its_groups):
            n = 1 if times is None else times[cell][place]
            totals[k] += n * x[cell].astype(totals.dtype)
    return totals


def log_of_mean(mean: float, baseline_count: float = 1.0) -> float:
    r"""Return :math:`\ln(1 + b\,\bar x)`, the logarithm of a mean of normalized counts.

    Parameters
    ----------
    mean : mean of counts per 10,000 over the cells of a group
    baseline_count : b, what a mean of 1 counts for
    """
    return float(np.log1p(baseline_count * mean))


def batch_weights(n_control: ArrayLike, n_perturbed: ArrayLike) -> NDArray[np.float64]:
    r"""Return the weight of every batch in a difference that is taken within batches.

    .. math::  w_b \propto \frac{n_{0b}\, n_{1b}}{n_{0b} + n_{1b}}, \qquad \sum_b w_b = 1

    With equal variances these weights give the difference its smallest variance; it is then the
    least-squares coefficient of the perturbation in a model with an intercept for every batch.

    Parameters
    ----------
    n_control, n_perturbed : (n_batches,), cells of both arms

    Returns
    -------
    (n_batches,); 0 for a batch without one of the arms, all NaN when no batch has both
    """
    n0, n1 = np.asarray(n_control, dtype=float), np.asarray(n_perturbed, dtype=float)
    w = np.zeros(n0.shape)
    for b in range(n0.size):
        if n0[b] > 0 and n1[b] > 0:
            w[b] = n0[b] * n1[b] / (n0[b] + n1[b])
    return w / w.sum() if w.any() else np.full(n0.shape, np.nan)


def weighted_difference(
    control: ArrayLike, perturbed: ArrayLike, weights: ArrayLike
) -> tuple[float, float, float]:
    """Return the difference of two profiles within batches, and both weighted profiles.

    Parameters
    ----------
    control, perturbed : (n_batches,), one gene's profile in every batch; ignored at weight 0
    weights : (n_batches,), see :func:`batch_weights`

    Returns
    -------
    tuple of float: perturbed - control, control, perturbed
    """
    low = high = 0.0
    for w, c, p in zip(*map(np.asarray, (weights, control, perturbed)), strict=True):
        if w != 0:
            low, high = low + w * c, high + w * p
    return float(high - low), float(low), float(high)


def bootstrap_times(n_cells: int, size: int, seed: int, name: str) -> NDArray[np.int64]:
    """Return how often each cell of a group is drawn, ``size`` times with replacement.

    The draws of a group depend on the seed, its name and its number of cells only: groups beside it
    change nothing.

    Parameters
    ----------
    n_cells : cells of the group, in the order of the data
    size : number of draws
    seed : seed of all groups
    name : name of the group

    Returns
    -------
    (n_cells,), summing up to ``size``
    """
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return np.bincount(generator.integers(0, n_cells, size), minlength=n_cells)
