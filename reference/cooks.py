r"""Cook's distance: which single counts carry a fold change, and what replaces them.

.. math::

    D_i = \frac{(y_i - \mu_i)^2}{2 (\mu_i + \alpha_r \mu_i^2)} \frac{h_i}{(1 - h_i)^2},
    \qquad h_i = w_i\, x_i^T (X^T W X + \lambda I)^{-1} x_i

with the weights of the clamped means in h, the unclamped means elsewhere, and :math:`\alpha_r` a
dispersion that a few outliers cannot raise.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtri

from reference.nb_coefficients import RIDGE, Arm, clamped_means
from reference.nb_likelihood import working_weights

Vector = NDArray[np.float64]

SMALLEST_ROBUST_DISPERSION = 0.04
REPLACEABLE_CELLS = 7
JUDGED_CELLS = 3
TRIM_OF_REPLACEMENT = 0.2
LARGEST_LEVERAGE = 0.99


def trimmed_mean(values: Vector, trim: float) -> float:
    """Return the mean without the ``floor(n trim)`` smallest and largest values (n,)."""
    n_cut = math.floor(values.size * trim)
    return float(np.sort(values)[n_cut : values.size - n_cut].mean())


def robust_dispersion(control: Arm, perturbed: Arm) -> float:
    r"""Return a moment dispersion from trimmed variances.

    .. math::

        \alpha_r = \max\Big(\frac{v - \bar q}{\bar q^2}, 0.04\Big), \qquad
        v = \max_k c_k \operatorname{tm}\big((q - \operatorname{tm} q)^2\big)

    over the arms of three cells or more; tm leaves out a share of 1/8, 1/4 or 1/3 at each end and
    :math:`c_k` is 1.51, 1.86 or 2.04, for 24 cells or more, 4 to 23, and 3. With no such arm, v is
    the trimmed variance of all cells.

    Parameters
    ----------
    control, perturbed : the two arms, at least one count above 0

    Notes
    -----
    Source: Love, Huber and Anders, Genome Biology 15 (2014) 550, section "Cook's distance".
    """
    normalized = [arm.counts / arm.size_factors for arm in (control, perturbed)]
    judged = [q for q in normalized if q.size >= JUDGED_CELLS]
    pool = np.concatenate(normalized)
    if judged:
        variance = max(_trimmed_variance(q) for q in judged)
    else:
        center = trimmed_mean(pool, 1 / 8)
        variance = 1.51 * trimmed_mean((pool - center) ** 2, 1 / 8)
    mean = float(pool.mean())
    return max((variance - mean) / mean**2, SMALLEST_ROBUST_DISPERSION)


def cooks_distances(
    control: Arm,
    perturbed: Arm,
    intercept: float,
    log_fold_change: float,
    alpha: float,
    min_mu: float = 0.5,
) -> tuple[Vector, Vector]:
    """Return Cook's distances of the control cells (n0,) and of the perturbed cells (n1,).

    Parameters
    ----------
    control, perturbed : the two arms
    intercept, log_fold_change : natural log
    alpha : dispersion of the fit, which is in the leverages
    min_mu : smallest mean in the weights
    """
    etas = (intercept, intercept + log_fold_change)
    weights = [
        working_weights(clamped_means(arm, eta, min_mu), alpha)
        for arm, eta in zip((control, perturbed), etas, strict=True)
    ]
    w0, w1 = (float(w.sum()) for w in weights)
    det = w0 * w1 + RIDGE * (w0 + 2 * w1 + RIDGE)
    # x^T H x of a control cell and of a perturbed cell.
    shapes = ((w1 + RIDGE) / det, (w0 + 2 * RIDGE) / det)
    robust = robust_dispersion(control, perturbed)
    distances = []
    for arm, eta, w, shape in zip((control, perturbed), etas, weights, shapes, strict=True):
        mu = arm.size_factors * math.exp(eta)
        leverage = w * shape
        squares = (arm.counts - mu) ** 2 / (mu + robust * mu**2)
        distances.append(squares / 2 * leverage / (1 - leverage) ** 2)
    return distances[0], distances[1]


def cutoff(n_cells: int, n_coefficients: int = 2, quantile: float = 0.99) -> float:
    """Return a point of F(p, n - p), above which a distance marks an outlier."""
    return float(fdtri(n_coefficients, n_cells - n_coefficients, quantile))


def distances_from_means(counts: Vector, mu: Vector, alpha: float, n_coefficients: int) -> Vector:
    r"""Return Cook's distances (n_cells,) where the means are known but not the design.

    .. math::

        D_i = \frac{(y_i - \mu_i)^2}{p\,(\mu_i + \alpha \mu_i^2)} \frac{h_i}{(1 - h_i)^2},
        \qquad h_i = \min\Big(\frac{p\, w_i}{\sum w}, 0.99\Big)

    Leverages add up to p whatever the design; they are shared out by the weights w, which is exact
    for one column and for arms of equal weight.

    Parameters
    ----------
    counts, mu : (n_cells,)
    alpha : dispersion
    n_coefficients : p
    """
    w = working_weights(mu, alpha)
    leverage = np.minimum(n_coefficients * w / w.sum(), LARGEST_LEVERAGE)
    squares = (counts - mu) ** 2 / (mu + alpha * mu**2)
    return squares / n_coefficients * leverage / (1 - leverage) ** 2


def without_outliers(
    control: Arm, perturbed: Arm, distances: tuple[Vector, Vector]
) -> tuple[Arm, Arm, bool]:
    """Return the arms with outlying counts replaced, and whether any was beyond the cutoff.

    A count beyond the cutoff in an arm of seven cells or more becomes the integer part of its size
    factor times the 20 % trimmed mean of y / s over all cells.
    """
    arms = (control, perturbed)
    limit = cutoff(control.counts.size + perturbed.counts.size)
    normalized = np.concatenate([arm.counts / arm.size_factors for arm in arms])
    typical = trimmed_mean(normalized, TRIM_OF_REPLACEMENT)
    replaced, any_beyond = [], False
    for arm, distance in zip(arms, distances, strict=True):
        beyond = distance > limit
        any_beyond |= bool(beyond.any())
        if arm.counts.size < REPLACEABLE_CELLS:
            beyond = np.zeros_like(beyond)
        counts = np.where(beyond, np.floor(typical * arm.size_factors), arm.counts)
        replaced.append(Arm(counts, arm.size_factors))
    return replaced[0], replaced[1], any_beyond


def is_outlier(
    control: Arm, perturbed: Arm, distances: tuple[Vector, Vector], refitted: bool
) -> bool:
    """Return whether a gene's p-value rests on one count and is therefore withheld.

    That is so when a cell of an arm of three cells or more is beyond the cutoff, fewer than three
    cells have a larger count than the cell of largest distance, and the arm was not refitted.

    Parameters
    ----------
    control, perturbed : the two arms, counts as observed
    distances : of the counts as observed
    refitted : outlying counts have been replaced and the gene fitted again
    """
    arms = (control, perturbed)
    limit = cutoff(control.counts.size + perturbed.counts.size)
    beyond = False
    for arm, distance in zip(arms, distances, strict=True):
        settled = refitted and arm.counts.size >= REPLACEABLE_CELLS
        if arm.counts.size >= JUDGED_CELLS and not settled:
            beyond |= bool((distance > limit).any())
    if not beyond:
        return False
    counts = np.concatenate([arm.counts for arm in arms])
    return int(np.sum(counts > counts[np.argmax(np.concatenate(distances))])) < 3


def _trimmed_variance(q: Vector) -> float:
    if q.size >= 24:
        trim, scale = 1 / 8, 1.51
    elif q.size >= 4:
        trim, scale = 1 / 4, 1.86
    else:
        trim, scale = 1 / 3, 2.04
    return scale * trimmed_mean((q - trimmed_mean(q, trim)) ** 2, trim)
