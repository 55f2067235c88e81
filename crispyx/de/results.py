"""What the differential expression functions return."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from crispyx._io.scanpy_format import records
from crispyx._stats.multiple_testing import adjust_logs
from crispyx._stats.welch import log_student_tails
from crispyx.settings import settings

if TYPE_CHECKING:
    import pandas as pd

    from crispyx.data import AnnData


def _result_path(result: AnnData | None) -> Path:
    if result is None:
        raise AttributeError("this result has no file behind it: its result is None")
    return result.path


@dataclass
class DifferentialExpressionResult:
    """One perturbation against the control.

    Attributes
    ----------
    genes : pandas.Index (n_genes,)
        Gene names.
    effect_size, statistic, pvalue : numpy.ndarray (n_genes,)
        Effect, test statistic (positive = higher in the perturbation) and two-sided p; NaN where
        untested.
    method : str
        ``"t_test"``, ``"wilcoxon"`` or ``"nb_glm"``.
    perturbation : str
        Label.
    pvalue_adj : numpy.ndarray (n_genes,) or None
        Adjusted p.
    result : crispyx.AnnData or None
        File of the whole result.
    """

    genes: pd.Index
    effect_size: np.ndarray
    statistic: np.ndarray
    pvalue: np.ndarray
    method: str
    perturbation: str
    pvalue_adj: np.ndarray | None = None
    result: AnnData | None = None

    @property
    def result_path(self) -> Path:
        """Path of the result file; AttributeError without one."""
        return _result_path(self.result)


@dataclass(repr=False)
class RankGenesGroupsResult(Mapping[str, DifferentialExpressionResult]):
    """All perturbations against the control: a mapping from label to its result.

    Attributes
    ----------
    genes : pandas.Index (n_genes,)
        Gene names.
    groups : list of str
        Perturbations, the rows of all tables.
    statistics, pvalues, pvalues_adj, logfoldchanges, effect_size, u_statistics : numpy.ndarray
        Tables (n_groups, n_genes); NaN where untested. ``u_statistics`` is 0 but for ranks.
    pts, pts_rest : numpy.ndarray (n_groups, n_genes)
        Fraction of perturbed and of control cells with a value above 0.
    order : numpy.ndarray (n_groups, n_genes) int64
        Genes by falling absolute statistic, untested ones last.
    groupby, method, control_label : str
        obs column, test and control.
    tie_correct : bool
        Whether ties were corrected for (Wilcoxon).
    pvalue_correction : {"benjamini-hochberg", "bonferroni"}
        How ``pvalues_adj`` was made.
    result : crispyx.AnnData or None
        File of the result.
    alternative : {"two-sided", "greater", "less"}
        What the p-values are the probability of.
    pvalue_correction_scope : {"perturbation", "screen"}
        Whether each perturbation was corrected on its own.
    degrees_of_freedom : numpy.ndarray (n_groups, n_genes) float32 or None
        Those of a t-test; None for other tests, and for files of t-tests that do not hold them.
    """

    genes: pd.Index
    groups: list[str]
    statistics: np.ndarray
    pvalues: np.ndarray
    pvalues_adj: np.ndarray
    logfoldchanges: np.ndarray
    effect_size: np.ndarray
    u_statistics: np.ndarray
    pts: np.ndarray
    pts_rest: np.ndarray
    order: np.ndarray
    groupby: str
    method: str
    control_label: str
    tie_correct: bool
    pvalue_correction: Literal["benjamini-hochberg", "bonferroni"]
    result: AnnData | None = None
    alternative: Literal["two-sided", "greater", "less"] = "two-sided"
    pvalue_correction_scope: Literal["perturbation", "screen"] = "perturbation"
    degrees_of_freedom: np.ndarray | None = None
    _row_of: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._row_of = {label: row for row, label in enumerate(self.groups)}

    def __getitem__(self, label: str) -> DifferentialExpressionResult:
        row = self._row_of[label]
        return DifferentialExpressionResult(
            genes=self.genes,
            effect_size=self._row("effect_size", row),
            statistic=self._row("statistics", row),
            pvalue=self._row("pvalues", row),
            method=self.method,
            perturbation=label,
            pvalue_adj=self._row("pvalues_adj", row),
            result=self.result,
        )

    def _row(self, name: str, row: int) -> np.ndarray:
        return getattr(self, name)[row]

    def __iter__(self) -> Iterator[str]:
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)

    def __repr__(self) -> str:
        return (
            f"RankGenesGroupsResult({self.method}: {len(self.groups)} perturbations x "
            f"{len(self.genes)} genes against {self.control_label!r})"
        )

    def items(self) -> ItemsView[str, DifferentialExpressionResult]:
        """Return (label, DifferentialExpressionResult) pairs."""
        return super().items()

    @property
    def log_pvalues(self) -> np.ndarray:
        """Natural logs of ``pvalues`` (n_groups, n_genes) float64, NaN where untested.

        Where p is too small for a number and ``pvalues`` is 0 or has lost digits, the logs of rank
        tests come from their normal statistic, those of ``t_test`` from t and its degrees of
        freedom, and those of ``nb_glm`` from its file.
        """
        with np.errstate(divide="ignore"):
            logs: np.ndarray = np.log(self.pvalues)
        lost = self.pvalues < np.finfo(np.float64).tiny
        if self.method == "wilcoxon":
            logs[lost] = log_normal_tails(self.statistics[lost], self.alternative)
        elif self.degrees_of_freedom is not None and lost.any():
            logs[lost] = log_student_tails(
                self.statistics[lost],
                self.degrees_of_freedom[lost],
                self.alternative,
                settings.engine,
            )
        return logs

    @property
    def log_pvalues_adj(self) -> np.ndarray:
        """Natural logs of ``pvalues_adj`` (n_groups, n_genes) float64, NaN where untested.

        The correction of the result, made on ``log_pvalues``: genes whose adjusted p is too small
        for a number still differ. Reference: ``reference.multiple_testing``.
        """
        return adjust_logs(
            self.log_pvalues,
            self.pvalue_correction,
            self.pvalue_correction_scope,
            settings.engine,
        )

    @property
    def result_path(self) -> Path:
        """Path of the result file; AttributeError without one."""
        return _result_path(self.result)

    def to_full_order_dict(self) -> dict[str, np.ndarray]:
        """Return copies of the tables (n_groups, n_genes), genes in the order of the file.

        Returns
        -------
        dict
            Keys ``scores, pvals, pvals_adj, logfoldchanges, auc, u_stat, pts, pts_rest``; ``auc``
            is ``effect_size``.
        """
        tables = {
            "scores": self.statistics,
            "pvals": self.pvalues,
            "pvals_adj": self.pvalues_adj,
            "logfoldchanges": self.logfoldchanges,
            "auc": self.effect_size,
            "u_stat": self.u_statistics,
            "pts": self.pts,
            "pts_rest": self.pts_rest,
        }
        return {name: np.array(table) for name, table in tables.items()}

    def to_rank_genes_groups_dict(self) -> dict[str, Any]:
        """Return the layout of scanpy's ``uns["rank_genes_groups"]``.

        Returns
        -------
        dict
            ``params``, then ``names, scores, logfoldchanges, pvals, pvals_adj, pts, pts_rest, auc,
            u_stat`` as record arrays (n_genes,) with a field per perturbation, sorted by falling
            absolute score, and ``full``, see :meth:`to_full_order_dict`.
        """
        full = self.to_full_order_dict()
        names = np.asarray(self.genes, dtype=object)
        tables = {"names": records([names[order] for order in self.order], self.groups)}
        for key in (
            "scores",
            "logfoldchanges",
            "pvals",
            "pvals_adj",
            "pts",
            "pts_rest",
            "auc",
            "u_stat",
        ):
            rows = zip(full[key], self.order, strict=True)
            tables[key] = records([row[order] for row, order in rows], self.groups)
        params = {
            "groupby": self.groupby,
            "method": self.method,
            "reference": self.control_label,
            "tie_correct": self.tie_correct,
            "corr_method": self.pvalue_correction,
        }
        return {"params": params, **tables, "full": full}


def log_normal_tails(z: np.ndarray, alternative: str = "two-sided") -> np.ndarray:
    """Return the natural logs of the p-values of normal statistics."""
    from scipy.special import log_ndtr

    if alternative == "two-sided":
        return np.asarray(np.log(2) + log_ndtr(-np.abs(z)))
    return np.asarray(log_ndtr(-z if alternative == "greater" else z))


def sort_order(statistics: np.ndarray) -> np.ndarray:
    """Return genes by falling absolute statistic, NaN last, ties in file order (int64)."""
    return np.argsort(-np.abs(statistics), axis=-1, kind="stable")
