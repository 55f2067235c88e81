"""Every perturbation in one row: its hits, its strongest gene, its own target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from crispyx.de import RankGenesGroupsResult


@dataclass(frozen=True)
class TargetEffect:
    """What a perturbation does to the gene it is aimed at.

    ``rank`` is the place of the gene among all, by absolute test statistic; ``pts`` and
    ``pts_rest`` are the fractions of perturbed and of control cells with a count. NaN and None
    where untested.
    """

    gene: str
    logfoldchange: float
    pvalue: float
    pvalue_adj: float
    rank: int | None
    pts: float
    pts_rest: float

    def verdict(self, alpha: float) -> str:
        """Say in a word what happened: lowered, raised, not significant, or not tested."""
        if not np.isfinite(self.pvalue_adj):
            return "not tested"
        if self.pvalue_adj > alpha:
            return "not significant"
        return "lowered" if self.logfoldchange < 0 else "raised"


@dataclass(frozen=True)
class PerturbationSummary:
    """One perturbation against the control.

    ``n_lowered`` and ``n_raised`` count the hits. The top gene is the one with the largest absolute
    statistic, None when no gene was tested. ``target`` is None when the target is not measured.
    """

    perturbation: str
    n_cells: int
    n_tested: int
    n_lowered: int
    n_raised: int
    top_gene: str | None
    top_logfoldchange: float
    top_pvalue_adj: float
    target: TargetEffect | None

    @property
    def n_hits(self) -> int:
        """Genes at or below the cut."""
        return self.n_lowered + self.n_raised


def summarize_perturbations(
    result: RankGenesGroupsResult,
    n_cells: Mapping[str, int],
    *,
    target_genes: Mapping[str, str] | None = None,
    alpha: float = 0.05,
) -> list[PerturbationSummary]:
    """Return one row per perturbation, in the order of the result.

    Parameters
    ----------
    result : RankGenesGroupsResult
        Every perturbation against the control.
    n_cells : mapping of str to int
        Cells of each perturbation.
    target_genes : mapping of str to str, or None
        Gene that a perturbation is aimed at, where it is not the gene of the same name.
    alpha : float
        Genes with an adjusted p up to this are hits.

    Returns
    -------
    list of PerturbationSummary
        Its numbers of cells, tested genes and hits, its top gene and its target.
    """
    position = {str(gene): column for column, gene in enumerate(result.genes)}
    aimed = dict(target_genes or {})
    return [
        _summarize(result, row, int(n_cells[label]), position, aimed.get(label, label), alpha)
        for row, label in enumerate(result.groups)
    ]


def _summarize(
    result: RankGenesGroupsResult,
    row: int,
    n_cells: int,
    position: Mapping[str, int],
    target: str,
    alpha: float,
) -> PerturbationSummary:
    p_adj, lfc = result.pvalues_adj[row], result.logfoldchanges[row]
    tested = np.isfinite(result.statistics[row])
    hit = p_adj <= alpha
    top = int(result.order[row, 0])
    return PerturbationSummary(
        perturbation=result.groups[row],
        n_cells=n_cells,
        n_tested=int(tested.sum()),
        n_lowered=int((hit & (lfc < 0)).sum()),
        n_raised=int((hit & (lfc >= 0)).sum()),
        top_gene=str(result.genes[top]) if tested.any() else None,
        top_logfoldchange=float(lfc[top]),
        top_pvalue_adj=float(p_adj[top]),
        target=_target_effect(result, row, position[target]) if target in position else None,
    )


def _target_effect(result: RankGenesGroupsResult, row: int, column: int) -> TargetEffect:
    tested = np.isfinite(result.statistics[row, column])
    return TargetEffect(
        gene=str(result.genes[column]),
        logfoldchange=float(result.logfoldchanges[row, column]),
        pvalue=float(result.pvalues[row, column]),
        pvalue_adj=float(result.pvalues_adj[row, column]),
        rank=int(np.flatnonzero(result.order[row] == column)[0]) + 1 if tested else None,
        pts=float(result.pts[row, column]),
        pts_rest=float(result.pts_rest[row, column]),
    )
