"""How many cells with each count a fitted guide mixture expects, component by component."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from crispyx.guides.models import HISTOGRAM_MODELS

# The tail beyond the whole numbers that are summed one by one: up to 2**60 in log2 units.
SUMMED, TAIL = 4096, np.linspace(np.log2(4096.5), 60.0, 2000)


def expected_cells(
    model: str,
    parameters: Mapping[str, float],
    counts: np.ndarray,
    depth: np.ndarray,
    n_nonzero: int,
    *,
    raw: bool = False,
) -> np.ndarray:
    r"""Return the expected number of cells with each count, background and signal apart.

    Depth models are summed over the guide UMIs of all cells:

    .. math::

        E_k(y) = w_k \sum_i P_k(y \mid s_i)

    A Normal of log10(y + 1) is given the whole numbers by its mass between y - 1/2 and y + 1/2. The
    densities of ``poisson_gauss`` are no probabilities of whole numbers: times the width of each
    number on the log2 scale, each is scaled to its share of the cells with a count.

    Parameters
    ----------
    model : str
        ``poisson_gauss``, ``gauss``, ``poisson``, ``neg_binomial`` or ``binomial``.
    parameters : mapping of str to float
        Row of :attr:`crispyx.guides.ScoreResult.fits`.
    counts : numpy.ndarray (n_counts,)
        Whole numbers above 0, UMIs.
    depth : numpy.ndarray (n_cells,)
        Guide UMIs of each cell.
    n_nonzero : int
        Cells with a count of the guide above 0.
    raw : bool
        ``poisson_gauss`` of the counts themselves, zeros included, as kaichi fits it.

    Returns
    -------
    numpy.ndarray (2, n_counts) float64
        Cells, of the background and of the signal.
    """
    y = np.asarray(counts, dtype=np.float64)
    shares = np.array([1.0 - parameters["weight"], parameters["weight"]])[:, None]
    if model not in HISTOGRAM_MODELS:
        return shares * _over_depths(model, parameters, y, depth)
    if model == "poisson_gauss" and raw:
        return shares * len(depth) * _raw_masses(parameters, y)
    if model == "gauss":
        return shares * len(depth) * _log_normal_masses(parameters, y)
    summed = np.arange(1.0, SUMMED + 1)
    total = (_log_densities(parameters, np.log2(summed)) * width(summed)).sum(axis=1)
    tail = _log_densities(parameters, TAIL)
    total += (tail[:, 1:] + tail[:, :-1]) @ np.diff(TAIL) / 2
    densities = _log_densities(parameters, np.log2(y)) * width(y) / total[:, None]
    return n_nonzero * shares * densities


def width(counts: np.ndarray) -> np.ndarray:
    """Return the width of whole numbers on the log2 scale, from y - 1/2 to y + 1/2."""
    widths: np.ndarray = np.log2(counts + 0.5) - np.log2(counts - 0.5)
    return widths


def beta_densities(parameters: Mapping[str, float], x: np.ndarray) -> np.ndarray:
    """Return the density of each component times its weight at proportions ``x``.

    Returns
    -------
    numpy.ndarray (n_components, n) float64
        The last one is the signal.
    """
    from scipy.stats import beta

    n = sum(name.startswith("weight_") and np.isfinite(parameters[name]) for name in parameters)
    return np.array(
        [
            parameters[f"weight_{k}"] * beta.pdf(x, parameters[f"a_{k}"], parameters[f"b_{k}"])
            for k in range(1, n + 1)
        ]
    )


def _log_densities(parameters: Mapping[str, float], x: np.ndarray) -> np.ndarray:
    from scipy.special import gammaln, xlogy
    from scipy.stats import norm

    rate = parameters["rate"]
    background = np.exp(xlogy(x, rate) - rate - gammaln(x + 1.0))
    return np.array([background, norm.pdf(x, parameters["mean"], parameters["sd"])])


def _raw_masses(parameters: Mapping[str, float], y: np.ndarray) -> np.ndarray:
    from scipy.stats import norm, poisson

    signal = norm.pdf(y, parameters["mean"], parameters["sd"])
    return np.array([poisson.pmf(y, parameters["rate"]), signal])


def _log_normal_masses(parameters: Mapping[str, float], y: np.ndarray) -> np.ndarray:
    from scipy.stats import norm

    means = np.array([parameters["mean_background"], parameters["mean_signal"]])[:, None]
    low, high = (norm.sf(np.log10(y + side), means, parameters["sd"]) for side in (0.5, 1.5))
    masses: np.ndarray = low - high
    return masses


def _over_depths(
    model: str, parameters: Mapping[str, float], y: np.ndarray, depth: np.ndarray
) -> np.ndarray:
    from scipy import stats
    from scipy.special import expit

    depths, n = np.unique(depth, return_counts=True)
    cells = []
    for side in ("background", "signal"):
        if model == "binomial":
            chance = expit(parameters[f"logit_{side}"])
            masses = stats.binom.pmf(y, depths[:, None], chance)
        else:
            mean = np.exp(parameters[f"log_rate_{side}"]) * (depths[:, None] + 1.0)
            masses = stats.poisson.pmf(y, mean)
            if model == "neg_binomial":
                theta = parameters["dispersion"]
                masses = stats.nbinom.pmf(y, theta, theta / (theta + mean))
        cells.append(n @ masses)
    return np.array(cells)
