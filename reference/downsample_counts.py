r"""Fewer molecules of every cell, drawn at random.

A cell with counts :math:`y_1, \dots, y_p`, N molecules in all, keeps n of them. Without
replacement every set of n molecules is equally likely, so that the counts left have a multivariate
hypergeometric distribution; the molecules are passed over one by one, and each is kept with
probability (molecules still wanted) / (molecules still there). With replacement n molecules are
drawn one after the other (multinomial distribution).

The random numbers of a cell depend on the seed and on its place in the matrix alone.

Sources: selection sampling, Knuth, The Art of Computer Programming 2, section 3.4.2, algorithm S;
generator: Steele, Lea and Flood, OOPSLA (2014) 453-472 (SplitMix64).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

WORD = (1 << 64) - 1
STEP = 0x9E3779B97F4A7C15


def mixed(z: int) -> int:
    """Return the 64 bits of SplitMix64's output function."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
    return z ^ (z >> 31)


def stream_of(seed: int, cell: int) -> int:
    """Return the state that the random numbers of a cell start from."""
    return mixed((mixed((seed + STEP) & WORD) ^ (((cell + 1) * STEP) & WORD)) & WORD)


def downsampled(
    counts: ArrayLike, n_kept: int, seed: int, cell: int, replace: bool = False
) -> NDArray[np.int64]:
    """Return the counts of one cell with ``n_kept`` molecules drawn from it.

    Parameters
    ----------
    counts : (n_genes,), molecules of each gene
    n_kept : molecules to keep; a cell with no more is returned as it is, without replacement
    seed, cell : what the random numbers are made of
    replace : draw with replacement

    Returns
    -------
    (n_genes,) int64, ``n_kept`` in all.
    """
    y = np.asarray(counts, dtype=np.int64)
    left, state = int(y.sum()), stream_of(seed, cell)
    kept = np.zeros(len(y), dtype=np.int64)
    if left == 0 or (n_kept >= left and not replace):
        return y.copy()
    ends = np.cumsum(y)
    if replace:
        for _ in range(n_kept):
            state = (state + STEP) & WORD
            molecule = int((mixed(state) >> 11) * 2.0**-53 * left)
            kept[np.searchsorted(ends, molecule, side="right")] += 1
        return kept
    wanted = n_kept
    for gene in np.flatnonzero(y):
        for _ in range(y[gene]):
            if wanted == 0:
                return kept
            state = (state + STEP) & WORD
            if (mixed(state) >> 11) * 2.0**-53 * left < wanted:
                kept[gene] += 1
                wanted -= 1
            left -= 1
    return kept
