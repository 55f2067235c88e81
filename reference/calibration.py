r"""Whether tests keep their level: tests of true null hypotheses, and what is counted of them.

Cells to which the same was done, such as the control cells of a screen, are split at random into a
control and groups that stand for perturbations. Every p-value of such a split belongs to a true
null hypothesis, whatever the counts look like: a valid test has :math:`P(p \le a) \le a`.

>>> interval = binomial_interval(7, 100)  # 7 of 100 p-values below .05
>>> interval[0] < 0.05 < interval[1]
True
>>> round(inflation([0.5, 0.2, 0.9]), 12)  # half of the p-values at or below one half
1.0
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, ndtri

KINDS = ("splits", "guides", "depth")
CONFIDENCE = 0.99


def split_generator(random_state: int, kind: str, split: int) -> np.random.Generator:
    """Return the random numbers that say which cells are in which group of a split."""
    return np.random.default_rng([random_state, KINDS.index(kind), split])


def cell_generator(random_state: int, kind: str, split: int, cell: int) -> np.random.Generator:
    """Return the random numbers that thin one cell: its own, in whatever order cells are read."""
    return np.random.default_rng([random_state, KINDS.index(kind), split, 1 + cell])


def groups_that_fit(
    in_batch: ArrayLike, controls: ArrayLike, order: Sequence[int], most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose perturbations to imitate together, so that half of the control stays in every batch.

    They are gone through in order, and each is taken that still fits beside those before it. Where
    not even one does, the first is taken with as many cells as half of the control allows.

    Parameters
    ----------
    in_batch : (n_perturbations, n_batches) int, cells of each perturbation
    controls : (n_batches,) int, control cells
    order : perturbations in the order in which they are tried, at least one
    most : largest number of perturbations

    Returns
    -------
    chosen : (n_chosen,) int64, rows of ``in_batch``
    sizes : (n_chosen, n_batches) int64, control cells that stand for each
    """
    wanted = np.asarray(in_batch, dtype=np.int64)
    room = np.asarray(controls, dtype=np.int64) // 2
    chosen: list[int] = []
    left = room
    for k in order:
        if len(chosen) < most and (wanted[k] <= left).all():
            chosen.append(int(k))
            left = left - wanted[k]
    if chosen:
        return np.array(chosen, dtype=np.int64), wanted[chosen]
    first = np.array(order[:1], dtype=np.int64)
    return first, np.minimum(wanted[first], room)


def random_split(
    n_cells: int,
    sizes: Sequence[int],
    rng: np.random.Generator,
    weights: ArrayLike | None = None,
) -> NDArray[np.int64]:
    r"""Draw disjoint groups; the other cells are the control.

    Without weights every set of cells is equally likely. With them the cells of the smallest
    :math:`E_i / w_i` are taken, E independent and exponential: a sample without replacement with
    chances in proportion to w at every draw.

    Parameters
    ----------
    n_cells : cells that are exchangeable under the null hypothesis
    sizes : cells of each group; half of the cells or more are left to the control
    rng : source of randomness
    weights : (n_cells,) how readily each cell is taken, or None for all alike

    Returns
    -------
    (n_cells,) int64, 0 for the control and k for the k-th group.

    Raises
    ------
    ValueError
        Less than half of the cells would be left to the control.

    Notes
    -----
    Source: P. S. Efraimidis and P. G. Spirakis, Inf. Process. Lett. 97 (2006) 181-185.
    """
    wanted = int(np.sum(sizes))
    if 2 * wanted > n_cells:
        raise ValueError(f"groups of {wanted} cells leave less than half of {n_cells} cells.")
    keys = rng.exponential(size=n_cells)
    if weights is not None:
        with np.errstate(divide="ignore"):
            keys = keys / np.asarray(weights, dtype=np.float64)
    labels = np.zeros(n_cells, dtype=np.int64)
    taken = np.argsort(keys, kind="stable")[:wanted]
    labels[taken] = rng.permutation(np.repeat(np.arange(1, len(sizes) + 1), sizes))
    return labels


def split_within_batches(
    batch: ArrayLike, sizes: ArrayLike, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw groups batch after batch, so that each has the cells it should have of every batch.

    Parameters
    ----------
    batch : (n_cells,) int, batch of each cell
    sizes : (n_groups, n_batches) int, see :func:`groups_that_fit`
    rng : source of randomness

    Returns
    -------
    (n_cells,) int64, as from :func:`random_split`.
    """
    batch, sizes = np.asarray(batch), np.asarray(sizes)
    labels = np.zeros(len(batch), dtype=np.int64)
    for b in range(sizes.shape[1]):
        inside = np.flatnonzero(batch == b)
        if len(inside):
            labels[inside] = random_split(len(inside), sizes[:, b].tolist(), rng)
    return labels


def thinned(counts: ArrayLike, kept: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return counts of which every molecule is kept with probability ``kept``, each on its own.

    A count of mean m becomes one of mean ``kept * m``; Poisson counts stay Poisson, and negative
    binomial ones keep their dispersion: the cell is as it would be at a smaller depth.

    Parameters
    ----------
    counts : (n_values,), whole numbers
    kept : probability
    rng : source of randomness; a stored 0 draws nothing but takes its place

    Returns
    -------
    (n_values,) int64
    """
    return rng.binomial(np.asarray(counts).astype(np.int64), kept)


def binomial_interval(hits: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    r"""Return the exact interval of a share of ``hits`` among ``n``; (0, 1) of nothing.

    With :math:`t = (1 - c) / 2` its ends solve :math:`P(X \ge h \mid l) = t` and
    :math:`P(X \le h \mid u) = t` for a binomial X: quantiles of beta distributions.

    Notes
    -----
    Source: C. J. Clopper and E. S. Pearson, Biometrika 26 (1934) 404-413.
    """
    tail = (1 - confidence) / 2
    low = float(betaincinv(hits, n - hits + 1, tail)) if hits else 0.0
    high = float(betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0
    return low, high


def share_below(
    pvalues: ArrayLike, level: float, confidence: float = CONFIDENCE
) -> tuple[float, float, float]:
    """Return the share of p-values below a level (strictly) and its exact interval.

    A discrete p-value that equals the level is not below it. NaN of nothing, with (0, 1).
    """
    p = np.asarray(pvalues, dtype=np.float64)
    hits = int(np.count_nonzero(p < level))
    share = hits / len(p) if len(p) else float("nan")
    return (share, *binomial_interval(hits, len(p), confidence))


def inflation(pvalues: ArrayLike) -> float:
    r"""Return the genomic inflation factor, NaN of nothing.

    .. math::  \lambda = \frac{\Phi^{-1}(\tilde p / 2)^2}{\Phi^{-1}(1 / 4)^2}

    for the median :math:`\tilde p`: its chi-square value of one degree of freedom over the median
    of that distribution, .4549. Of an odd number of tests this is the median of the chi-square
    values. p-values are taken as they are, without a random part for discrete ones: p = 1 counts
    as chi-square 0. A gene with few counts has large p-values only, and a factor below 1 says so.

    Notes
    -----
    Source: B. Devlin and K. Roeder, Biometrics 55 (1999) 997-1004.
    """
    p = np.asarray(pvalues, dtype=np.float64)
    if not len(p):
        return float("nan")
    return float((ndtri(np.median(p) / 2) / ndtri(0.25)) ** 2)


def ranks_of(n: int, n_ranks: int) -> NDArray[np.int64]:
    """Return ranks from 1 to n, at most ``n_ranks``, evenly spread over their logarithms."""
    return np.unique(np.geomspace(1, n, n_ranks).round().astype(np.int64))


def quantiles(
    pvalues: ArrayLike, ranks: ArrayLike, confidence: float = CONFIDENCE
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    r"""Return expected and observed p-values of some ranks, and the envelope of the observed.

    The r-th smallest of n independent uniform values has the distribution
    :math:`\mathrm{Beta}(r, n + 1 - r)`, of mean :math:`r / (n + 1)`.

    Parameters
    ----------
    pvalues : (n,), at least one
    ranks : (n_ranks,) int, from 1 to n
    confidence : of the envelope, at each rank on its own

    Returns
    -------
    expected, observed, low, high : (n_ranks,)
    """
    p, rank = np.sort(np.asarray(pvalues, dtype=np.float64)), np.asarray(ranks, dtype=np.int64)
    n, tail = len(p), (1 - confidence) / 2
    low = betaincinv(rank, n + 1 - rank, tail)
    high = betaincinv(rank, n + 1 - rank, 1 - tail)
    return rank / (n + 1), p[rank - 1], low, high
