"""Trend of dispersions over the mean, and dispersions shrunk toward it."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from crispyx._run.workers import in_parallel
from crispyx._stats.dispersion import SMALLEST, grid_mode, prior_weight
from crispyx._stats.dispersion_trend import fit_trend, local_trend, median_trend
from crispyx.errors import InputError

TrendType = Literal["parametric", "local", "mean"]
SMALLEST_VARIANCE = 0.25  # of log dispersions about the trend


def fit_dispersion_trend(
    means: ArrayLike,
    dispersions: ArrayLike,
    *,
    min_mean: float = 0.5,
    fit_type: TrendType = "parametric",
    n_iter: int = 10,
) -> np.ndarray:
    r"""Return the dispersion expected at the mean of every gene.

    Parameters
    ----------
    means : array (n_genes,)
        Mean normalized counts.
    dispersions : array (n_genes,)
        Genewise dispersions.
    min_mean : float
        Genes below take no part in the fit; they get a trend all the same.
    fit_type : {"parametric", "local", "mean"}
        :math:`a_0 + a_1 / \mathrm{mean}` by gamma likelihood; local lines of logs; the median.
    n_iter : int
        Most rounds of the parametric fit, each without the outliers of the last. Where the curve
        does not settle in them, one trimmed mean serves all genes.

    Returns
    -------
    numpy.ndarray (n_genes,) float64
        NaN for genes of mean 0.

    Notes
    -----
    Reference: ``reference.dispersion_trend``.

    Examples
    --------
    >>> import numpy as np
    >>> from crispyx.glm import fit_dispersion_trend
    >>> means = np.geomspace(0.6, 50, 40)
    >>> trend = fit_dispersion_trend(means, 0.1 + 0.8 / means)
    >>> bool(np.allclose(trend, 0.1 + 0.8 / means))
    True
    """
    mean, alpha = _pair("means", means, "dispersions", dispersions)
    used = np.where(mean >= min_mean, alpha, np.nan)
    present = mean > 0
    trend = np.full(mean.shape, np.nan)
    if fit_type == "parametric":
        with np.errstate(divide="ignore", invalid="ignore"):
            trend[present] = fit_trend(used, mean, max_rounds=n_iter).at(mean[present])
    elif fit_type == "local":
        trend[present] = local_trend(used, mean, mean[present])
    elif fit_type == "mean":
        trend[present] = median_trend(used)
    else:
        raise InputError(f"fit_type is {fit_type!r}; choose 'parametric', 'local' or 'mean'")
    return trend


def shrink_dispersions(
    raw: ArrayLike,
    trend: ArrayLike,
    *,
    prior_df: float | None = None,
    min_prior_df: float = 1.0,
    max_prior_df: float = 100.0,
    outlier_sigma: float = 2.0,
    n_iter: int = 5,
) -> np.ndarray:
    r"""Return weighted geometric means of genewise dispersions and their trend.

    .. math::

        \log \alpha = \frac{d \log \alpha_{\mathrm{trend}} + \log \alpha_{\mathrm{raw}}}{d + 1}

    Parameters
    ----------
    raw, trend : array (n_genes,)
        Genewise dispersions and their trend.
    prior_df : float or None
        d; None takes one over the variance of the log residuals, trimmed in rounds.
    min_prior_df, max_prior_df : float
        Bounds of the estimated d.
    outlier_sigma : float
        Genes whose log dispersion lies more than so many standard deviations above the trend keep
        their own; so far the rounds trim, too. Infinity switches both off.
    n_iter : int
        Rounds.

    Returns
    -------
    numpy.ndarray (n_genes,) float64

    Notes
    -----
    Reference: ``reference.dispersion.prior_weight``.

    Examples
    --------
    >>> from crispyx.glm import shrink_dispersions
    >>> shrink_dispersions([1.0, 4.0], [2.0, 2.0], prior_df=1).round(3).tolist()
    [1.414, 2.828]
    """
    own, expected = _pair("raw", raw, "trend", trend)
    weight = prior_weight(own, expected, outlier_sigma, n_iter)
    d = prior_df if prior_df is not None else min(max(weight, min_prior_df), max_prior_df)
    with np.errstate(divide="ignore", invalid="ignore"):
        residuals = np.log(own) - np.log(expected)
        shrunk = np.exp((d * np.log(expected) + np.log(own)) / (d + 1))
    spread = 1 / math.sqrt(weight) if weight > 0 else math.inf
    # Where nothing is scattered, nothing is an outlier either.
    outlier = residuals > (outlier_sigma * spread if spread > 0 else math.inf)
    return np.where(outlier, own, shrunk)


def estimate_dispersion_map(
    Y: np.ndarray,
    mu: np.ndarray,
    trend: np.ndarray,
    *,
    prior_var: float | None = None,
    min_disp: float = 1e-8,
    max_disp: float = 10.0,
    n_grid: int = 25,
    refine: bool = True,
    n_jobs: int = -1,
) -> np.ndarray:
    r"""Return the dispersions of highest posterior density at given means.

    The prior of :math:`\log \alpha` is normal about the log of the trend. There is no Cox-Reid
    term.

    Parameters
    ----------
    Y, mu : array (n_cells, n_genes)
        Counts and fitted means.
    trend : array (n_genes,)
        Dispersions expected.
    prior_var : float or None
        Variance of the prior; None takes that of the log residuals of moment dispersions, trimmed,
        and no less than 1/4.
    min_disp, max_disp : float
        Bounds.
    n_grid : int
        Points, evenly spaced in the log, at which the density is taken first.
    refine : bool
        Go on to the maximum about the best point; False returns the point.
    n_jobs : int
        Threads; -1 takes all cores. Never a number.

    Returns
    -------
    numpy.ndarray (n_genes,) float64
        NaN where the trend or a mean is not known.

    Notes
    -----
    Reference: ``reference.dispersion.grid_mode``.

    Examples
    --------
    >>> import numpy as np
    >>> from crispyx.glm import estimate_dispersion_map
    >>> rng = np.random.default_rng(0)
    >>> mu = np.full((400, 3), 5.0)
    >>> counts = rng.poisson(mu * rng.gamma(2, 0.5, mu.shape))
    >>> found = estimate_dispersion_map(counts, mu, np.full(3, 0.5), prior_var=1.0)
    >>> bool((abs(np.log(found / 0.5)) < 0.5).all())
    True
    """
    counts, fitted = np.asarray(Y, dtype=np.float64), np.asarray(mu, dtype=np.float64)
    expected = np.asarray(trend, dtype=np.float64)
    if counts.shape != fitted.shape or expected.shape != counts.shape[1:]:
        raise InputError(
            f"Y, mu and trend have shapes {counts.shape}, {fitted.shape} and {expected.shape}; "
            "give cells x genes twice, and one trend per gene"
        )
    if n_grid < 2:
        raise InputError(f"n_grid is {n_grid}; give 2 points or more")
    if not 0 < min_disp < max_disp:
        raise InputError(f"min_disp {min_disp} and max_disp {max_disp} must be 0 < min < max")
    if prior_var is None:
        excess = np.sum((counts - fitted) ** 2 - fitted, axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            rough = np.clip(excess / np.sum(fitted**2, axis=0), SMALLEST, max_disp)
        weight = prior_weight(rough[rough > SMALLEST], expected[rough > SMALLEST])
        prior_var = max(1 / weight if weight > 0 else math.inf, SMALLEST_VARIANCE)
    found = np.full(len(expected), np.nan)

    def fit(gene: int) -> None:
        y, m = counts[:, gene], fitted[:, gene]
        if expected[gene] > 0 and np.isfinite(m).all() and (m > 0).all():
            found[gene] = grid_mode(
                y, m, expected[gene], prior_var, min_disp, max_disp, n_grid, refine
            )

    in_parallel(fit, range(len(expected)), n_jobs)
    return found


def _pair(
    name: str, values: ArrayLike, other: str, others: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    one, two = np.asarray(values, dtype=np.float64), np.asarray(others, dtype=np.float64)
    if one.ndim != 1 or one.shape != two.shape:
        raise InputError(f"{name} and {other} have shapes {one.shape} and {two.shape}; give equal")
    return one, two
