"""Log means of the control and of every perturbation for a block of genes.

Reference: ``reference.nb_coefficients``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from crispyx._kernels import nb_coefficients as kernel
from crispyx._stats.nb_likelihood import Counts
from crispyx.settings import Engine

if TYPE_CHECKING:
    from reference.nb_coefficients import Arm

Start = Literal["zero", "poisson", "least_squares"]
STARTS: tuple[Start, ...] = ("zero", "poisson", "least_squares")
SMALLEST_DISPERSION = 1e-12  # below it counts are Poisson to all digits
TO_RESCUE = 2


@dataclass(frozen=True)
class Fitting:
    """How coefficients are fitted.

    Attributes
    ----------
    clamped : bool
        PyDESeq2's iteration at means of ``min_mu`` and more, instead of the highest likelihood.
    start : {"zero", "poisson", "least_squares"}
        First log means; the highest likelihood begins at zero or at the Poisson solution.
    min_mu : float
        Smallest fitted mean of the clamped iteration.
    max_iterations, tolerance
        When to stop.
    rescue : bool
        Minimize by L-BFGS-B where the clamped iteration fails.
    penalized : bool
        Firth's penalty in every arm, instead of in silent ones only.
    """

    clamped: bool
    start: Start
    min_mu: float
    max_iterations: int
    tolerance: float
    rescue: bool
    penalized: bool = False


@dataclass(frozen=True)
class Coefficients:
    """Fits of a block; arrays are (n_groups - 1, n_genes), NaN where nothing was fitted.

    Attributes
    ----------
    intercept, log_fold_change : numpy.ndarray float64
        Natural log.
    control_information, perturbed_information : numpy.ndarray float64
        Expected information of each arm at the fitted means, none held.
    control_fill, perturbed_fill : numpy.ndarray float64
        Squared scores of the cells of each arm, summed; only where asked for.
    silent_z : numpy.ndarray float64
        Signed root of the likelihood ratio where one arm has no count; NaN elsewhere, and where
        every arm is penalized.
    iterations : numpy.ndarray int64
        Steps.
    converged : numpy.ndarray bool
        Whether the stop rule was met.
    """

    intercept: np.ndarray
    log_fold_change: np.ndarray
    control_information: np.ndarray
    perturbed_information: np.ndarray
    control_fill: np.ndarray
    perturbed_fill: np.ndarray
    silent_z: np.ndarray
    iterations: np.ndarray
    converged: np.ndarray


def fit_coefficients(
    counts: Counts,
    alpha: np.ndarray,
    fitting: Fitting,
    engine: Engine,
    n_threads: int = 1,
    with_fills: bool = False,
) -> Coefficients:
    """Fit every perturbation of a block against group 0.

    Parameters
    ----------
    counts : Counts
        The block.
    alpha : numpy.ndarray (n_groups - 1, n_genes) float64
        Dispersions; NaN leaves a pair out. So does a pair without any count.
    fitting : Fitting
        Method.
    engine : {"compiled", "reference"}
        Which definition runs.
    n_threads : int
        Threads of the kernel.
    with_fills : bool
        Also fill the sums that robust standard errors need, NaN otherwise.
    """
    alpha = np.maximum(alpha, SMALLEST_DISPERSION)
    out = np.full((7, *alpha.shape), np.nan)
    iterations = np.zeros(alpha.shape, dtype=np.int64)
    converged = np.zeros(alpha.shape, dtype=np.uint8)
    if engine == "reference":
        for k, g in np.ndindex(*alpha.shape):
            fit = _reference_pair(counts, g, k + 1, float(alpha[k, g]), fitting, with_fills)
            if fit is not None:
                out[:, k, g], iterations[k, g], converged[k, g] = fit
        return _coefficients(out, iterations, converged)
    n_nodes = counts.table.rows.shape[1]
    shared = (counts.values, counts.ranks, counts.run_ptr, *counts.table.arrays, alpha)
    stop = (fitting.max_iterations, fitting.tolerance, with_fills)
    if not fitting.clamped:
        scratch = np.empty((n_threads, 4 * n_nodes))
        kernel.best_coefficients(
            *shared,
            fitting.start != "zero",
            fitting.penalized,
            *stop,
            scratch,
            out,
            iterations,
            converged,
            n_threads,
        )
        return _coefficients(out, iterations, converged)
    kernel.clamped_coefficients(
        *shared,
        STARTS.index(fitting.start),
        fitting.min_mu,
        *stop,
        np.empty((n_threads, 5 * n_nodes + 3 * counts.n_tail)),
        out,
        iterations,
        converged,
        n_threads,
    )
    failed = converged == TO_RESCUE
    if fitting.rescue:
        failed |= (iterations == fitting.max_iterations) & np.isfinite(out[0])
        for k, g in np.argwhere(failed).tolist():
            fit = _reference_pair(counts, g, k + 1, float(alpha[k, g]), fitting, with_fills)
            if fit is not None:
                out[:, k, g], iterations[k, g], converged[k, g] = fit
    else:
        converged[failed] = False
    return _coefficients(out, iterations, converged)


def _coefficients(out: np.ndarray, iterations: np.ndarray, converged: np.ndarray) -> Coefficients:
    return Coefficients(
        intercept=out[0],
        log_fold_change=out[1],
        control_information=out[2],
        perturbed_information=out[3],
        control_fill=out[4],
        perturbed_fill=out[5],
        silent_z=out[6],
        iterations=iterations,
        converged=converged.astype(bool),
    )


def _reference_pair(
    counts: Counts, gene: int, group: int, alpha: float, fitting: Fitting, with_fills: bool
) -> tuple[list[float], int, bool] | None:
    import math

    from reference import nb_coefficients as reference
    from reference.nb_likelihood import working_weights
    from reference.wald import silent_arm_test

    control, perturbed = (
        reference.Arm(counts.dense(gene, k), counts.table.of_group(k)) for k in (0, group)
    )
    silent = not (control.counts.any() and perturbed.counts.any())
    nothing = not (control.counts.any() or perturbed.counts.any())
    if math.isnan(alpha) or nothing or perturbed.counts.size == 0:
        return None
    z = math.nan
    if fitting.clamped:
        fit = reference.iterate_clamped(
            control,
            perturbed,
            alpha,
            (_start(control, fitting.start), _start(perturbed, fitting.start)),
            min_mu=fitting.min_mu,
            max_iterations=fitting.max_iterations,
            tolerance=fitting.tolerance,
            rescue=fitting.rescue,
        )
    else:
        fits = [_best(arm, alpha, fitting) for arm in (control, perturbed)]
        fit = reference.Coefficients(
            fits[0].eta,
            fits[1].eta - fits[0].eta,
            max(one.iterations for one in fits),
            all(one.converged for one in fits),
        )
        if silent and not fitting.penalized:
            loud = fits[0] if control.counts.any() else fits[1]
            z = silent_arm_test(control, perturbed, loud.eta, alpha)
    weights, fills = [], []
    for arm, eta in ((control, fit.intercept), (perturbed, fit.intercept + fit.log_fold_change)):
        mu = arm.size_factors * math.exp(eta)
        weights.append(float(working_weights(mu, alpha).sum()))
        fill = float(np.sum(((arm.counts - mu) / (1 + alpha * mu)) ** 2))
        fills.append(fill if with_fills else math.nan)
    table = [fit.intercept, fit.log_fold_change, *weights, *fills, z]
    return table, fit.iterations, fit.converged


def _best(arm: Arm, alpha: float, fitting: Fitting):  # type: ignore[no-untyped-def]
    from reference import nb_coefficients as reference

    stop = (fitting.max_iterations, fitting.tolerance)
    if fitting.penalized or not arm.counts.any():
        return reference.penalized_log_mean(arm, alpha, *stop)
    return reference.best_log_mean(arm, alpha, _start(arm, fitting.start), *stop)


def _start(arm: Arm, start: Start) -> float:
    from reference import nb_coefficients as reference

    if start == "zero":
        return 0.0
    if start == "poisson":
        return reference.poisson_log_mean(arm)
    return reference.ordinary_least_squares(arm)
