"""The two tests over a whole screen: every perturbation against the control, gene by gene.

What happens to one gene in one comparison, the first line that applies:

1. the gene fails the low-expression filter, or the perturbation has fewer than ``min_cells_pert``
   cells: it is not tested, every statistic is NaN and it does not count in the correction;
2. fewer than ``min_cells_expressed`` cells of both arms together express it: p = 1, effect,
   statistic and fold change 0, and it counts in the correction;
3. otherwise it is tested. Where the statistic has no value (Welch without any variation) statistic
   and p are NaN; the effect and the fold change are still given.

The fractions of expressing cells are given in all three cases.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reference.expression_filter import ExpressionThresholds, is_tested
from reference.moments import fraction_expressing, mean
from reference.multiple_testing import benjamini_hochberg, bonferroni
from reference.rank_sum import rank_sum
from reference.welch import log_fold_change, welch_t

CORRECTIONS = {"benjamini-hochberg": benjamini_hochberg, "bonferroni": bonferroni}
SCOPES = ("perturbation", "screen")


@dataclass(frozen=True)
class ComparisonOptions:
    """What is tested and how p-values are corrected.

    Attributes
    ----------
    thresholds : low-expression filter
    min_cells_expressed : expressing cells, control and perturbed together, below which p = 1
    min_cells_pert : cells below which a perturbation is not tested
    corr_method : "benjamini-hochberg" or "bonferroni"
    corr_scope : "perturbation" corrects each perturbation over its genes, "screen" all pairs
    """

    thresholds: ExpressionThresholds = field(default_factory=ExpressionThresholds)
    min_cells_expressed: int = 0
    min_cells_pert: int = 2
    corr_method: str = "benjamini-hochberg"
    corr_scope: str = "perturbation"


DEFAULT_OPTIONS = ComparisonOptions()


@dataclass(frozen=True)
class ScreenStatistics:
    """All comparisons of a screen; arrays are (n_groups, n_genes) float64.

    Attributes
    ----------
    groups : perturbations in order of first appearance, control excluded
    effect_size : t-test: difference of means, log units; Wilcoxon: U / (n1 n0) - 1/2
    statistic : t-test: Welch's t; Wilcoxon: z. Positive when the perturbed cells express more
    pvalue : two-sided
    pvalue_adj : corrected within ``corr_scope``
    logfoldchanges : log2
    u_statistic : Wilcoxon: U of the perturbed cells; t-test: 0
    pts : fraction of perturbed cells with a value above 0
    pts_rest : fraction of control cells with a value above 0
    """

    groups: tuple[str, ...]
    effect_size: NDArray[np.float64]
    statistic: NDArray[np.float64]
    pvalue: NDArray[np.float64]
    pvalue_adj: NDArray[np.float64]
    logfoldchanges: NDArray[np.float64]
    u_statistic: NDArray[np.float64]
    pts: NDArray[np.float64]
    pts_rest: NDArray[np.float64]


class Comparison(NamedTuple):
    """One gene in one perturbation; fields as in :class:`ScreenStatistics`."""

    effect_size: float
    statistic: float
    pvalue: float
    logfoldchanges: float
    u_statistic: float


UNTESTED = Comparison(math.nan, math.nan, math.nan, math.nan, math.nan)
TOO_FEW_EXPRESSING = Comparison(0.0, 0.0, 1.0, 0.0, 0.0)

Arm = NDArray[np.float64]


def t_test(
    expression: ArrayLike,
    labels: ArrayLike,
    control: str,
    options: ComparisonOptions = DEFAULT_OPTIONS,
) -> ScreenStatistics:
    """Compare every perturbation with the control by Welch's t-test.

    Parameters
    ----------
    expression : (n_cells, n_genes), log1p units
    labels : (n_cells,) str, the perturbation of every cell
    control : label of the control
    options : filters and correction

    Returns
    -------
    ScreenStatistics; ``u_statistic`` is 0 throughout.

    Raises
    ------
    ValueError
        If the control is not among the labels, their number is not that of the cells, a value is
        not finite or an option is unknown.
    """

    def compare(x0: Arm, x1: Arm) -> Comparison:
        m0, m1 = mean(x0), mean(x1)
        test = welch_t(x0, x1)
        return Comparison(m1 - m0, test.statistic, test.pvalue, log_fold_change(m0, m1), 0.0)

    result = _compare_all(expression, labels, control, options, compare)
    return replace(result, u_statistic=np.zeros_like(result.u_statistic))


def wilcoxon(
    expression: ArrayLike,
    labels: ArrayLike,
    control: str,
    options: ComparisonOptions = DEFAULT_OPTIONS,
    tie_correct: bool = True,
) -> ScreenStatistics:
    """Compare every perturbation with the control by Wilcoxon's rank-sum test.

    Parameters
    ----------
    expression : (n_cells, n_genes), log1p units
    labels : (n_cells,) str, the perturbation of every cell
    control : label of the control
    options : filters and correction
    tie_correct : account for ties in the variance

    Returns
    -------
    ScreenStatistics

    Raises
    ------
    ValueError
        If the control is not among the labels, their number is not that of the cells, a value is
        not finite or an option is unknown.
    """

    def compare(x0: Arm, x1: Arm) -> Comparison:
        test = rank_sum(x0, x1, tie_correct)
        lfc = log_fold_change(mean(x0), mean(x1))
        return Comparison(test.effect_size, test.z, test.pvalue, lfc, test.u)

    return _compare_all(expression, labels, control, options, compare)


def _compare_all(
    expression: ArrayLike,
    labels: ArrayLike,
    control: str,
    options: ComparisonOptions,
    compare: Callable[[Arm, Arm], Comparison],
) -> ScreenStatistics:
    x, label = _checked(expression, labels, control, options)
    groups = tuple(name for name in dict.fromkeys(label.tolist()) if name != control)
    names = [f.name for f in fields(ScreenStatistics) if f.name != "groups"]
    table = {name: np.empty((len(groups), x.shape[1])) for name in names}
    for gene in range(x.shape[1]):
        x0 = x[label == control, gene]
        for row, name in enumerate(groups):
            x1 = x[label == name, gene]
            table["pts_rest"][row, gene] = fraction_expressing(x0)
            table["pts"][row, gene] = fraction_expressing(x1)
            for column, value in _gated(x0, x1, options, compare)._asdict().items():
                table[column][row, gene] = value
    table["pvalue_adj"] = _corrected(table["pvalue"], options)
    return ScreenStatistics(groups=groups, **table)


def _gated(
    x0: Arm, x1: Arm, options: ComparisonOptions, compare: Callable[[Arm, Arm], Comparison]
) -> Comparison:
    tested = is_tested(
        fraction_expressing(x0), mean(x0), fraction_expressing(x1), mean(x1), options.thresholds
    )
    if not tested or x1.size < options.min_cells_pert:
        return UNTESTED
    if np.count_nonzero(x0 > 0) + np.count_nonzero(x1 > 0) < options.min_cells_expressed:
        return TOO_FEW_EXPRESSING
    return compare(x0, x1)


def _corrected(pvalue: NDArray[np.float64], options: ComparisonOptions) -> NDArray[np.float64]:
    correct = CORRECTIONS[options.corr_method]
    if options.corr_scope == "screen":
        return correct(pvalue.ravel()).reshape(pvalue.shape)
    adjusted = np.empty_like(pvalue)
    for row, pvalues in enumerate(pvalue):
        adjusted[row] = correct(pvalues)
    return adjusted


def _checked(
    expression: ArrayLike, labels: ArrayLike, control: str, options: ComparisonOptions
) -> tuple[NDArray[np.float64], NDArray[np.generic]]:
    x, label = np.asarray(expression, dtype=np.float64), np.asarray(labels)
    if options.corr_method not in CORRECTIONS:
        raise ValueError(f"corr_method={options.corr_method!r}; allowed: {sorted(CORRECTIONS)}.")
    if options.corr_scope not in SCOPES:
        raise ValueError(f"corr_scope={options.corr_scope!r}; allowed: {list(SCOPES)}.")
    if label.shape != x.shape[:1]:
        raise ValueError(
            f"labels have shape {label.shape}, expression has {x.shape[0]} cells; "
            "give one label per cell."
        )
    if control not in label:
        there = list(dict.fromkeys(label.tolist()))[:10]
        raise ValueError(
            f"control {control!r} is not among the labels (first ones: {there}); "
            "pass the label the control cells carry."
        )
    bad = np.argwhere(~np.isfinite(x))
    if bad.size:
        cell, gene = bad[0].tolist()
        raise ValueError(
            f"cell {cell}, gene {gene} has value {x[cell, gene]}; "
            "remove or replace NaN and infinite values before testing."
        )
    return x, label
