"""scanpy: tests, quality control, normalization, components, neighbors, variable genes, totals."""

from __future__ import annotations

from typing import Any

import numpy as np

Arrays = dict[str, Any]


def ranked(arrays: Arrays, files: Arrays, method: str, control: str) -> Arrays:
    """Rank all genes of every perturbation."""
    import scanpy as sc

    screen = sc.read_h5ad(files["screen"])
    sc.tl.rank_genes_groups(
        screen,
        "perturbation",
        reference=control,
        method=method,
        pts=True,
        **({"tie_correct": True} if method == "wilcoxon" else {}),
    )
    result = screen.uns["rank_genes_groups"]
    groups = sorted(result["names"].dtype.names)
    found = {}
    for name in ("scores", "pvals", "pvals_adj", "logfoldchanges"):
        table = np.empty((len(groups), screen.n_vars))
        for row, group in enumerate(groups):
            table[row, screen.var_names.get_indexer(result["names"][group])] = result[name][group]
        found[name] = table
    shares = result["pts"].loc[screen.var_names, [*groups, control]].to_numpy().T
    return found | {"pts": shares[:-1], "pts_rest": shares[-1], "groups": np.array(groups)}


def normalized(arrays: Arrays, files: Arrays) -> Arrays:
    """Scale cells to 10,000 and take log1p."""
    import scanpy as sc

    screen = sc.read_h5ad(files["screen"])
    sc.pp.normalize_total(screen, target_sum=1e4)
    sc.pp.log1p(screen)
    screen.X.sort_indices()
    return {"values": screen.X.data, "indices": screen.X.indices}


def quality(
    arrays: Arrays, files: Arrays, control: str, min_genes: int, min_labelled: int, min_cells: int
) -> Arrays:
    """Count, then filter cells, perturbations and genes."""
    import scanpy as sc

    screen = sc.read_h5ad(files["screen"])
    of_cell, _ = sc.pp.calculate_qc_metrics(screen, percent_top=None, log1p=False)
    screen.obs["position"] = np.arange(screen.n_obs)
    screen.var["position"] = np.arange(screen.n_vars)
    masks = {"cells": np.zeros(screen.n_obs, bool), "genes": np.zeros(screen.n_vars, bool)}
    sc.pp.filter_cells(screen, min_genes=min_genes)
    labels = screen.obs["perturbation"].astype(str)
    enough = labels.map(labels.value_counts()) >= min_labelled
    screen = screen[(enough | (labels == control)).to_numpy()].copy()
    counted, _ = sc.pp.filter_genes(screen, min_cells=min_cells, inplace=False)
    masks["cells"][screen.obs["position"]] = True
    masks["genes"][screen.var["position"][counted]] = True
    expressing = sc.pp.filter_genes(screen, min_cells=0, inplace=False)[1]
    return masks | {"n_genes": of_cell["n_genes_by_counts"].to_numpy(), "n_cells": expressing}


def components(arrays: Arrays, files: Arrays, n_comps: int) -> Arrays:
    """Find principal components by ARPACK."""
    import scanpy as sc

    screen = sc.read_h5ad(files["screen"])
    screen.X = screen.X.astype(float)
    sc.pp.pca(screen, n_comps=n_comps, svd_solver="arpack", dtype="float64")
    found = screen.uns["pca"]
    return {
        "variance": found["variance"],
        "variance_ratio": found["variance_ratio"],
        "components": screen.varm["PCs"],
        "coordinates": screen.obsm["X_pca"],
    }


def neighbors(arrays: Arrays, files: Arrays, n_neighbors: int) -> Arrays:
    """Connect cells in a given embedding, exact search."""
    import anndata
    import scanpy as sc

    cells = anndata.AnnData(np.zeros((len(arrays["embedding"]), 1), dtype=np.float32))
    cells.obsm["X_pca"] = arrays["embedding"]
    sc.pp.neighbors(cells, n_neighbors=n_neighbors, use_rep="X_pca", transformer="sklearn")
    found: Arrays = {}
    for name in ("distances", "connectivities"):
        graph = cells.obsp[name].tocsr()
        graph.sort_indices()
        found |= {f"{name} data": graph.data, f"{name} indices": graph.indices}
        found[f"{name} indptr"] = graph.indptr
    return found


def variable(arrays: Arrays, files: Arrays, flavor: str, n_top_genes: int) -> Arrays:
    """Rank genes by how much they vary for their mean."""
    import scanpy as sc

    screen = sc.read_h5ad(files["screen"])
    screen.X = screen.X.astype(float)
    found = sc.pp.highly_variable_genes(
        screen, flavor=flavor, n_top_genes=n_top_genes, inplace=False
    )
    names = (
        ("variances", "variances_norm")
        if flavor == "seurat_v3"
        else ("dispersions", "dispersions_norm")
    )
    return {name: found[name].to_numpy() for name in ("highly_variable", "means", *names)}


def totals(arrays: Arrays, files: Arrays, by: list[str], log1p: bool) -> Arrays:
    """Add up or average the cells of every combination of labels."""
    import scanpy as sc

    screen = sc.read_h5ad(files["screen"])
    screen.X = screen.X.astype(float)
    if log1p:
        sc.pp.log1p(screen)
    found = sc.get.aggregate(screen, by=by, func=["sum", "mean"])
    names = ["|".join(map(str, row)) for row in found.obs[by].to_numpy()]
    order = np.argsort(names)
    tables = {name: np.asarray(found.layers[name])[order] for name in ("sum", "mean")}
    return tables | {"names": np.array(names)[order]}
