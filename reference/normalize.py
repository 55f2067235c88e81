r"""Library-size normalization and log1p.

.. math::

    x_{ij} = \frac{y_{ij} \, T}{s_i}, \qquad s_i = \sum_j y_{ij}, \qquad
    \ell_{ij} = \ln(1 + x_{ij})

with ``y`` the counts, ``s`` the library sizes and ``T`` the target sum.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float64]


def library_sizes(counts: ArrayLike) -> Float:
    """Return the total count of every cell.

    Parameters
    ----------
    counts : (n_cells, n_genes), UMI counts

    Returns
    -------
    (n_cells,) float64, UMI. Exact for integer counts below 2**53 in total.
    """
    return np.asarray(counts, dtype=np.float64).sum(axis=1)


def normalize_total(
    counts: ArrayLike, target_sum: float = 1e4, library_size: ArrayLike | None = None
) -> Float:
    """Scale every cell to the same total.

    For integer counts and an integer target the product ``y T`` is exact, so that every value is
    rounded once, in the division.

    Parameters
    ----------
    counts : (n_cells, n_genes), UMI counts
    target_sum : total of every cell afterwards, UMI
    library_size : (n_cells,), UMI; the row totals of ``counts`` when not given

    Returns
    -------
    (n_cells, n_genes) float64. A cell without any count stays at 0.

    Raises
    ------
    ValueError
        If a cell has counts but a library size that is not positive.
    """
    y = np.asarray(counts, dtype=np.float64)
    s = library_sizes(y) if library_size is None else np.asarray(library_size, dtype=np.float64)
    empty = ~y.any(axis=1)
    impossible = np.flatnonzero(~empty & ~(s > 0))
    if impossible.size:
        cell = int(impossible[0])
        raise ValueError(
            f"cell {cell} has counts but library size {s[cell]:g}; library sizes must be positive "
            "wherever a cell has counts. Pass the totals of the same cells, or leave them out to "
            "use the row totals."
        )
    return y * target_sum / np.where(empty, 1.0, s)[:, np.newaxis]


def log1p_normalize(counts: ArrayLike, target_sum: float = 1e4) -> Float:
    """Return ``ln(1 + normalized counts)``, the unit in which both tests compare cells.

    Parameters
    ----------
    counts : (n_cells, n_genes), UMI counts
    target_sum : total of every cell before the logarithm, UMI

    Returns
    -------
    (n_cells, n_genes) float64, natural-log units.
    """
    return np.log1p(normalize_total(counts, target_sum))
