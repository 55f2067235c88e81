"""The stages of the negative binomial test on a block of genes, and the barrier between them.

Genewise dispersions of all genes come first, then one trend and prior for each fit, then everything
else, block by block. What each stage computes is written down in ``reference.nb_glm``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from crispyx._stats import covariates
from crispyx._stats.cooks import OutlyingPair, outlying_pairs
from crispyx._stats.covariates import AdjustedFits, adjusted_fits
from crispyx._stats.dispersion import (
    Prior,
    final_dispersions,
    fit_prior,
    genewise_dispersions,
    normalized_moments,
    posterior_modes,
    rough_moments,
    within_group_moments,
)
from crispyx._stats.dispersion_trend import DispersionTrend, fit_trend
from crispyx._stats.nb_coefficients import Coefficients, Fitting, Start, fit_coefficients
from crispyx._stats.nb_likelihood import Counts
from crispyx._stats.permutation_test import MOST_SETS
from crispyx._stats.wald import wald_tests
from crispyx.de.nb_tests import Strata, Test, null_tests
from crispyx.de.results import log_normal_tails
from crispyx.settings import Engine

HIGHEST_LIKELIHOOD = Fitting(False, "poisson", 0.0, 25, 1e-6, False)
TESTED, UNTESTED, FEW_EXPRESSING, ALL_ZERO, SILENT_ARM, NOT_CONVERGED, CONFOUNDED = range(7)


@dataclass(frozen=True)
class Estimators:
    """Which estimator is used at every stage; fields as the documented arguments.

    Attributes
    ----------
    dispersion : float or None
        A number fixes it for all genes.
    dispersion_method : {"cox-reid", "moments"}
        Genewise estimator.
    shares_dispersion : bool
        One fit from all groups; otherwise one for the control and each perturbation.
    shrinks, takes_mode : bool
        Whether trend and prior are fitted, and whether the posterior mode is used.
    fitting : Fitting
        Method of the coefficients.
    se_method : {"sandwich", "fisher", "robust"}
        Standard errors.
    cook_filter : bool
        Withhold p-values that rest on one count.
    literal : bool
        PyDESeq2's starts, stops and replacement of outliers.
    largest : float
        Estimated dispersions are not taken above it.
    test : {"wald", "lrt", "score", "permutation"}
        Where p-values come from.
    seed, most_sets : int
        Of the permutation test.
    """

    dispersion: float | None = None
    dispersion_method: Literal["cox-reid", "moments"] = "cox-reid"
    shares_dispersion: bool = True
    shrinks: bool = True
    takes_mode: bool = True
    fitting: Fitting = HIGHEST_LIKELIHOOD
    se_method: str = "sandwich"
    cook_filter: bool = False
    literal: bool = False
    largest: float = np.inf
    test: Test = "wald"
    seed: int = 0
    most_sets: int = MOST_SETS

    def fits(self, n_groups: int) -> list[list[int]]:
        """Return the groups of every fit of dispersions."""
        if self.shares_dispersion:
            return [list(range(n_groups))]
        return [[0, k] for k in range(1, n_groups)]


@dataclass(frozen=True)
class Adjustment:
    """Covariates of the cells of a block by stratum.

    Attributes
    ----------
    strata : crispyx._stats.covariates.Strata
        Categories.
    numbers : numpy.ndarray (n_members, n_numbers) float64
        Numbers, by rank.
    """

    strata: covariates.Strata
    numbers: np.ndarray


@dataclass(frozen=True)
class GenewiseFit:
    """Genewise dispersions and mean normalized counts (n_fits, n_genes) float64."""

    dispersion: np.ndarray
    base_mean: np.ndarray


@dataclass(frozen=True)
class Shrinkage:
    """Trend and prior of one fit, None where nothing is shrunk."""

    trend: DispersionTrend | None
    prior: Prior | None


def fitting_of(
    optimization_method: str,
    *,
    min_mu: float,
    max_iter: int,
    tol: float,
    poisson_init_iter: int,
    literal: bool,
    penalized: bool = False,
) -> Fitting:
    """Fold the documented arguments of the coefficients."""
    clamped = optimization_method == "irls"
    start: Start = "poisson" if poisson_init_iter else "zero"
    if literal:
        start = "least_squares"
    return Fitting(clamped, start, min_mu if clamped else 0.0, max_iter, tol, literal, penalized)


def genewise_fit(
    counts: Counts, chosen: Estimators, engine: Engine, n_threads: int = 1
) -> GenewiseFit:
    """Return the genewise dispersions of a block."""
    moments = normalized_moments(counts, engine, n_threads)
    fits = chosen.fits(counts.table.n_groups)
    base_mean = np.stack([moments.pooled_mean(groups) for groups in fits])
    if chosen.dispersion is not None:
        return GenewiseFit(np.full(base_mean.shape, np.nan), base_mean)
    if chosen.literal and not chosen.shares_dispersion:
        n_cells = counts.table.n_cells
        upper = np.maximum(10.0, n_cells[0] + n_cells[1:])
        start = rough_moments(counts, moments, upper, engine)
    else:
        start = within_group_moments(counts, moments, fits, engine)
    if chosen.dispersion_method == "moments":
        return GenewiseFit(np.minimum(start, chosen.largest), base_mean)
    genewise = genewise_dispersions(
        counts,
        start,
        shared=chosen.shares_dispersion,
        min_mu=chosen.fitting.min_mu,
        stop_where_flat=chosen.literal,
        engine=engine,
        n_threads=n_threads,
    )
    return GenewiseFit(np.minimum(genewise, chosen.largest), base_mean)


def fit_shrinkage(
    genewise: GenewiseFit, n_cells: np.ndarray, chosen: Estimators
) -> list[Shrinkage]:
    """Fit trend and prior over all genes: the barrier between the two passes.

    Parameters
    ----------
    genewise : GenewiseFit
        Of all genes.
    n_cells : numpy.ndarray (n_groups,) int64
        Cells of each group.
    chosen : Estimators
        Method.
    """
    found = []
    for fit, groups in enumerate(chosen.fits(len(n_cells))):
        if chosen.dispersion is not None or not chosen.shrinks:
            found.append(Shrinkage(None, None))
            continue
        alpha, mean = genewise.dispersion[fit], genewise.base_mean[fit]
        trend = fit_trend(alpha, mean, literal=chosen.literal)
        freedom = int(n_cells[groups].sum() - np.count_nonzero(n_cells[groups]))
        prior = fit_prior(alpha, _at(trend, mean), freedom)
        found.append(Shrinkage(trend, prior))
    return found


def final_fit(
    counts: Counts,
    genewise: GenewiseFit,
    shrinkage: list[Shrinkage],
    chosen: Estimators,
    engine: Engine,
    n_threads: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the dispersions to test with and the trend of a block (n_fits, n_genes) float64."""
    if chosen.dispersion is not None:
        fixed = np.full(genewise.base_mean.shape, float(chosen.dispersion))
        return fixed, np.full(fixed.shape, np.nan)
    trend = np.stack(
        [
            np.full(len(mean), np.nan) if one.trend is None else _at(one.trend, mean)
            for one, mean in zip(shrinkage, genewise.base_mean, strict=True)
        ]
    )
    if not chosen.takes_mode or not np.isfinite(trend).any():
        return genewise.dispersion.copy(), trend
    variance = np.array([one.prior.variance if one.prior else np.inf for one in shrinkage])
    modes = np.minimum(
        posterior_modes(
            counts,
            trend,
            variance,
            shared=chosen.shares_dispersion,
            min_mu=chosen.fitting.min_mu,
            engine=engine,
            n_threads=n_threads,
        ),
        chosen.largest,
    )
    final = genewise.dispersion.copy()
    for fit, one in enumerate(shrinkage):
        if one.prior is not None:
            shrunk = np.isfinite(trend[fit])
            final[fit, shrunk] = final_dispersions(
                genewise.dispersion[fit, shrunk], trend[fit, shrunk], modes[fit, shrunk], one.prior
            )
    return final, trend


def compared_block(
    counts: Counts,
    alpha: np.ndarray,
    shrinkage: list[Shrinkage],
    chosen: Estimators,
    engine: Engine,
    n_threads: int = 1,
    strata: Strata | None = None,
    adjustment: Adjustment | None = None,
) -> dict[str, np.ndarray]:
    """Fit and test every (perturbation, gene) of a block.

    Parameters
    ----------
    counts : Counts
        The block.
    alpha : numpy.ndarray (n_groups - 1, n_genes) float64
        Dispersions.
    shrinkage : list of Shrinkage
        Of the fits, for genes whose outliers are replaced.
    chosen : Estimators
        Methods.
    engine : {"compiled", "reference"}
        Which definition runs.
    n_threads : int
        Threads of the kernels.
    strata : Strata or None
        The same block by batch, for a test within batches or fits beside covariates.
    adjustment : Adjustment or None
        Covariates to fit beside.

    Returns
    -------
    dict of numpy.ndarray (n_groups - 1, n_genes) float64
        log_fold_change, intercept, standard_error (natural log), statistic, pvalue, log_pvalue,
        iterations, converged, status and the dispersion in use.
    """
    silent = _silent(counts)
    fits: Coefficients | AdjustedFits
    if adjustment is not None and strata is not None:
        fits = adjusted_fits(
            strata.counts,
            alpha,
            adjustment.strata,
            chosen.se_method,
            engine,
            n_threads,
            chosen.fitting.max_iterations,
            chosen.fitting.tolerance,
            adjustment.numbers,
            with_ratio=chosen.test == "lrt",
        )
        tests = fits.likelihood_ratio_tests() if chosen.test == "lrt" else fits.wald_tests()
    else:
        fits = _plain_fits(counts, alpha, silent, chosen, engine, n_threads)
        tests = wald_tests(counts, alpha, fits, chosen.se_method, engine)
    statistic, pvalue = tests.statistic, tests.pvalue
    if chosen.test != "wald" and not (chosen.test == "lrt" and adjustment is not None):
        blocks = strata or Strata(counts)
        statistic, pvalue = null_tests(
            blocks,
            alpha,
            fits,
            chosen.test,
            chosen.seed,
            chosen.most_sets,
            engine,
            n_threads,
        )
    fitted = np.isfinite(fits.intercept)
    status = np.where(silent & np.isfinite(fits.silent_z), SILENT_ARM, TESTED)
    status = np.where(fitted & ~fits.converged, NOT_CONVERGED, status)
    tile = {
        "log_fold_change": fits.log_fold_change,
        "intercept": fits.intercept,
        "standard_error": tests.standard_error,
        "statistic": statistic,
        "pvalue": pvalue,
        "log_pvalue": np.empty(alpha.shape),
        "iterations": np.where(fitted, fits.iterations, np.nan),
        "converged": np.where(fitted, fits.converged, np.nan),
        "status": np.where(fitted, status, _unfitted(counts)).astype(float),
        "dispersion": np.array(alpha),
    }
    if chosen.cook_filter and isinstance(fits, Coefficients):
        for pair in outlying_pairs(counts, alpha, fits, chosen.fitting.min_mu, engine, n_threads):
            _judge(tile, pair, shrinkage, chosen, engine)
    tile["log_pvalue"] = np.where(
        np.isnan(tile["pvalue"]), np.nan, log_normal_tails(tile["statistic"])
    )
    return tile


def _plain_fits(
    counts: Counts,
    alpha: np.ndarray,
    silent: np.ndarray,
    chosen: Estimators,
    engine: Engine,
    n_threads: int,
) -> Coefficients:
    """Fit both arms without covariates."""
    robust = chosen.se_method == "robust"
    fits = fit_coefficients(counts, alpha, chosen.fitting, engine, n_threads, with_fills=robust)
    if not chosen.fitting.clamped or chosen.fitting.min_mu > 0 or chosen.literal:
        return fits
    # Nothing holds a silent arm back: it is fitted as by the other optimizer.
    highest = Fitting(
        False, "poisson", 0.0, chosen.fitting.max_iterations, chosen.fitting.tolerance, False
    )
    other = fit_coefficients(
        counts, np.where(silent, alpha, np.nan), highest, engine, n_threads, with_fills=robust
    )
    return _chosen(silent, other, fits)


def _judge(
    tile: dict[str, np.ndarray],
    pair: OutlyingPair,
    shrinkage: list[Shrinkage],
    chosen: Estimators,
    engine: Engine,
) -> None:
    """Withhold one p-value, or fit the pair again with its outlying counts replaced."""
    at = pair.group, pair.gene
    if not chosen.literal:
        if pair.withheld:
            tile["pvalue"][at] = np.nan
        return
    arms = [(arm.counts, arm.size_factors) for arm in (pair.control, pair.perturbed)]
    if not any(y.any() for y, _ in arms):
        # PyDESeq2 keeps the standard error of the first fit.
        for name in ("log_fold_change", "intercept", "statistic"):
            tile[name][at] = 0
        tile["pvalue"][at], tile["iterations"][at], tile["converged"][at] = 1, 0, 1
        tile["status"][at] = TESTED
        return
    counts = Counts.of_arms(arms)
    alone = Estimators(
        dispersion=chosen.dispersion,
        dispersion_method=chosen.dispersion_method,
        shares_dispersion=False,
        shrinks=chosen.shrinks,
        takes_mode=chosen.takes_mode,
        fitting=chosen.fitting,
        se_method=chosen.se_method,
        literal=True,
    )
    genewise = genewise_fit(counts, alone, engine)
    one = [shrinkage[0 if chosen.shares_dispersion else pair.group]]
    alpha, _ = final_fit(counts, genewise, one, alone, engine)
    for name, value in compared_block(counts, alpha, one, alone, engine).items():
        tile[name][at] = value[0, 0]
    if pair.withheld_after_refit:
        tile["pvalue"][at] = np.nan


def _silent(counts: Counts) -> np.ndarray:
    """Return whether exactly one arm has no count (n_groups - 1, n_genes)."""
    expressed = np.diff(counts.run_ptr, axis=1).T > 0
    return np.asarray(expressed[0] != expressed[1:])


def _unfitted(counts: Counts) -> np.ndarray:
    """Return the status of pairs without a fit (n_groups - 1, n_genes).

    Only covariates can stand between counts and a fit.
    """
    expressed = np.diff(counts.run_ptr, axis=1).T > 0
    return np.where(expressed[0] | expressed[1:], CONFOUNDED, ALL_ZERO)


def _chosen(mask: np.ndarray, there: Coefficients, elsewhere: Coefficients) -> Coefficients:
    names = Coefficients.__dataclass_fields__
    return Coefficients(
        **{name: np.where(mask, getattr(there, name), getattr(elsewhere, name)) for name in names}
    )


def _at(trend: DispersionTrend, base_mean: np.ndarray) -> np.ndarray:
    """Return the trend at means (n_genes,), NaN for genes without counts."""
    present = base_mean > 0
    return np.where(present, trend.at(np.where(present, base_mean, 1)), np.nan)
