"""The test of a fold change: Wald, likelihood ratio, score or permutation, within batches or not.

Every test ends in a normal deviate of the same two-sided p-value, which keeps p-values that are too
small for a floating point number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.special import erfc, ndtri

from crispyx._stats.covariates import AdjustedFits
from crispyx._stats.likelihood_ratio import likelihood_ratio_roots
from crispyx._stats.nb_coefficients import Coefficients
from crispyx._stats.nb_likelihood import Counts
from crispyx._stats.permutation_test import permutation_pvalues
from crispyx._stats.score_test import score_tests
from crispyx.settings import Engine

Test = Literal["wald", "lrt", "score", "permutation"]
TESTS: tuple[Test, ...] = get_args(Test)
WITHIN_BATCHES: tuple[Test, ...] = ("score", "permutation")


@dataclass(frozen=True)
class Strata:
    """A block grouped by perturbation and batch.

    Attributes
    ----------
    counts : Counts
        Arm ``b * n_groups + k`` holds the cells of group k in batch b.
    n_batches : int
        Number of batches; 1 without them.
    """

    counts: Counts
    n_batches: int = 1


def null_tests(
    strata: Strata,
    alpha: np.ndarray,
    fits: Coefficients | AdjustedFits,
    test: Test,
    seed: int,
    most_sets: int,
    engine: Engine,
    n_threads: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Return z and p of the tests that compare with a common mean, (n_groups - 1, n_genes) float64.

    Parameters
    ----------
    strata : Strata
        The block.
    alpha : numpy.ndarray (n_groups - 1, n_genes) float64
        Dispersions.
    fits : Coefficients or AdjustedFits
        Say what was fitted, and give z its sign where there are no batches.
    test : {"lrt", "score", "permutation"}
        The likelihood ratio knows no batches.
    seed, most_sets : int
        Of the permutation test.
    engine : {"compiled", "reference"}
        Which definition runs.
    n_threads : int
        Threads of the kernels.
    """
    fitted = np.isfinite(fits.log_fold_change)
    alpha = np.where(fitted, alpha, np.nan)
    if test == "lrt":
        z = likelihood_ratio_roots(strata.counts, alpha, engine, n_threads)
    else:
        z = score_tests(strata.counts, alpha, strata.n_batches, engine, n_threads).root
    if test == "permutation":
        pvalue = permutation_pvalues(
            strata.counts, alpha, strata.n_batches, seed, engine, n_threads, most_sets
        )
        z = np.copysign(-ndtri(pvalue / 2), z)
    else:
        pvalue = erfc(np.abs(z) / np.sqrt(2))
    if strata.n_batches == 1:
        z = np.copysign(z, fits.log_fold_change)
    return z, pvalue
