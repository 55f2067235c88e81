"""CSV tables of the demo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.atomic import atomic_path
from crispyx._io.csv_text import csv_bytes
from crispyx.cli.demo.analysis import Analysis
from crispyx.cli.demo.outputs import OutputFolder
from crispyx.de import RankGenesGroupsResult
from crispyx.report import OutputFile, PerturbationSummary

if TYPE_CHECKING:
    import pandas as pd


def write_tables(analysis: Analysis, folder: OutputFolder) -> list[OutputFile]:
    """Write the tables and return all tables and data files of the demo, with what they hold."""
    for name, table in (
        ("differential_expression", long_table(analysis.result)),
        ("perturbations", perturbation_frame(analysis.perturbations)),
        ("guide_calls", analysis.calls.obs.reset_index()),
        ("guide_fits", analysis.calls.var.reset_index(names="guide_id")),
    ):
        with atomic_path(folder.path(f"tables/{name}.csv")) as work:
            work.write_bytes(csv_bytes(table))
    return [
        OutputFile(
            "tables/perturbations.csv", "one row per perturbation: hits, top gene, own target"
        ),
        OutputFile("tables/differential_expression.csv", "one row per perturbation and gene"),
        OutputFile("tables/guide_calls.csv", "one row per cell: the guide called in it"),
        OutputFile("tables/guide_fits.csv", "one row per guide: its mixture and its calls"),
        OutputFile("data/guide_calls.h5ad", "guide counts and calls, cells x guides"),
        OutputFile(
            "data/expression_with_guides.h5ad", "expression counts with guide and perturbation"
        ),
        OutputFile("data/crispyx_filtered.h5ad", "counts after quality control"),
        OutputFile("data/crispyx_normalized_log1p.h5ad", "normalized expression"),
        OutputFile("data/crispyx_wilcoxon.h5ad", "Wilcoxon results, perturbations x genes"),
    ]


def long_table(result: RankGenesGroupsResult) -> pd.DataFrame:
    """Return one row per perturbation and gene, in the order of the result, best genes first."""
    import pandas as pd

    rows = np.arange(len(result.groups))[:, None]
    order = result.order

    def flat(table: np.ndarray) -> np.ndarray:
        return table[rows, order].ravel()

    return pd.DataFrame(
        {
            "perturbation": np.repeat(np.array(result.groups, dtype=object), len(result.genes)),
            "gene": np.asarray(result.genes, dtype=object)[order].ravel(),
            "z_score": flat(result.statistics),
            "log2_fold_change": flat(result.logfoldchanges),
            "p_value": flat(result.pvalues),
            "p_value_adjusted": flat(result.pvalues_adj),
            "effect_size": flat(result.effect_size),
            "fraction_perturbed_cells": flat(result.pts),
            "fraction_control_cells": flat(result.pts_rest),
        }
    )


def perturbation_frame(rows: Any) -> pd.DataFrame:
    """Return one row per perturbation."""
    import pandas as pd

    return pd.DataFrame([_flat(row) for row in rows])


def _flat(row: PerturbationSummary) -> dict[str, Any]:
    target = row.target
    return {
        "perturbation": row.perturbation,
        "n_cells": row.n_cells,
        "n_genes_tested": row.n_tested,
        "n_genes_changed": row.n_hits,
        "n_genes_lowered": row.n_lowered,
        "n_genes_raised": row.n_raised,
        "top_gene": row.top_gene,
        "top_gene_log2_fold_change": row.top_logfoldchange,
        "top_gene_p_value_adjusted": row.top_pvalue_adj,
        "target_gene": None if target is None else target.gene,
        "target_log2_fold_change": None if target is None else target.logfoldchange,
        "target_p_value": None if target is None else target.pvalue,
        "target_p_value_adjusted": None if target is None else target.pvalue_adj,
        "target_rank": None if target is None else target.rank,
        "target_fraction_perturbed_cells": None if target is None else target.pts,
        "target_fraction_control_cells": None if target is None else target.pts_rest,
    }
