"""Splits of exchangeable cells into a control and pseudo-perturbations that do nothing.

Every test of such a split is a test of a true null hypothesis, whatever the counts look like. Cells
can be drawn to have the depths or the batches of real perturbations, and thinned to stand for
perturbed cells that are shallower than their control.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crispyx.errors import InputError


def random_split(
    n_cells: int,
    sizes: Sequence[int],
    rng: np.random.Generator,
    *,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Draw disjoint pseudo-perturbations; the other cells are the control.

    Parameters
    ----------
    n_cells : int
        Cells that are exchangeable under the null, such as the control cells of a screen.
    sizes : sequence of int
        Cells of each pseudo-perturbation.
    rng : numpy.random.Generator
        Source of randomness.
    weights : numpy.ndarray (n_cells,) float64 or None
        How readily each cell is taken; None takes all alike. See :func:`batch_weights` and
        :func:`depth_weights`.

    Returns
    -------
    numpy.ndarray (n_cells,) int64
        0 for the control, k for the k-th pseudo-perturbation.

    Raises
    ------
    InputError
        Less than half of the cells would be left in the control.
    """
    wanted = int(np.sum(sizes))
    if 2 * wanted > n_cells:
        raise InputError(
            f"{len(sizes)} pseudo-perturbations of {wanted} cells in all leave less than half of "
            f"{n_cells} cells to the control; ask for fewer or smaller ones"
        )
    # The smallest of exponential variables of these rates are a weighted sample (Efraimidis, 2006).
    keys = rng.exponential(size=n_cells)
    if weights is not None:
        with np.errstate(divide="ignore"):
            keys = keys / weights
    labels = np.zeros(n_cells, dtype=np.int64)
    taken = np.argsort(keys, kind="stable")[:wanted]
    labels[taken] = rng.permutation(np.repeat(np.arange(1, len(sizes) + 1), sizes))
    return labels


def batch_weights(batches: np.ndarray, favored: object, share: float, taken: float) -> np.ndarray:
    """Return weights with which ``share`` of the drawn cells come from one batch.

    Parameters
    ----------
    batches : numpy.ndarray (n_cells,)
        Batch of each cell.
    favored : object
        The batch.
    share : float
        Expected share of the drawn cells, above 0 and below 1.
    taken : float
        Fraction of all cells that will be drawn.

    Returns
    -------
    numpy.ndarray (n_cells,) float64
    """
    inside = batches == favored
    within = min(taken * share * len(inside) / max(inside.sum(), 1), 0.999)
    beside = min(taken * (1 - share) * len(inside) / max((~inside).sum(), 1), 0.999)
    # A cell of weight w is among the first with probability 1 - exp(-w t).
    return np.where(inside, -np.log1p(-within), -np.log1p(-beside))


def depth_weights(depth: np.ndarray, wanted: np.ndarray, n_bins: int = 10) -> np.ndarray:
    """Return weights with which drawn cells have the depths of other ones.

    Parameters
    ----------
    depth : numpy.ndarray (n_cells,) float64
        Total counts, or size factors, of the cells to draw from.
    wanted : numpy.ndarray (n_wanted,) float64
        The same of the cells whose depths are to be met.
    n_bins : int
        Depths are met in as many bins of equally many cells to draw from.
    """
    edges = np.quantile(depth, np.arange(1, n_bins) / n_bins)
    here = np.searchsorted(edges, depth)
    there = np.bincount(np.searchsorted(edges, wanted), minlength=n_bins)
    return there[here] / np.bincount(here, minlength=n_bins)[here]


def thinned(
    values: np.ndarray, shallower: np.ndarray, fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """Drop each molecule of some cells with probability ``fraction``.

    Parameters
    ----------
    values : numpy.ndarray (nnz,)
        Counts.
    shallower : numpy.ndarray (nnz,) bool
        Which of them belong to the cells to be thinned.
    fraction : float
        Expected share of lost molecules.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    numpy.ndarray (nnz,)
        Counts, 0 where none is left; the type of ``values``.
    """
    out = values.copy()
    out[shallower] = rng.binomial(values[shallower].astype(np.int64), 1 - fraction)
    return out
