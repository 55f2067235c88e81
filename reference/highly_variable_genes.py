r"""Genes whose expression varies more than that of others of the same mean.

``seurat_v3``: with mean :math:`m_g` and variance :math:`v_g` of the counts of gene g over n cells,
a curve :math:`\log_{10} \hat v(\log_{10} m)` is fitted by local regression, and

.. math::

    \mathrm{variances\_norm}_g = \frac{1}{(n - 1)\, \hat v_g}
    \sum_i \left(\min(y_{ig},\, m_g + \sqrt{n \hat v_g}) - m_g\right)^2

The genes with the largest normalized variance are chosen. ``seurat`` and ``cell_ranger`` compare
the dispersion :math:`d_g = v_g / m_g` with those of genes of similar mean, in bins of the mean:

.. math::  \mathrm{dispersions\_norm}_g = \frac{d_g - \mathrm{center}_b}{\mathrm{spread}_b}

Sources: Stuart et al., Cell 177 (2019) 1888-1902 (``seurat_v3``); Satija et al., Nature
Biotechnology 33 (2015) 495-502 (``seurat``); Zheng et al., Nature Communications 8 (2017) 14049
(``cell_ranger``); Cleveland and Grosse, Statistics and Computing 1 (1991) 47-62 (local regression).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float64]

CELL = 0.2  # share of the points of a neighborhood below which an interval is not halved
MARGIN = 0.005  # of the range, added on both sides of it
NEAR, FAR = 0.001, 0.999  # of the neighborhood: closer has weight 1, farther weight 0
SMALLEST_MEAN = 1e-12
MAD_OF_NORMAL = 0.6744897501960817  # median absolute deviation of a standard normal variable


class DispersionTable(NamedTuple):
    """Means, dispersions and normalized dispersions (n_genes,) of one batch."""

    means: Float
    dispersions: Float
    dispersions_norm: Float


def moments(values: ArrayLike) -> tuple[Float, Float]:
    """Return mean and variance (n_genes,), n - 1 in the denominator, of (n_cells, n_genes)."""
    x = np.asarray(values, dtype=np.float64)
    return x.mean(axis=0), x.var(axis=0, ddof=1)


def expected_variances(means: Float, variances: Float, span: float = 0.3) -> Float:
    """Return the variance expected of every gene's mean (n_genes,); 1 for a constant gene."""
    expected = np.ones(len(means))
    varies = variances > 0
    if varies.any():
        x, y = np.log10(means[varies]), np.log10(variances[varies])
        expected[varies] = 10 ** local_regression(x, y, span)
    return expected


def normalized_variances(
    counts: ArrayLike, means: Float, variances: Float, expected: Float
) -> Float:
    """Return the variance of standardized counts, large ones clipped (n_genes,); 0 if constant."""
    y = np.asarray(counts, dtype=np.float64)
    n_cells = len(y)
    clipped = np.minimum(y, means + np.sqrt(n_cells * expected))
    squares = ((clipped - means) ** 2).sum(axis=0)
    return np.where(variances > 0, squares / ((n_cells - 1) * expected), 0.0)


def local_regression(x: ArrayLike, y: ArrayLike, span: float = 0.3) -> Float:
    """Fit y over x by local quadratics with tricube weights, as Cleveland's ``loess`` does.

    Value and slope of the local quadratic are found at the ends of intervals, which are halved at
    their median until few points are left in each, and interpolated by cubics in between.

    Parameters
    ----------
    x, y : (n,)
    span : share of the points that a neighborhood holds

    Returns
    -------
    (n,) float64, the curve at x.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    knots = _knots(x, span)
    fits = np.array([_local_quadratic(x, y, knot, span) for knot in knots])
    right = np.clip(np.searchsorted(knots, x, side="left"), 1, len(knots) - 1)
    left = right - 1
    width = knots[right] - knots[left]
    h = (x - knots[left]) / width
    value, slope = fits[:, 0], fits[:, 1]
    return (
        (1 - h) ** 2 * (1 + 2 * h) * value[left]
        + h**2 * (3 - 2 * h) * value[right]
        + (h * (1 - h) ** 2 * slope[left] - h**2 * (1 - h) * slope[right]) * width
    )


def _knots(x: Float, span: float) -> Float:
    ordered = np.sort(x)
    low, high = ordered[0], ordered[-1]
    spread = max(high - low, 1e-10 * max(abs(low), abs(high)) + 1e-30)
    low, high = low - MARGIN * spread, high + MARGIN * spread
    few = int(len(x) * span * CELL)
    knots, stack = [low, high], [(0, len(x), low, high)]
    while stack:
        start, stop, left, right = stack.pop()
        if stop - start <= few:
            continue
        middle = (start + stop + 1) // 2  # points of the left half end before it
        cut = ordered[middle - 1]
        if cut in (left, right):
            continue
        knots.append(cut)
        stack += [(start, middle, left, cut), (middle, stop, cut, right)]
    return np.sort(np.array(knots))


def _local_quadratic(x: Float, y: Float, at: float, span: float) -> tuple[float, float]:
    """Return value and slope at one place of the quadratic fitted to its neighborhood."""
    distance = np.abs(x - at)
    n_near = min(len(x), int(len(x) * span + 1e-5))
    reach = np.sort(distance)[n_near - 1] * max(1.0, span) ** 0.5
    share = distance / reach
    weight = np.where(share < FAR, np.clip(1 - share**3, 0, None) ** 3, 0.0)
    weight[share < NEAR] = 1.0
    used = weight > 0
    root = np.sqrt(weight[used])
    offset = x[used] - at
    design = np.stack([np.ones(len(offset)), offset, offset**2], axis=1)
    coefficients = np.linalg.lstsq(design * root[:, None], y[used] * root, rcond=None)[0]
    return float(coefficients[0]), float(coefficients[1])


def dispersion_table(means: Float, variances: Float, flavor: str, n_bins: int) -> DispersionTable:
    """Return dispersions beside those of genes of similar mean.

    ``seurat`` takes logarithms of both, ``n_bins`` equal bins of the mean, and mean and standard
    deviation of a bin (a gene alone in its bin gets 1). ``cell_ranger`` takes bins between the
    percentiles 10, 15, ..., 100, median and median absolute deviation. A constant gene has no
    dispersion for ``seurat`` and 0 for ``cell_ranger``.
    """
    means = np.where(means == 0, SMALLEST_MEAN, means)
    dispersions = variances / means
    if flavor == "seurat":
        dispersions = np.log(np.where(dispersions == 0, np.nan, dispersions))
        means = np.log1p(means)
        low, high = means.min(), means.max()
        if low == high:
            low, high = low - 0.001 * abs(low), high + 0.001 * abs(high)
        edges = np.linspace(low, high, n_bins + 1)
        edges[0] -= 0.001 * (high - low)
    else:
        inner = np.percentile(means, np.arange(10, 105, 5))
        edges = np.unique(np.concatenate([[-np.inf], inner, [np.inf]]))
    bins = np.searchsorted(edges, means, side="left")
    center, spread = np.zeros(len(means)), np.full(len(means), np.nan)
    for number in np.unique(bins):
        inside = bins == number
        known = dispersions[inside & ~np.isnan(dispersions)]
        if flavor == "seurat" and len(known) < 2:
            spread[inside] = known[0] if len(known) else np.nan
        elif flavor == "seurat":
            center[inside], spread[inside] = known.mean(), known.std(ddof=1)
        else:
            center[inside] = np.median(known)
            spread[inside] = np.median(np.abs(known - np.median(known))) / MAD_OF_NORMAL
    with np.errstate(divide="ignore", invalid="ignore"):
        return DispersionTable(means, dispersions, (dispersions - center) / spread)


def top_by_variance(
    normalized: Float, n_top_genes: int
) -> tuple[NDArray[np.bool_], Float, NDArray[np.int64]]:
    """Choose genes by their median rank over the batches.

    Parameters
    ----------
    normalized : (n_batches, n_genes), normalized variances
    n_top_genes : how many

    Returns
    -------
    chosen (n_genes,); median of the ranks below ``n_top_genes`` over batches (NaN without one);
    number of batches with such a rank. Ties of the median go to more batches, then to the first.
    """
    order = np.argsort(-normalized, axis=1, kind="stable")
    ranks = np.empty(normalized.shape)
    np.put_along_axis(ranks, order, np.arange(normalized.shape[1], dtype=float)[None], axis=1)
    n_batches = (ranks < n_top_genes).sum(axis=0)
    median = np.full(normalized.shape[1], np.nan)
    for gene in np.flatnonzero(n_batches):
        median[gene] = np.median(ranks[ranks[:, gene] < n_top_genes, gene])
    best = np.lexsort([-n_batches, np.where(np.isnan(median), np.inf, median)])
    chosen = np.zeros(len(median), dtype=bool)
    chosen[best[:n_top_genes]] = True
    return chosen, median, n_batches


def top_by_dispersion(dispersions_norm: Float, n_top_genes: int) -> NDArray[np.bool_]:
    """Choose the genes (n_genes,) with at least the n-th largest normalized dispersion."""
    known = np.sort(dispersions_norm[~np.isnan(dispersions_norm)])[::-1]
    if not len(known):
        return np.zeros(len(dispersions_norm), dtype=bool)
    cut = known[min(n_top_genes, len(known)) - 1]
    return np.nan_to_num(dispersions_norm, nan=-np.inf) >= cut
