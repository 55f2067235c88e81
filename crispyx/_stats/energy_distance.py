"""Energy distance of subsets of cells from the rest of a pool, in an embedding.

Reference: ``reference.energy_distance``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crispyx._kernels import energy_distance as kernel
from crispyx.settings import Engine


@dataclass(frozen=True)
class Pool:
    """Cells of both arms.

    Attributes
    ----------
    points : numpy.ndarray (n_cells, d) float64
        Coordinates, padded with zeros to the width that the kernel needs.
    sums : numpy.ndarray (n_cells,) float64
        Distances of each cell to all cells of the pool.
    """

    points: np.ndarray
    sums: np.ndarray


def padded(coordinates: np.ndarray) -> np.ndarray:
    """Return coordinates (n_cells, d) as float64, with columns of zeros up to a multiple of 8."""
    n_cells, d = coordinates.shape
    points = np.zeros((n_cells, -(-d // kernel.WIDTH) * kernel.WIDTH))
    points[:, :d] = coordinates
    return points


def whole_pool(points: np.ndarray, engine: Engine, n_threads: int) -> Pool:
    """Return the pool of some cells (n_cells, d)."""
    sums = np.zeros(len(points))
    if engine == "compiled":
        kernel.add_distances(points, points, sums, n_threads)
    return Pool(points, sums)


def joined_pool(perturbed: np.ndarray, control: Pool, engine: Engine, n_threads: int) -> Pool:
    """Return the pool of perturbed cells, which come first, and control cells."""
    points = np.concatenate([perturbed, control.points])
    sums = np.concatenate([np.zeros(len(perturbed)), control.sums])
    if engine == "compiled":
        kernel.add_distances(control.points, perturbed, sums[len(perturbed) :], n_threads)
        kernel.add_distances(perturbed, points, sums[: len(perturbed)], n_threads)
    return Pool(points, sums)


def energies(pool: Pool, subsets: np.ndarray, engine: Engine, n_threads: int) -> np.ndarray:
    r"""Return the energy distance of each subset from the rest of the pool (n_subsets,) float64.

    With the sums :math:`r_i` of each cell over the pool, only distances within the subset :math:`S`
    of size k are new; with :math:`W` their sum, :math:`R = \sum_{i \in S} r_i`, :math:`T` the sum
    of all :math:`r_i` and m cells outside,

    .. math:: E = \frac{2 (R - 2 W)}{k m} - \frac{2 W}{k^2} - \frac{T - 2 R + 2 W}{m^2}

    Parameters
    ----------
    pool : Pool
        All cells.
    subsets : numpy.ndarray (n_subsets, k) int32
        Positions of cells in rising order, 0 < k < n_cells.
    engine : {"compiled", "reference"}
        Which definition runs.
    n_threads : int
        Threads of the kernel.
    """
    n_subsets, k = subsets.shape
    if engine == "reference":
        import reference.energy_distance as reference

        inside = np.zeros((n_subsets, len(pool.points)), dtype=bool)
        np.put_along_axis(inside, subsets.astype(np.int64), True, axis=1)
        return np.array(
            [reference.energy_distance(pool.points[own], pool.points[~own]) for own in inside]
        )
    within = np.empty(n_subsets)
    scratch = np.empty((n_threads, k, pool.points.shape[1]))
    kernel.subset_distances(pool.points, subsets, scratch, within, n_threads)
    m = len(pool.points) - k
    own = pool.sums[subsets].sum(axis=1)
    rest = pool.sums.sum() - 2 * own + 2 * within
    energy = 2 * (own - 2 * within) / (k * m) - 2 * within / k**2 - rest / m**2
    return np.maximum(energy, 0)


def permutation_pvalue(observed: float, permuted: np.ndarray) -> float:
    """Return the p-value; see :func:`reference.energy_distance.permutation_pvalue`."""
    import reference.energy_distance as reference

    return reference.permutation_pvalue(observed, permuted)
