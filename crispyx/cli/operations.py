"""The operations on one file, from quality control to differential expression."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crispyx.cli.operation import Operation

ALPHA = 0.05
Given = Mapping[str, Any]


def _counted(n: int, word: str) -> str:
    return f"{n:,} {word}" if n == 1 else f"{n:,} {word}s"


def _shape(path: Path) -> dict[str, Any]:
    from crispyx._io.source import open_source

    with open_source(path) as source:
        return {"n_cells": source.shape[0], "n_genes": source.shape[1], "layout": source.layout}


def _written(value: Any, source: str, options: Given) -> dict[str, Any]:
    path = Path(getattr(value, "path", value))
    return {"output": str(path), **_shape(path)}


def _tenx(value: Any, source: str, options: Given) -> dict[str, Any]:
    return {
        part: _written(held, source, options)
        for part, held in value._asdict().items()
        if held is not None
    }


def _tenx_line(facts: Given) -> str:
    lines = [
        f"{part}: {_matrix_line(facts[part])}" for part in ("expression", "guides") if part in facts
    ]
    return "\n".join(lines)


def _matrix_line(facts: Given) -> str:
    return (
        f"{facts['n_cells']:,} cells x {facts['n_genes']:,} genes, {facts['layout']} "
        f"-> {facts['output']}"
    )


def _quality(value: Any, source: str, options: Given) -> dict[str, Any]:
    dropped = [label for label, kept in value.perturbation_keep.items() if not kept]
    return {
        "output": str(value.filtered_path),
        "n_cells_before": len(value.cell_mask),
        "n_cells": int(value.cell_mask.sum()),
        "n_genes_before": len(value.gene_mask),
        "n_genes": int(value.gene_mask.sum()),
        "n_perturbations": len(value.perturbation_keep) - len(dropped),
        "perturbations_dropped": dropped,
    }


def _quality_line(facts: Given) -> str:
    return (
        f"kept {facts['n_cells']:,} of {facts['n_cells_before']:,} cells, {facts['n_genes']:,} of "
        f"{facts['n_genes_before']:,} genes, {_counted(facts['n_perturbations'], 'label')} "
        f"({len(facts['perturbations_dropped'])} dropped) -> {facts['output']}"
    )


def _added(*places: str) -> Any:
    def facts(value: Any, source: str, options: Given) -> dict[str, Any]:
        return {"output": str(getattr(value, "path", source)), "added": list(places)}

    return facts


def _added_line(facts: Given) -> str:
    return f"added {', '.join(facts['added'])} -> {facts['output']}"


def _profiles(value: Any, source: str, options: Given) -> dict[str, Any]:
    shape = _shape(Path(value.path))
    return {
        "output": str(value.path),
        "n_profiles": shape["n_cells"],
        "n_genes": shape["n_genes"],
    }


def _profiles_line(facts: Given) -> str:
    return (
        f"{_counted(facts['n_profiles'], 'profile')} x {facts['n_genes']:,} genes "
        f"-> {facts['output']}"
    )


def tested(value: Any, source: str, options: Given) -> dict[str, Any]:
    """Return what a comparison found, read one perturbation at a time."""
    hits = {label: _hits(value[label].pvalue_adj) for label in value.groups}
    return {
        "output": str(value.result_path),
        "method": value.method,
        "control": value.control_label,
        "n_perturbations": len(value.groups),
        "n_genes": len(value.genes),
        "alpha": ALPHA,
        "n_hits": sum(hits.values()),
        "hits": hits,
    }


def _hits(adjusted: np.ndarray) -> int:
    return int(np.count_nonzero(adjusted <= ALPHA))


def tested_line(facts: Given) -> str:
    """Return the line for people of what a comparison found."""
    changing = sum(n > 0 for n in facts["hits"].values())
    return (
        f"{facts['method']}: {_counted(facts['n_perturbations'], 'perturbation')} x "
        f"{facts['n_genes']:,} genes against {facts['control']}; {changing} of them change "
        f"{_counted(facts['n_hits'], 'gene')} in all at adjusted p <= {facts['alpha']:g} "
        f"-> {facts['output']}"
    )


def _shrunk(value: Any, source: str, options: Given) -> dict[str, Any]:
    from crispyx._io.result_file import ResultFile

    uns = ResultFile(value.result_path).uns()
    scales = map(float, uns["prior_scale"])
    return {
        "output": str(value.result_path),
        "shrinkage_method": str(uns["shrinkage_method"]),
        "prior_scale_mode": str(uns["prior_scale_mode"]),
        "n_perturbations": len(value.groups),
        "n_genes": len(value.genes),
        "prior_scale": dict(zip(value.groups, scales, strict=True)),
    }


def _shrunk_line(facts: Given) -> str:
    scales = sorted(facts["prior_scale"].values())
    ends = [f"{scale:.3g}" for scale in (scales[0], scales[-1])]
    return (
        f"{facts['shrinkage_method']}: {_counted(facts['n_perturbations'], 'perturbation')} x "
        f"{facts['n_genes']:,} genes, scale of the prior {' to '.join(dict.fromkeys(ends))} "
        f"(natural log) -> {facts['output']}"
    )


def _calibrated(value: Any, source: str, options: Given) -> dict[str, Any]:
    shares = {
        kind: {
            method: {name: row[name] for name in ("tests", "share_05", "share_001", "inflation")}
            for method, row in value.of_all_genes(kind).iterrows()
        }
        for kind in dict.fromkeys(value.bins["kind"])
    }
    shifted = value.depth[value.depth["shift"] != ""]
    return {
        "output": str(value.result_path),
        "shares": shares,
        "shifted": dict(zip(shifted["perturbation"], shifted["ratio"], strict=True)),
        "summary": value.summary(),
    }


def _calibrated_line(facts: Given) -> str:
    return f"{facts['summary']}\n-> {facts['output']}"


def _page(value: Any, source: str, options: Given) -> dict[str, Any]:
    return {"output": str(value), "bytes": Path(value).stat().st_size}


def _page_line(facts: Given) -> str:
    return f"{facts['bytes'] / 1e6:.1f} MB -> {facts['output']}; open it in a browser"


QC = Operation(
    "qc",
    "crispyx.qc",
    "quality_control_summary",
    "Keep the cells, perturbations and genes of FILE with enough counts, and write them.",
    _quality,
    _quality_line,
    shown={
        "min_genes": "Genes that a cell must express.",
        "min_cells_per_perturbation": "Cells left that a perturbation must have.",
        "min_cells_per_gene": "Cells left that must express a gene.",
        "cache_mode": "What later passes over a large file read.",
    },
    writes_beside=True,
)
NORMALIZE = Operation(
    "normalize",
    "crispyx.data",
    "normalize_total_log1p",
    "Scale every cell of FILE to one total and take log(1 + x).",
    _written,
    _matrix_line,
)
TENX = Operation(
    "read-10x",
    "crispyx.data",
    "read_10x",
    "Write the genes and the guides of a 10x matrix (FILE.h5 or an mtx folder) to files.",
    _tenx,
    _tenx_line,
    writes_beside=True,
)
SORT = Operation(
    "sort",
    "crispyx.data",
    "sort_by_perturbation",
    "Write the cells of FILE in the order of their perturbations, the control first.",
    _written,
    _matrix_line,
)
CONVERT = {
    layout: Operation(
        "convert",
        "crispyx.data",
        f"convert_to_{layout}",
        "Write the matrix of FILE as CSR or CSC.",
        _written,
        _matrix_line,
    )
    for layout in ("csr", "csc")
}
SUBSAMPLE = Operation(
    "subsample",
    "crispyx.data",
    "subsample",
    "Write some of the cells of FILE, drawn at random.",
    _written,
    _matrix_line,
    shown={"groupby": "obs column of groups; that many cells are drawn of each."},
)
DOWNSAMPLE = Operation(
    "downsample",
    "crispyx.data",
    "downsample_counts",
    "Write FILE with fewer molecules in every cell, drawn at random.",
    _written,
    _matrix_line,
    shown={"counts_per_cell": "Molecules to keep of each cell."},
)
CONCAT = Operation(
    "concat",
    "crispyx.data",
    "concat_h5ad",
    "Write the cells of several FILEs, one after another, into one file.",
    _written,
    _matrix_line,
    argument="FILE...",
    shown={"keys": "Name of each file, in order; repeat it. The files' names unless given."},
    several=True,
)
COMPRESS = Operation(
    "compress",
    "crispyx.data",
    "compress_h5ad",
    "Write a copy of FILE that takes less space and holds the same numbers.",
    _written,
    _matrix_line,
)
HVG = Operation(
    "hvg",
    "crispyx.dimred",
    "highly_variable_genes",
    "Mark the genes of FILE that vary most, in place (or in a copy, with --copy).",
    _added("var/highly_variable", "uns/hvg"),
    _added_line,
    without=("inplace",),
)
PCA = Operation(
    "pca",
    "crispyx.dimred",
    "pca",
    "Add principal components to FILE, in place (or to a copy, with --copy).",
    _added("obsm/X_pca", "varm/PCs", "uns/pca"),
    _added_line,
    shown={"method": "How the components are found."},
)
NEIGHBORS = Operation(
    "neighbors",
    "crispyx.dimred",
    "neighbors",
    "Add the graph of nearest cells to FILE, in place (or to a copy, with --copy).",
    _added("obsp/distances", "obsp/connectivities", "uns/neighbors"),
    _added_line,
)
UMAP = Operation(
    "umap",
    "crispyx.dimred",
    "umap",
    "Add a UMAP of the cells to FILE, in place (or to a copy, with --copy).",
    _added("obsm/X_umap", "uns/umap"),
    _added_line,
)
PSEUDOBULK = tuple(
    Operation(name, "crispyx.pseudobulk", function, text, _profiles, _profiles_line, shown=shown)
    for name, function, text, shown in (
        (
            "aggregate",
            "aggregate",
            "Add up, or average, the cells of every combination of obs columns of FILE.",
            {"groupby": "obs column; repeat it for combinations."},
        ),
        (
            "average-log-expression",
            "compute_average_log_expression",
            "Average the log expression of every perturbation of FILE, minus the control's.",
            {},
        ),
        (
            "pseudobulk",
            "compute_pseudobulk_expression",
            "Take the log of mean expression of every perturbation of FILE, minus the control's.",
            {},
        ),
        (
            "effects",
            "effects",
            "Compute mean log expression, perturbed minus control, within every batch of FILE.",
            {},
        ),
        (
            "normalized-effects",
            "normalized_effects",
            "Compute effects on normalized expression, averaged over the batches of FILE.",
            {},
        ),
    )
)
TESTS = (
    Operation(
        "t-test",
        "crispyx.de",
        "t_test",
        "Welch's t-test of every perturbation of FILE against the control.",
        tested,
        tested_line,
        turns=True,
    ),
    Operation(
        "wilcoxon",
        "crispyx.de",
        "wilcoxon_test",
        "Wilcoxon's rank-sum test of every perturbation of FILE against the control.",
        tested,
        tested_line,
        turns=True,
    ),
    Operation(
        "nb-glm",
        "crispyx.de",
        "nb_glm_test",
        "Negative binomial model of the counts in FILE, every perturbation against the control.",
        tested,
        tested_line,
        without=("size_factors",),
        turns=True,
        shown={"covariates": "obs column to adjust for; may be repeated."},
    ),
)
RESIDUAL_EFFECTS = Operation(
    "residual-effects",
    "crispyx.de",
    "residual_effects",
    "Estimate the effect of every perturbation of FILE beside covariates and other guides.",
    _profiles,
    _profiles_line,
    shown={"covariates": "obs column to adjust for; may be repeated."},
)
SHRINK = Operation(
    "shrink",
    "crispyx.de",
    "shrink_lfc",
    "Pull the fold changes of RESULT, as `crispyx de nb-glm` wrote it, towards 0 (apeGLM).",
    _shrunk,
    _shrunk_line,
    argument="RESULT",
    shown={
        "data_name": "Name of the new result; the old one's with _shrunk unless given.",
        "method": "What fold changes are judged by: their errors, or the counts.",
        "output_dir": "Folder of the new result; the old one's unless given.",
    },
)
CALIBRATION = Operation(
    "calibration",
    "crispyx.de",
    "calibration",
    "Test control cells of FILE (counts) against control cells: which methods find what is not "
    "there.",
    _calibrated,
    _calibrated_line,
    shown={
        "methods": "t_test, wilcoxon, calibrated, nb_glm, pydeseq2, lrt or permutation; may be "
        "repeated.",
        "max_depth_shift": "Share by which a perturbation must be shallower or deeper to be named.",
    },
)
REPORT = Operation(
    "report",
    "crispyx.report",
    "screen_report",
    "Write one self-contained HTML page about a screen from RESULT, as `crispyx de` wrote it.",
    _page,
    _page_line,
    argument="RESULT",
    without=("target_genes", "files"),
    shown={
        "calibration": "Result of `crispyx calibration`, for a section about it.",
        "filtered": "Labelled counts after quality control, beside --screen.",
        "screen": "Labelled counts before quality control, for a section about it.",
        "force": "Replace a page that exists.",
        "output_path": "The page; report.html unless given.",
    },
)
