"""Tests, quality control, normalization, components, neighbors, variable genes, totals: scanpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import crispyx as cx
from validation.parity.check import Check
from validation.parity.ours import by_engine, tested
from validation.parity.screens import Screen, screen
from validation.parity.suites import Bench, Case

N_COMPONENTS = 20
N_NEIGHBORS = 15
N_VARIABLE = 100
# Which matrix of a screen each way of ranking genes looks at.
FLAVORS = {"seurat_v3": "counts", "seurat": "logged", "cell_ranger": "logged"}
THRESHOLDS = {
    "simulated": (20, 60, 100),
    "papalexi": (60, 200, 500),
    "norman": (10, 100, 50),
}
# scanpy's p-values have float32 moments behind them.
COUNTED_RTOL = 1e-3
# Where scanpy ends in an error: so few counts that scikit-misc's curve finds "near singularities",
# and that percentiles of the means are equal, which its bins may not be.
NO_ANSWER = {("seurat_v3", "norman"), ("cell_ranger", "norman")}
# Where means are equal, curves that both programs fit well differ by less.
CURVE_RTOL = 0.01
# Our function and scanpy's name of every test.
TESTS: Mapping[str, tuple[Callable[..., Any], str]] = {
    "rank_sum": (cx.wilcoxon_test, "wilcoxon"),
    "welch": (cx.t_test, "t-test"),
}
FIELDS = (
    ("score", "scores", "statistics"),
    ("p", "pvals", "pvalues"),
    ("adjusted p", "pvals_adj", "pvalues_adj"),
    ("log2 fold change", "logfoldchanges", "logfoldchanges"),
)


def _constant_arms(cells: Screen) -> np.ndarray:
    """Return whether neither control nor group varies (n_groups, n_genes) bool."""
    codes = range(len(cells.groups) + 1)
    still = np.array([np.ptp(cells.dense[cells.code == k], axis=0) == 0 for k in codes])
    return np.asarray(still[1:] & still[0])


def _counted(theirs: np.ndarray, ours: np.ndarray, untested: np.ndarray) -> np.ndarray:
    """Return where adjusted p-values differ by the untested genes that scanpy counts."""
    tested = 1 - untested.mean(axis=1, keepdims=True)
    close = np.isclose(theirs * tested, ours, rtol=COUNTED_RTOL, atol=0) | (theirs == 1)
    return np.asarray((close & untested.any(axis=1, keepdims=True)) | untested)


def _tests(method: str) -> Callable[[Bench, str], Iterator[Check]]:
    ours, theirs = TESTS[method]

    def checks(bench: Bench, data: str) -> Iterator[Check]:
        cells = screen(data, bench.cache)
        files = {"screen": cells.logged}
        found = bench.outside.ask(
            "scanpy", "ranked", files=files, method=theirs, control=cells.control
        )
        reference, compiled = by_engine(tested(ours, cells.logged, cells.control))
        labels = (cells.groups, cells.genes)
        still = _constant_arms(cells)
        for quantity, key, name in FIELDS:
            explained: dict[str, np.ndarray] = {}
            if method == "welch" and quantity in {"score", "p"}:
                explained = {"no arm varies": still}
            elif method == "welch" and quantity == "adjusted p":
                explained = {"untested genes counted": _counted(found[key], compiled[name], still)}
            values = reference[name], compiled[name]
            yield Check(method, quantity, found[key], *values, explained, labels)
        yield Check(
            "moments", "share above 0", found["pts"], reference["pts"], compiled["pts"], {}, labels
        )

    return checks


def _normalized(bench: Bench, data: str) -> Iterator[Check]:
    cells = screen(data, bench.cache)
    theirs = bench.outside.ask("scanpy", "normalized", files={"screen": cells.counts})

    def compute(folder: Path) -> Any:
        import anndata

        path = folder / "normalized.h5ad"
        cx.pp.normalize_total_log1p(cells.counts, path, verbose=False)
        found = anndata.read_h5ad(path).X
        found.sort_indices()
        return found

    reference, compiled = by_engine(compute)
    for quantity, name in (("values", "data"), ("indices", "indices")):
        ours = getattr(reference, name), getattr(compiled, name)
        yield Check("normalize", quantity, theirs[quantity], *ours)


def _quality(bench: Bench, data: str) -> Iterator[Check]:
    cells = screen(data, bench.cache)
    n_genes, n_labelled, n_cells = THRESHOLDS[data]
    theirs = bench.outside.ask(
        "scanpy",
        "quality",
        files={"screen": cells.counts},
        control=cells.control,
        min_genes=n_genes,
        min_labelled=n_labelled,
        min_cells=n_cells,
    )

    def compute(_: Path) -> dict[str, np.ndarray]:
        from crispyx.qc import quality_control_summary

        found = quality_control_summary(
            cells.counts,
            min_genes=n_genes,
            min_cells_per_perturbation=n_labelled,
            min_cells_per_gene=n_cells,
            perturbation_column="perturbation",
            control_label=cells.control,
        )
        return {
            "n_genes": found.cell_gene_counts,
            "n_cells": found.gene_cell_counts,
            "cells": found.cell_mask,
            "genes": found.gene_mask,
        }

    reference, compiled = by_engine(compute)
    words = {
        "n_genes": "genes of a cell",
        "n_cells": "cells of a gene",
        "cells": "cells kept",
        "genes": "genes kept",
    }
    for name, quantity in words.items():
        yield Check("qc", quantity, theirs[name], reference[name], compiled[name])


def _components(bench: Bench, data: str) -> Iterator[Check]:
    cells = screen(data, bench.cache)
    theirs = bench.outside.ask(
        "scanpy", "components", files={"screen": cells.logged}, n_comps=N_COMPONENTS
    )

    for method in ("sparse_cov", "incremental"):

        def compute(_: Path, method: str = method) -> dict[str, np.ndarray]:
            found = cells.cells.copy()
            cx.pp.pca(found, n_comps=N_COMPONENTS, method=method, show_progress=False)
            return {
                "variance": found.uns["pca"]["variance"],
                "variance_ratio": found.uns["pca"]["variance_ratio"],
                "components": found.varm["PCs"],
                "coordinates": found.obsm["X_pca"],
            }

        reference, compiled = by_engine(compute)
        for name in ("variance", "variance_ratio"):
            quantity = f"{name.replace('_', ' ')}, {method}"
            yield Check("pca", quantity, theirs[name], reference[name], compiled[name])
        # The sign of a component is free: those of the reference are given to the others.
        anchor = reference["components"]
        for name in ("components", "coordinates"):
            outside, kernels = (
                one[name] * np.sign((one["components"] * anchor).sum(axis=0))
                for one in (theirs, compiled)
            )
            scale = np.abs(outside).max()
            values = outside / scale, reference[name] / scale, kernels / scale
            yield Check("pca", f"{name}, {method}", *values)


def _neighbors(bench: Bench, data: str) -> Iterator[Check]:
    cells = screen(data, bench.cache)
    found = cells.cells.copy()
    cx.pp.pca(found, n_comps=N_COMPONENTS, show_progress=False)
    theirs = bench.outside.ask(
        "scanpy",
        "neighbors",
        {"embedding": found.obsm["X_pca"]},
        n_neighbors=N_NEIGHBORS,
    )
    cx.pp.neighbors(found, n_neighbors=N_NEIGHBORS, method="sklearn", show_progress=False)
    for name in ("distances", "connectivities"):
        graph = found.obsp[name].tocsr()
        graph.sort_indices()
        for part in ("indices", "data"):
            yield Check(
                "neighbors", f"{name}, {part}", theirs[f"{name} {part}"], None, getattr(graph, part)
            )


def _totals(bench: Bench, data: str) -> Iterator[Check]:
    cells = screen(data, bench.cache)
    groupings: Sequence[list[str]] = [["perturbation"]]
    if "batch" in cells.cells.obs:
        groupings = [*groupings, ["perturbation", "batch"]]
    for method, key, log1p in (("sum", "sum", False), ("mean_log1p", "mean", True)):
        for by in groupings:
            theirs = bench.outside.ask(
                "scanpy", "totals", files={"screen": cells.counts}, by=by, log1p=log1p
            )

            def compute(folder: Path, by: list[str] = by, method: str = method) -> Any:
                found = cx.pb.aggregate(
                    cells.counts, groupby=by, method=method, min_cells=1, output_dir=folder
                ).to_memory()
                order = np.argsort(found.obs_names.astype(str))
                return np.asarray(found.X)[order]

            labels = (theirs["names"], cells.genes)
            quantity = f"{method} by {' and '.join(by)}"
            yield Check("pseudobulk", quantity, theirs[key], *by_engine(compute), labels=labels)


def _variable(bench: Bench, data: str) -> Iterator[Check]:
    cells = screen(data, bench.cache)
    for flavor, path in FLAVORS.items():
        if (flavor, data) in NO_ANSWER:
            continue
        file = getattr(cells, path)
        theirs = bench.outside.ask(
            "scanpy", "variable", files={"screen": file}, flavor=flavor, n_top_genes=N_VARIABLE
        )

        def compute(_: Path, flavor: str = flavor, file: Path = file) -> Any:
            return cx.pp.highly_variable_genes(
                file,
                n_top_genes=N_VARIABLE,
                flavor=flavor,
                cells="all",
                inplace=False,
                show_progress=False,
            )

        ours = by_engine(compute)
        tied = _tied(theirs, ours[1]) if flavor == "seurat_v3" else {}
        for name, values in theirs.items():
            quantity = f"{name.replace('_', ' ')}, {flavor}"
            reference, compiled = (table[name].to_numpy() for table in ours)
            given = values, reference, compiled
            explained = {"equal means": tied[name]} if name in tied else {}
            labels = (cells.genes,)
            yield Check("highly_variable_genes", quantity, *given, explained, labels)


def _tied(theirs: Mapping[str, np.ndarray], ours: Any) -> dict[str, np.ndarray]:
    """Return the genes that the curve through equal means explains, by column (n_genes,) bool."""
    means = theirs["means"][theirs["variances"] > 0]
    if len(np.unique(means)) == len(means):
        return {}
    norm = theirs["variances_norm"]
    last = np.sort(norm)[-N_VARIABLE]
    return {
        "variances_norm": np.isclose(ours["variances_norm"], norm, rtol=CURVE_RTOL, atol=0),
        "highly_variable": np.isclose(norm, last, rtol=CURVE_RTOL, atol=0),
    }


CASES = (
    *(Case("rank_sum", data, _tests("rank_sum")) for data in ("simulated", "papalexi", "norman")),
    *(Case("welch", data, _tests("welch")) for data in ("simulated", "papalexi", "norman")),
    *(Case("normalize", data, _normalized) for data in ("simulated", "papalexi", "schraivogel")),
    *(Case("qc", data, _quality) for data in ("simulated", "papalexi", "norman")),
    *(Case("pca", data, _components) for data in ("simulated", "papalexi", "norman")),
    Case("neighbors", "norman", _neighbors),
    *(
        Case("highly_variable_genes", data, _variable)
        for data in ("simulated", "papalexi", "norman")
    ),
    *(Case("pseudobulk", data, _totals) for data in ("simulated", "papalexi")),
)
