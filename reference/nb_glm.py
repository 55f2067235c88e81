"""The negative binomial test over a whole screen, stage after stage.

1. size factors, of all cells or of each comparison;
2. genewise dispersions, from all groups or from each comparison;
3. the trend of dispersions over the mean, the spread about it, and the posterior modes;
4. the log mean of both arms of every comparison;
5. Wald's test, or the likelihood ratio where an arm has no count.

Stages 1 and 3 see all genes at once; the others see one gene. What happens to one gene in one
comparison, the first line that applies:

* it fails the low-expression filter, its total is below ``min_total_count``, it has no count in the
  comparison, or the perturbation has fewer than ``min_cells_pert`` cells: every statistic is NaN;
* fewer than ``min_cells_expressed`` cells of both arms express it: p = 1, the rest 0;
* otherwise it is fitted and tested.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_ndtr, ndtri

from reference import cooks, dispersion, dispersion_trend, nb_coefficients, size_factors, wald
from reference import likelihood_ratio as ratio
from reference import permutation_test as permutation
from reference.expression_filter import ExpressionThresholds, is_tested
from reference.multiple_testing import benjamini_hochberg, bonferroni
from reference.nb_coefficients import Arm, Coefficients
from reference.score_test import Batch, score_test

Vector = NDArray[np.float64]

SIZE_FACTORS = {
    "sparse": size_factors.sparse_median_of_ratios,
    "deseq2": size_factors.median_of_ratios,
    "poscounts": size_factors.positive_counts,
    "total": size_factors.total_counts,
}
CORRECTIONS = {"benjamini-hochberg": benjamini_hochberg, "bonferroni": bonferroni}
TESTED, UNTESTED, FEW_EXPRESSING, ALL_ZERO, SILENT_ARM, NOT_CONVERGED = range(6)


@dataclass(frozen=True)
class NBOptions:
    """Which estimator is used at every stage.

    Attributes
    ----------
    size_factor_method : "sparse", "deseq2", "poscounts" or "total"
    size_factor_scope : "global" or "per_comparison"
    scale_size_factors : divide by the geometric mean
    dispersion : a number fixes it for all genes
    dispersion_method : "cox-reid" or "moments"
    dispersion_scope : "global" (all groups) or "per_comparison"
    share_dispersion : one dispersion per gene whatever the scope
    use_map_dispersion : take the posterior mode; False keeps the genewise dispersion
    shrink_dispersion : fit trend and prior at all
    optimization_method : "lbfgsb" is the maximum of the likelihood, "irls" the clamped iteration
    max_iter, tol : of the coefficients
    min_mu : smallest fitted mean, "irls" only
    poisson_init_iter : above 0 starts at the Poisson solution, 0 at 0
    se_method : "sandwich", "fisher" or "robust"
    cook_filter : withhold p-values that rest on one count
    literal : PyDESeq2's starting values, stop rules and replacement of outliers
    firth : Firth's penalty in every arm, "lbfgsb" only; otherwise in arms without counts
    largest_dispersion : estimated dispersions are not taken above it
    test : "wald", "lrt", "score" or "permutation"
    seed, most_sets : of the permutation test
    thresholds : low-expression filter on means of normalized counts
    min_cells_expressed, min_cells_pert, min_total_count : see above
    corr_method : "benjamini-hochberg" or "bonferroni", over the genes of a perturbation
    """

    size_factor_method: str = "sparse"
    size_factor_scope: str = "global"
    scale_size_factors: bool = True
    dispersion: float | None = None
    dispersion_method: str = "cox-reid"
    dispersion_scope: str = "global"
    share_dispersion: bool = False
    use_map_dispersion: bool = True
    shrink_dispersion: bool = True
    optimization_method: str = "lbfgsb"
    max_iter: int = 25
    tol: float = 1e-6
    min_mu: float = 0.5
    poisson_init_iter: int = 5
    se_method: str = "sandwich"
    cook_filter: bool = False
    literal: bool = False
    firth: bool = False
    largest_dispersion: float = math.inf
    test: str = "wald"
    seed: int = 0
    most_sets: int = permutation.MOST_SETS
    thresholds: ExpressionThresholds = field(default_factory=ExpressionThresholds)
    min_cells_expressed: int = 0
    min_cells_pert: int = 2
    min_total_count: float = 1.0
    corr_method: str = "benjamini-hochberg"

    @property
    def clamp(self) -> float:
        """Smallest fitted mean in use."""
        return self.min_mu if self.optimization_method == "irls" else 0.0

    @property
    def shares_dispersion(self) -> bool:
        """Whether a gene has one dispersion in all comparisons."""
        return self.share_dispersion or self.dispersion_scope == "global"


DEFAULT_OPTIONS = NBOptions()
PYDESEQ2 = NBOptions(
    size_factor_method="deseq2",
    size_factor_scope="per_comparison",
    scale_size_factors=False,
    dispersion_scope="per_comparison",
    optimization_method="irls",
    max_iter=250,
    tol=1e-8,
    literal=True,
)
CALIBRATED = NBOptions(
    size_factor_method="total",
    se_method="fisher",
    firth=True,
    largest_dispersion=50.0,
    test="score",
)


class Dispersions(NamedTuple):
    """Dispersions of all genes (n_genes,), NaN where a gene has no count, and what shrank them."""

    genewise: Vector
    trend: Vector
    final: Vector
    curve: dispersion_trend.DispersionTrend | None
    prior: dispersion.Prior | None


@dataclass(frozen=True)
class NBStatistics:
    """All comparisons of a screen; arrays are (n_groups, n_genes) float64.

    Attributes
    ----------
    groups : perturbations in order of first appearance, control excluded
    log_fold_change, intercept, standard_error : natural log
    statistic : Wald's z, or the signed root of the likelihood ratio in a silent arm
    pvalue, pvalue_adj : two-sided; corrected over the genes of a perturbation
    log_pvalue : natural log, also of p-values that are too small for a number
    dispersion, dispersion_raw, dispersion_trend : the one used, the genewise one, the trend
    iterations, converged : of the coefficients
    status : one of the six constants of this module
    """

    groups: tuple[str, ...]
    log_fold_change: Vector
    intercept: Vector
    standard_error: Vector
    statistic: Vector
    pvalue: Vector
    log_pvalue: Vector
    pvalue_adj: Vector
    dispersion: Vector
    dispersion_raw: Vector
    dispersion_trend: Vector
    iterations: Vector
    converged: Vector
    status: Vector


class Pair(NamedTuple):
    """One gene in one comparison; fields as in :class:`NBStatistics`."""

    log_fold_change: float
    intercept: float
    standard_error: float
    statistic: float
    pvalue: float
    iterations: float
    converged: float
    status: int


UNKNOWN = Pair(math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, UNTESTED)


def nb_glm(
    counts: ArrayLike,
    labels: ArrayLike,
    control: str,
    options: NBOptions = DEFAULT_OPTIONS,
    given_size_factors: ArrayLike | None = None,
    batches: ArrayLike | None = None,
) -> NBStatistics:
    """Compare every perturbation with the control.

    Parameters
    ----------
    counts : (n_cells, n_genes) int
    labels : (n_cells,) str, the perturbation of every cell
    control : label of the control
    options : estimators and filters
    given_size_factors : (n_cells,), instead of estimated ones
    batches : (n_cells,) str, for the score and the permutation test: means differ between batches
        in the estimation of one dispersion for all comparisons, and the test is within them.
        Fold changes and standard errors are over all batches.

    Returns
    -------
    NBStatistics
    """
    y, label = np.asarray(counts, dtype=np.float64), np.asarray(labels)
    batch = np.zeros(label.size, dtype=np.int64)
    if batches is not None:
        seen = list(dict.fromkeys(np.asarray(batches).tolist()))
        batch = np.array([seen.index(name) for name in np.asarray(batches).tolist()])
    n_batches = int(batch.max()) + 1
    groups = tuple(name for name in dict.fromkeys(label.tolist()) if name != control)
    names = [f.name for f in fields(NBStatistics) if f.name != "groups"]
    table = {name: np.full((len(groups), y.shape[1]), np.nan) for name in names}
    s = None if given_size_factors is None else np.asarray(given_size_factors, dtype=np.float64)
    if s is None and (options.size_factor_scope == "global" or options.shares_dispersion):
        s = _size_factors(y, options)
    shared = None
    if options.shares_dispersion and s is not None:
        cells = [
            (label == name) & (batch == b) for name in (control, *groups) for b in range(n_batches)
        ]
        shared = estimate_dispersions([(y[c], s[c]) for c in cells if c.any()], options)
    for row, name in enumerate(groups):
        used = (label == control) | (label == name)
        arms = _split(y, s, used, label == control, options, given_size_factors is not None)
        split = [
            (batch[label == control] == b, batch[label == name] == b) for b in range(n_batches)
        ]
        found = shared if shared is not None else estimate_dispersions(arms, options)
        table["dispersion_raw"][row], table["dispersion_trend"][row] = found.genewise, found.trend
        for gene in range(y.shape[1]):
            total = y[:, gene].sum()
            pair, used_dispersion = _compare(arms, split, gene, found, total, options)
            table["dispersion"][row, gene] = used_dispersion
            if not math.isnan(pair.pvalue):
                table["log_pvalue"][row, gene] = math.log(2) + log_ndtr(-abs(pair.statistic))
            for column, value in pair._asdict().items():
                table[column][row, gene] = value
        table["pvalue_adj"][row] = CORRECTIONS[options.corr_method](table["pvalue"][row])
    return NBStatistics(groups=groups, **table)


GroupCounts = tuple[Vector, Vector]  # counts (n_cells, n_genes) and size factors (n_cells,)


def estimate_size_factors(
    counts: Vector, method: str, among: NDArray[np.bool_] | None = None
) -> Vector:
    """Return size factors (n_cells,) of the cells of ``counts`` (n_cells, n_genes).

    ``among`` (n_genes,) are genes whose counts follow depth alone; none of them is too dominant.
    """
    if among is None:
        return SIZE_FACTORS[method](counts)
    if method == "total":
        return size_factors.total_counts(counts[:, among], dominant_share=1.0)
    return SIZE_FACTORS[method](counts[:, among])


def _size_factors(counts: Vector, options: NBOptions) -> Vector:
    s = estimate_size_factors(counts, options.size_factor_method)
    return size_factors.scaled(s) if options.scale_size_factors else s


def estimate_dispersions(groups: list[GroupCounts], options: NBOptions) -> Dispersions:
    """Return the dispersions of all genes from the groups they are estimated on."""
    n_genes = groups[0][0].shape[1]
    n_cells = sum(s.size for _, s in groups)
    if options.dispersion is not None:
        fixed = np.full(n_genes, float(options.dispersion))
        nothing = np.full(n_genes, np.nan)
        return Dispersions(nothing, nothing, fixed, None, None)
    upper = dispersion.largest_dispersion(n_cells)
    genewise, base_mean = np.full(n_genes, np.nan), np.zeros(n_genes)
    for gene in range(n_genes):
        arms = _arms(groups, gene)
        base_mean[gene] = np.mean(np.concatenate([arm.counts / arm.size_factors for arm in arms]))
        if base_mean[gene] > 0:
            genewise[gene] = min(_genewise(arms, upper, options), options.largest_dispersion)
    if not options.shrink_dispersion:
        return Dispersions(genewise, np.full(n_genes, np.nan), genewise, None, None)
    curve = dispersion_trend.fit_trend(genewise, base_mean, literal=options.literal)
    with np.errstate(divide="ignore"):
        trend = np.where(base_mean > 0, curve.at(base_mean), np.nan)
    prior = dispersion.fit_prior(genewise, trend, n_cells - len(groups))
    final = genewise.copy()
    if options.use_map_dispersion:
        for gene in np.flatnonzero(np.isfinite(trend)).tolist():
            arms = _arms(groups, gene)
            final[gene] = _shrunk(arms, genewise[gene], trend[gene], prior, upper, options)
    return Dispersions(genewise, trend, final, curve, prior)


def _genewise(arms: list[Arm], upper: float, options: NBOptions) -> float:
    if options.literal and not options.shares_dispersion:
        start = dispersion.rough_moments(arms, upper)
    else:
        start = dispersion.within_group_moments(arms, upper)
    if options.dispersion_method == "moments":
        return start
    return dispersion.genewise_dispersion(
        arms, upper, start=start, min_mu=options.clamp, stop_where_flat=options.literal
    )


def _shrunk(
    arms: list[Arm],
    genewise: float,
    trend: float,
    prior: dispersion.Prior,
    upper: float,
    options: NBOptions,
) -> float:
    mode = dispersion.posterior_mode(arms, trend, prior.variance, upper, options.clamp)
    mode = min(mode, options.largest_dispersion)
    return dispersion.final_dispersion(genewise, trend, mode, prior)


def _compare(
    arms: list[GroupCounts],
    batches: list[tuple[NDArray[np.bool_], NDArray[np.bool_]]],
    gene: int,
    found: Dispersions,
    total: float,
    options: NBOptions,
) -> tuple[Pair, float]:
    control, perturbed = _arms(arms, gene)
    alpha = float(found.final[gene])
    status = _gate(control, perturbed, total, options)
    if status in (UNTESTED, ALL_ZERO):
        return UNKNOWN._replace(status=status), alpha
    if status == FEW_EXPRESSING:
        return Pair(0, 0, 0, 0, 1, 0, 1, status), alpha
    pair, fit = compare_arms(control, perturbed, alpha, options)
    if options.test != "wald":
        strata = _strata(control, perturbed, batches)
        statistic, pvalue = null_test(strata, alpha, pair.log_fold_change, options)
        pair = pair._replace(statistic=statistic, pvalue=pvalue)
    if not options.cook_filter:
        return pair, alpha
    distances = cooks.cooks_distances(
        control, perturbed, fit.intercept, fit.log_fold_change, alpha, options.clamp
    )
    refitted = False
    new0, new1, beyond = cooks.without_outliers(control, perturbed, distances)
    if options.literal and beyond:
        if not (new0.counts.any() or new1.counts.any()):
            return Pair(0, 0, pair.standard_error, 0, 1, 0, 1, TESTED), alpha
        alpha, refitted = _refitted_dispersion([new0, new1], found, options), True
        pair, _ = compare_arms(new0, new1, alpha, options)
    if cooks.is_outlier(control, perturbed, distances, refitted):
        pair = pair._replace(pvalue=math.nan)
    return pair, alpha


def _refitted_dispersion(arms: list[Arm], found: Dispersions, options: NBOptions) -> float:
    """Return the dispersion of replaced counts; trend and prior stay as they are."""
    if options.dispersion is not None:
        return float(options.dispersion)
    upper = dispersion.largest_dispersion(sum(arm.counts.size for arm in arms))
    genewise = _genewise(arms, upper, _of_a_pair(options))
    if found.curve is None or found.prior is None or not options.use_map_dispersion:
        return genewise
    mean = np.mean(np.concatenate([arm.counts / arm.size_factors for arm in arms]))
    trend = float(found.curve.at(mean))
    return _shrunk(arms, genewise, trend, found.prior, upper, options)


def _of_a_pair(options: NBOptions) -> NBOptions:
    return replace(options, dispersion_scope="per_comparison", share_dispersion=False)


def compare_arms(
    control: Arm, perturbed: Arm, alpha: float, options: NBOptions = DEFAULT_OPTIONS
) -> tuple[Pair, Coefficients]:
    """Fit and test one gene of known dispersion in one comparison.

    Parameters
    ----------
    control, perturbed : the two arms, at least one count above 0
    alpha : dispersion
    options : method of the coefficients and of the standard error
    """
    silent = not (control.counts.any() and perturbed.counts.any())
    status = TESTED
    if options.clamp > 0 or (options.optimization_method == "irls" and not silent):
        fit = _fit_clamped(control, perturbed, alpha, options)
    else:
        fit = _fit_arms(control, perturbed, alpha, options)
        status = SILENT_ARM if silent and not options.firth else TESTED
    test = wald.wald_test(
        control, perturbed, fit.intercept, fit.log_fold_change, alpha, options.se_method
    )
    statistic, pvalue = test.statistic, test.pvalue
    if status == SILENT_ARM:
        loud = fit.intercept + (0 if control.counts.any() else fit.log_fold_change)
        statistic = wald.silent_arm_test(control, perturbed, loud, alpha)
        pvalue = math.erfc(abs(statistic) / math.sqrt(2))
    if not fit.converged:
        status = NOT_CONVERGED
    pair = Pair(
        fit.log_fold_change,
        fit.intercept,
        test.standard_error,
        statistic,
        pvalue,
        fit.iterations,
        fit.converged,
        status,
    )
    return pair, fit


def null_test(
    batches: list[Batch], alpha: float, log_fold_change: float, options: NBOptions
) -> tuple[float, float]:
    """Return z and p of the tests that compare with a mean common to both arms.

    Parameters
    ----------
    batches : control and perturbed cells of each batch; the likelihood ratio takes one
    alpha : dispersion
    log_fold_change : gives z its sign where there is one batch; the score does otherwise
    options : which test, and its seed
    """
    if options.test == "lrt":
        z = ratio.likelihood_ratio_root(*batches[0], alpha)
    else:
        z = score_test(batches, alpha).root
    pvalue = math.erfc(abs(z) / math.sqrt(2))
    if options.test == "permutation":
        pvalue, _ = permutation.permutation_pvalue(batches, alpha, options.seed, options.most_sets)
        z = math.copysign(-float(ndtri(pvalue / 2)), z)
    return (math.copysign(z, log_fold_change) if len(batches) == 1 else z), pvalue


def _strata(
    control: Arm, perturbed: Arm, batches: list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]
) -> list[Batch]:
    return [
        (
            Arm(control.counts[here], control.size_factors[here]),
            Arm(perturbed.counts[there], perturbed.size_factors[there]),
        )
        for here, there in batches
    ]


def _fit_arms(control: Arm, perturbed: Arm, alpha: float, options: NBOptions) -> Coefficients:
    fits = []
    for arm in (control, perturbed):
        if arm.counts.any() and not options.firth:
            start = nb_coefficients.poisson_log_mean(arm) if options.poisson_init_iter else 0.0
            fit = nb_coefficients.best_log_mean(arm, alpha, start, options.max_iter, options.tol)
        else:
            fit = nb_coefficients.penalized_log_mean(arm, alpha, options.max_iter, options.tol)
        fits.append(fit)
    return Coefficients(
        fits[0].eta,
        fits[1].eta - fits[0].eta,
        max(fit.iterations for fit in fits),
        all(fit.converged for fit in fits),
    )


def _fit_clamped(control: Arm, perturbed: Arm, alpha: float, options: NBOptions) -> Coefficients:
    if options.literal:
        first = nb_coefficients.ordinary_least_squares
    elif options.poisson_init_iter:
        first = nb_coefficients.poisson_log_mean
    else:
        first = _zero
    return nb_coefficients.iterate_clamped(
        control,
        perturbed,
        alpha,
        (first(control), first(perturbed)),
        min_mu=options.clamp,
        max_iterations=options.max_iter,
        tolerance=options.tol,
        rescue=options.literal,
    )


def _zero(arm: Arm) -> float:
    return 0.0


def _gate(control: Arm, perturbed: Arm, total: float, options: NBOptions) -> int:
    fraction0, fraction1 = (
        np.count_nonzero(a.counts) / a.counts.size for a in (control, perturbed)
    )
    mean0, mean1 = (float(np.mean(a.counts / a.size_factors)) for a in (control, perturbed))
    if perturbed.counts.size < options.min_cells_pert or total < options.min_total_count:
        return UNTESTED
    if not is_tested(fraction0, mean0, fraction1, mean1, options.thresholds):
        return UNTESTED
    if not (control.counts.any() or perturbed.counts.any()):
        return ALL_ZERO
    n_expressing = np.count_nonzero(control.counts) + np.count_nonzero(perturbed.counts)
    return FEW_EXPRESSING if n_expressing < options.min_cells_expressed else TESTED


def _split(
    y: Vector,
    s: Vector | None,
    used: NDArray[np.bool_],
    is_control: NDArray[np.bool_],
    options: NBOptions,
    given: bool,
) -> list[GroupCounts]:
    if s is not None and (given or options.size_factor_scope == "global"):
        own = s[used]
    else:
        own = _size_factors(y[used], options)
    first = is_control[used]
    return [(y[used][first], own[first]), (y[used][~first], own[~first])]


def _arms(groups: list[GroupCounts], gene: int) -> list[Arm]:
    return [Arm(y[:, gene], s) for y, s in groups]


def without_filters(options: NBOptions) -> NBOptions:
    """Return the same estimators with every gene tested."""
    return replace(
        options,
        thresholds=ExpressionThresholds(0.0, 0.0, 0.0, 0.0),
        min_cells_expressed=0,
        min_total_count=0.0,
        min_cells_pert=1,
    )
