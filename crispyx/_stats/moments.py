"""Means, variances and expressing cells of both arms of every comparison for a block of genes.

Reference: ``reference.moments``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crispyx._kernels import moments as kernel
from crispyx._kernels.layout import GroupedGenes
from crispyx.settings import Engine


@dataclass(frozen=True)
class Arm:
    """Moments of one arm of the comparisons; arrays are (n, n_genes).

    ``n`` is the number of perturbations, or 1 where all share one control.

    Attributes
    ----------
    mean, variance : numpy.ndarray float64
        Mean and unbiased variance; NaN below one and two cells.
    n_expressing : numpy.ndarray int64
        Cells with a value above 0.
    n_cells : numpy.ndarray (n, 1) int64
        Cells of the arm.
    """

    mean: np.ndarray
    variance: np.ndarray
    n_expressing: np.ndarray
    n_cells: np.ndarray

    @property
    def fraction_expressing(self) -> np.ndarray:
        """Fraction of cells with a value above 0; NaN for an arm without cells."""
        n_cells = self.n_cells.astype(float)
        return np.divide(
            self.n_expressing, n_cells, out=np.full(self.mean.shape, np.nan), where=n_cells > 0
        )

    def pts(self, n_threads: int = 1) -> np.ndarray:
        """Return the fraction of cells with a value above 0 as results hold it, float32."""
        fraction = np.empty(self.n_expressing.shape, dtype=np.float32)
        kernel.fractions(self.n_expressing, self.n_cells[:, 0], fraction, n_threads)
        return fraction

    def rows(self, part: slice) -> Arm:
        """Return a part of the rows."""
        return Arm(
            self.mean[part], self.variance[part], self.n_expressing[part], self.n_cells[part]
        )


def comparison_arms(
    block: GroupedGenes, engine: Engine, n_threads: int = 1, *, with_variance: bool = True
) -> tuple[Arm, Arm]:
    """Return the control arm and the perturbed arm of every perturbation in a block.

    Without variance, which takes another look at every value, that is NaN.
    """
    groups = group_moments(block, engine, n_threads, with_variance=with_variance)
    control, perturbed = groups.rows(slice(0, 1)), groups.rows(slice(1, None))
    if not block.pooled:
        return control, perturbed
    if engine == "reference":
        return _reference_rest(block), perturbed
    n_stored = np.diff(block.run_ptr, axis=1).T
    return _without(control, perturbed, n_stored[1:] == n_stored[0]), perturbed


def group_moments(
    block: GroupedGenes, engine: Engine, n_threads: int = 1, *, with_variance: bool = True
) -> Arm:
    """Return the moments of every group of a block as rows, group 0 first."""
    shape = (block.n_groups, block.n_genes)
    mean, variance = np.empty(shape), np.empty(shape)
    n_expressing = np.empty(shape, dtype=np.int64)
    if engine == "reference":
        for k, g in np.ndindex(shape):
            mean[k, g], variance[k, g], n_expressing[k, g] = _reference(block.dense(g, k))
    else:
        kernel.group_moments(
            block.values,
            block.run_ptr,
            block.group_sizes,
            mean,
            with_variance,
            variance,
            n_expressing,
            n_threads,
        )
        if not with_variance:
            variance = np.broadcast_to(np.nan, shape)
    return Arm(mean, variance, n_expressing, block.group_sizes[:, None])


def _without(pool: Arm, group: Arm, all_stored: np.ndarray) -> Arm:
    """Return the moments of the pool without each group.

    Sums of deviations from the pool's mean are subtracted, which keeps the digits that differences
    of raw sums would lose. Where the group holds every non-zero of the pool (``all_stored``), the
    rest is zero exactly.
    """
    n = pool.n_cells - group.n_cells
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.where(group.n_cells > 0, group.mean - pool.mean, 0)
        mean = pool.mean - group.n_cells * shift / n
        squares = (pool.n_cells - 1) * pool.variance
        squares = squares - np.where(group.n_cells > 1, (group.n_cells - 1) * group.variance, 0)
        squares -= group.n_cells * shift**2 + n * (mean - pool.mean) ** 2
        variance = np.maximum(squares, 0) / (n - 1)
    mean[all_stored], variance[all_stored] = 0, 0
    mean[(n < 1)[:, 0]], variance[(n < 2)[:, 0]] = np.nan, np.nan
    return Arm(mean, variance, pool.n_expressing - group.n_expressing, n)


def _reference_rest(block: GroupedGenes) -> Arm:
    shape = (block.n_groups - 1, block.n_genes)
    mean, variance = np.empty(shape), np.empty(shape)
    n_expressing = np.empty(shape, dtype=np.int64)
    for k, g in np.ndindex(shape):
        values = block.dense_control(g, k + 1)
        mean[k, g], variance[k, g], n_expressing[k, g] = _reference(values)
    n_cells = block.group_sizes[0] - block.group_sizes[1:]
    return Arm(mean, variance, n_expressing, n_cells[:, None])


def _reference(values: np.ndarray) -> tuple[float, float, int]:
    import reference.moments

    return (
        reference.moments.mean(values),
        reference.moments.variance(values),
        int(np.count_nonzero(values > 0)),
    )
