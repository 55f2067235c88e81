"""Correction of one row of p-values for the number of tests made in it.

A row is one perturbation over all genes. A NaN is a test that was not made: it stays NaN and does
not count.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def benjamini_hochberg(pvalues: ArrayLike) -> NDArray[np.float64]:
    r"""Adjust p-values so that a cut at ``q`` bounds the false discovery rate by ``q``.

    .. math::

        \tilde p_{(i)} = \min\Bigl(1, \; \min_{k \ge i} \frac{m \, p_{(k)}}{k}\Bigr)

    over the ``m`` finite p-values in increasing order.

    Parameters
    ----------
    pvalues : (n_tests,), in [0, 1] or NaN

    Returns
    -------
    (n_tests,) float64, NaN where the input is NaN.

    Raises
    ------
    ValueError
        If a p-value lies outside [0, 1].

    Notes
    -----
    Source: Y. Benjamini and Y. Hochberg, J. R. Statist. Soc. B 57 (1995) 289-300, equation 1.
    """
    # Half a second to import: paid by the first correction, not by every program.
    from scipy.stats import false_discovery_control

    adjusted, tested = _made(pvalues)
    if tested.any():
        adjusted[tested] = false_discovery_control(adjusted[tested], method="bh")
    return adjusted


def bonferroni(pvalues: ArrayLike) -> NDArray[np.float64]:
    r"""Adjust p-values so that a cut at ``a`` bounds the chance of any false discovery by ``a``.

    .. math::  \tilde p_i = \min(1, \; m \, p_i)

    over the ``m`` finite p-values.

    Parameters
    ----------
    pvalues : (n_tests,), in [0, 1] or NaN

    Returns
    -------
    (n_tests,) float64, NaN where the input is NaN.

    Raises
    ------
    ValueError
        If a p-value lies outside [0, 1].
    """
    adjusted, tested = _made(pvalues)
    adjusted[tested] = np.minimum(1.0, np.count_nonzero(tested) * adjusted[tested])
    return adjusted


def log_benjamini_hochberg(log_pvalues: ArrayLike) -> NDArray[np.float64]:
    r"""Return the logarithms of what :func:`benjamini_hochberg` makes of p-values, from theirs.

    .. math::

        \log \tilde p_{(i)} = \min\Bigl(0, \; \min_{k \ge i}
            \bigl(\log p_{(k)} + \log m - \log k\bigr)\Bigr)

    It goes on where p is too small for a number.

    Parameters
    ----------
    log_pvalues : (n_tests,), natural logs, at most 0 (minus infinity for p = 0), or NaN

    Returns
    -------
    (n_tests,) float64, NaN where the input is NaN.

    Raises
    ------
    ValueError
        If a logarithm is above 0.
    """
    adjusted, tested = _made_logs(log_pvalues)
    logs = adjusted[tested]
    m = len(logs)
    order = np.argsort(logs, kind="stable")[::-1]
    steps = logs[order] + np.log(m) - np.log(np.arange(m, 0, -1)) if m else logs
    found = np.empty(m)
    found[order] = np.minimum(np.minimum.accumulate(steps), 0)
    adjusted[tested] = found
    return adjusted


def log_bonferroni(log_pvalues: ArrayLike) -> NDArray[np.float64]:
    r"""Return :math:`\min(0, \log p_i + \log m)`, see :func:`log_benjamini_hochberg`."""
    adjusted, tested = _made_logs(log_pvalues)
    if tested.any():
        adjusted[tested] = np.minimum(adjusted[tested] + np.log(np.count_nonzero(tested)), 0)
    return adjusted


def _made(pvalues: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    p = np.array(pvalues, dtype=np.float64)
    outside = np.flatnonzero((p < 0) | (p > 1))
    if outside.size:
        test = int(outside[0])
        raise ValueError(f"p-value {test} is {p[test]}; p-values must lie in [0, 1] or be NaN.")
    return p, np.isfinite(p)


def _made_logs(log_pvalues: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    logs = np.array(log_pvalues, dtype=np.float64)
    outside = np.flatnonzero(logs > 0)
    if outside.size:
        test = int(outside[0])
        raise ValueError(f"log p-value {test} is {logs[test]}; it must be at most 0 or NaN.")
    return logs, ~np.isnan(logs)
