"""Standard errors, statistics and p-values of the log fold changes of a block.

Reference: ``reference.wald``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import erfc

from crispyx._stats.nb_coefficients import Coefficients
from crispyx._stats.nb_likelihood import Counts
from crispyx.settings import Engine

SE_METHODS = ("sandwich", "fisher", "robust")
RIDGE = 1e-6


@dataclass(frozen=True)
class WaldTests:
    """Tests of a block; arrays are (n_groups - 1, n_genes) float64."""

    standard_error: np.ndarray
    statistic: np.ndarray
    pvalue: np.ndarray


def wald_tests(
    counts: Counts, alpha: np.ndarray, fits: Coefficients, se_method: str, engine: Engine
) -> WaldTests:
    """Test every fold change; a silent arm by its likelihood ratio.

    Parameters
    ----------
    counts : Counts
        Read by the reference engine.
    alpha : numpy.ndarray (n_groups - 1, n_genes) float64
        Dispersions.
    fits : Coefficients
        The fits, with the sums the compiled engine needs.
    se_method : {"sandwich", "fisher", "robust"}
        See ``reference.wald``.
    engine : {"compiled", "reference"}
        Which definition runs.
    """
    silent = np.isfinite(fits.silent_z)
    if engine == "reference":
        error, statistic = _reference(counts, alpha, fits, se_method)
    else:
        w0, w1 = fits.control_information, fits.perturbed_information
        det = w0 * w1 + RIDGE * (w0 + 2 * w1 + RIDGE)
        if se_method == "fisher":
            variance = (w0 + w1 + RIDGE) / det
        else:
            robust = se_method == "robust"
            fill0, fill1 = (fits.control_fill, fits.perturbed_fill) if robust else (w0, w1)
            variance = ((w1 / det) ** 2) * fill0 + (((w0 + RIDGE) / det) ** 2) * fill1
        error = np.sqrt(variance)
        with np.errstate(divide="ignore", invalid="ignore"):
            statistic = np.where(error > 0, fits.log_fold_change / error, np.nan)
    statistic = np.where(silent, fits.silent_z, statistic)
    return WaldTests(error, statistic, erfc(np.abs(statistic) / math.sqrt(2)))


def _reference(
    counts: Counts, alpha: np.ndarray, fits: Coefficients, se_method: str
) -> tuple[np.ndarray, np.ndarray]:
    from reference.nb_coefficients import Arm
    from reference.wald import wald_test

    error, statistic = np.full((2, *alpha.shape), np.nan)
    for k, g in np.argwhere(np.isfinite(fits.log_fold_change)).tolist():
        control, perturbed = (
            Arm(counts.dense(g, group), counts.table.of_group(group)) for group in (0, k + 1)
        )
        test = wald_test(
            control,
            perturbed,
            float(fits.intercept[k, g]),
            float(fits.log_fold_change[k, g]),
            float(alpha[k, g]),
            se_method,
        )
        error[k, g], statistic[k, g] = test.standard_error, test.statistic
    return error, statistic
