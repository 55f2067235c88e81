"""What the demo's steps produced, for tables, plots, report and closing words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crispyx.cli.demo.screen import ChosenScreen
from crispyx.guides import Comparison, JoinSummary, Multiplicity, ScoreResult
from crispyx.report import PerturbationSummary

if TYPE_CHECKING:
    import anndata

    from crispyx.de import RankGenesGroupsResult
    from crispyx.qc import QualityControlResult

ALPHA = 0.05
MODEL = "poisson_gauss"
# Two rules and two other mixtures to hold the calls against.
COMPARED = (MODEL, "gauss", "poisson", "neg_binomial", "umi", "max")


@dataclass(frozen=True)
class Thresholds:
    """Limits of quality control."""

    min_genes: int
    min_cells_per_perturbation: int
    min_cells_per_gene: int


def thresholds_for(n_genes: int) -> Thresholds:
    """Return limits that suit a panel of this size.

    The usual 100 genes per cell would remove every cell of a panel of 72. A quarter of the panel is
    asked for, at most 100; and 30 cells, about where the normal approximation of the rank-sum test
    can be relied on.
    """
    return Thresholds(
        min_genes=min(100, n_genes // 4),
        min_cells_per_perturbation=30,
        min_cells_per_gene=30,
    )


@dataclass(frozen=True)
class GuideCounts:
    """Cells by the number of guides called in them."""

    none: int
    one: int
    several: int

    @property
    def total(self) -> int:
        """All cells with guide counts."""
        return self.none + self.one + self.several


@dataclass(frozen=True)
class Composition:
    """The gene that makes up the largest share of the counts."""

    gene: str
    share: float


@dataclass(frozen=True)
class PlantedEffects:
    """What a simulation knows: hits, and how many of them were planted."""

    n_hits: int
    n_planted: int


@dataclass(frozen=True)
class Analysis:
    """Results of all steps.

    ``gene_names`` are the genes before quality control. ``labels_before`` and ``labels`` count the
    cells of every label before and after it, the control included.
    """

    screen: ChosenScreen
    calls: anndata.AnnData
    scores: ScoreResult
    multiplicity: Multiplicity
    comparison: Comparison
    guide_counts: GuideCounts
    joined: JoinSummary
    thresholds: Thresholds
    gene_names: Sequence[str]
    quality: QualityControlResult
    labels_before: Mapping[str, int]
    labels: Mapping[str, int]
    composition: Composition
    result: RankGenesGroupsResult
    perturbations: Sequence[PerturbationSummary]
    planted: PlantedEffects | None

    @property
    def control(self) -> str:
        """Label of the control cells."""
        return self.result.control_label

    @property
    def doubtful_guides(self) -> int:
        """Guides without a reliable fit."""
        return int((self.calls.var["status"].astype(str) != "ok").sum())

    @property
    def expected_false(self) -> float:
        """Expected share of false calls among those with a posterior."""
        var = self.calls.var
        known = var["expected_fdr"].notna().to_numpy()
        n = var["n_cells_assigned"].to_numpy(dtype=np.float64)[known]
        expected = var["expected_fdr"].to_numpy(dtype=np.float64)[known]
        return float(expected @ n / n.sum()) if n.sum() else float("nan")

    @property
    def n_cells(self) -> int:
        """Cells after quality control."""
        return int(np.count_nonzero(self.quality.cell_mask))

    @property
    def n_genes(self) -> int:
        """Genes after quality control."""
        return int(np.count_nonzero(self.quality.gene_mask))

    @property
    def n_hits(self) -> int:
        """Pairs of perturbation and gene with a change."""
        return sum(one.n_hits for one in self.perturbations)

    @property
    def aimed(self) -> list[PerturbationSummary]:
        """Perturbations whose target is measured."""
        return [one for one in self.perturbations if one.target is not None]

    @property
    def lowered(self) -> list[PerturbationSummary]:
        """Perturbations that lower their own target."""
        return [one for one in self.aimed if one.target and one.target.verdict(ALPHA) == "lowered"]

    @property
    def first(self) -> list[PerturbationSummary]:
        """Those among them whose own target leads their list."""
        return [one for one in self.lowered if one.target and one.target.rank == 1]

    @property
    def strongest(self) -> list[PerturbationSummary]:
        """Perturbations by falling number of hits, then by the strength of their top gene."""
        return sorted(self.perturbations, key=lambda one: (-one.n_hits, one.top_pvalue_adj))
