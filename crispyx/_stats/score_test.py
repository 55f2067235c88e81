"""Score tests of every perturbation for a block of genes, within batches or without.

Reference: ``reference.score_test``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crispyx._kernels import score_test as kernel
from crispyx._stats.nb_coefficients import SMALLEST_DISPERSION
from crispyx._stats.nb_likelihood import Counts
from crispyx.settings import Engine

if TYPE_CHECKING:
    from reference.score_test import Batch


@dataclass(frozen=True)
class ScoreTests:
    """Tests of a block; arrays are (n_groups - 1, n_genes) float64, NaN where nothing was tested.

    Attributes
    ----------
    score, variance : numpy.ndarray
        Of the efficient score.
    overdispersion : numpy.ndarray
        By how much the squared residuals exceed their expectation, at least 1.
    root : numpy.ndarray
        Normal deviate with ``p = erfc(|root| / sqrt(2))``, of the sign of the score.
    """

    score: np.ndarray
    variance: np.ndarray
    overdispersion: np.ndarray
    root: np.ndarray


def score_tests(
    counts: Counts, alpha: np.ndarray, n_batches: int, engine: Engine, n_threads: int = 1
) -> ScoreTests:
    """Test every perturbation of a block against the control, batch by batch.

    Parameters
    ----------
    counts : Counts
        The block; arm ``b * n_groups + k`` of its table holds the cells of group k in batch b, the
        control being group 0.
    alpha : numpy.ndarray (n_groups - 1, n_genes) float64
        Dispersions; NaN leaves a pair out.
    n_batches : int
        1 without batches.
    engine : {"compiled", "reference"}
        Which definition runs.
    n_threads : int
        Threads of the kernel.
    """
    alpha = np.maximum(alpha, SMALLEST_DISPERSION)
    out = np.full((4, *alpha.shape), np.nan)
    if engine == "reference":
        import reference.score_test

        for k, g in np.argwhere(np.isfinite(alpha)).tolist():
            pairs = batch_arms(counts, g, k + 1, n_batches)
            out[:, k, g] = reference.score_test.score_test(pairs, float(alpha[k, g]))
        return ScoreTests(*out)
    width = 4 * counts.table.rows.shape[1] + kernel.BATCH_NUMBERS
    kernel.score_tests(
        counts.values,
        counts.ranks,
        counts.run_ptr,
        *counts.table.arrays,
        n_batches,
        alpha,
        np.empty((n_threads, n_batches * width)),
        out,
        n_threads,
    )
    return ScoreTests(*out)


def batch_arms(counts: Counts, gene: int, group: int, n_batches: int) -> list[Batch]:
    """Return control and perturbed cells of every batch, in the order of their size factors."""
    from reference.nb_coefficients import Arm

    n_groups = counts.table.n_groups // n_batches
    return [
        (
            Arm(counts.dense(gene, at), counts.table.of_group(at)),
            Arm(counts.dense(gene, at + group), counts.table.of_group(at + group)),
        )
        for at in range(0, n_batches * n_groups, n_groups)
    ]
