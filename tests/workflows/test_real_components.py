"""Components, neighbors and layouts of real screens are those of the outside tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

import crispyx as cx

N_COMPS = 20
FILES = {"papalexi": "papalexi_eccite_299genes", "norman": "norman2019_crispra_500hvg"}


@pytest.fixture(scope="module", params=FILES)
def logs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data_dir = request.getfixturevalue("data_dir")
    output = tmp_path_factory.mktemp("components") / f"{request.param}.h5ad"
    cx.pp.normalize_total_log1p(data_dir / f"{FILES[request.param]}.h5ad", output, verbose=False)
    return output


@pytest.fixture(scope="module")
def arpack(logs: Path) -> Any:
    """Return what scanpy finds, a component more than is compared."""
    import scanpy

    expected = anndata.read_h5ad(logs)
    expected.X = expected.X.astype(np.float64)
    scanpy.pp.pca(expected, n_comps=N_COMPS + 1, svd_solver="arpack", dtype="float64")
    return expected


def residual(x: Any, loadings: np.ndarray, variance: np.ndarray) -> float:
    """Return the largest ||C v - lambda v|| over the largest variance, C the covariance."""
    v = loadings.astype(np.float64)
    scores = x @ v - np.asarray(x.mean(axis=0)).ravel() @ v
    image = x.T @ scores / (x.shape[0] - 1)  # the scores have mean 0: no gene has to be centered
    return float(np.linalg.norm(image - v * variance, axis=0).max() / variance[0])


@pytest.mark.parametrize("method", ["sparse_cov", "incremental"])
def test_components_are_those_of_arpack(method: str, logs: Path, arpack: Any) -> None:
    found = anndata.read_h5ad(logs)
    cx.pp.pca(found, n_comps=N_COMPS, method=method, show_progress=False)
    variance, loadings = found.uns["pca"]["variance"], found.varm["PCs"]
    expected = arpack.uns["pca"]["variance"]
    # Eigenvalues err by the square of the residual.
    np.testing.assert_allclose(variance, expected[:N_COMPS], rtol=1e-6)
    assert residual(found.X.astype(np.float64), loadings, variance) <= 1e-4
    theirs = arpack.varm["PCs"][:, :N_COMPS]
    ours = loadings.astype(np.float64)
    sine = np.linalg.norm(ours - theirs @ (theirs.T @ ours), ord=2)  # of the largest angle
    # Davis and Kahan: the residuals over the gap to the next variance; float32 loadings beside it.
    gap = expected[N_COMPS - 1] - expected[N_COMPS]
    stated = {"sparse_cov": 0.0, "incremental": 1e-5 * np.sqrt(N_COMPS)}[method]
    assert sine <= stated * expected[0] / gap + 1e-5


def test_layouts_of_a_real_screen_change_no_bit(logs: Path) -> None:
    kept = anndata.read_h5ad(logs)
    found = []
    for layout in (sp.csr_matrix, sp.csc_matrix, lambda x: x.toarray()):
        data = anndata.AnnData(layout(kept.X))
        cx.pp.pca(data, n_comps=N_COMPS, show_progress=False)
        found.append(data)
    for data in found[1:]:
        np.testing.assert_array_equal(data.obsm["X_pca"], found[0].obsm["X_pca"])
        np.testing.assert_array_equal(data.varm["PCs"], found[0].varm["PCs"])


def neighbor_sets(data: Any) -> list[set[int]]:
    graph = data.obsp["distances"].tocsr()
    return [
        {*graph.indices[a:b].tolist()}
        for a, b in zip(graph.indptr[:-1], graph.indptr[1:], strict=True)
    ]


@pytest.mark.slow  # pynndescent compiles itself
@pytest.mark.filterwarnings("ignore::UserWarning:umap", "ignore:n_jobs value")
def test_approximate_neighbors_are_nearly_all_exact_and_the_layout_opens_in_scanpy(
    logs: Path, tmp_path: Path
) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import scanpy

    path = tmp_path / "screen.h5ad"
    path.write_bytes(logs.read_bytes())
    cx.pp.pca(path, n_comps=N_COMPS, show_progress=False)
    found = {}
    for method in ("sklearn", "umap"):
        cx.pp.neighbors(path, n_neighbors=15, method=method, show_progress=False)
        found[method] = neighbor_sets(anndata.read_h5ad(path))
    n = sum(map(len, found["sklearn"]))
    hits = sum(len(a & b) for a, b in zip(found["sklearn"], found["umap"], strict=True))
    assert hits / n > 0.95, "as pynndescent's own tests ask for"
    cx.tl.umap(path)
    adata = anndata.read_h5ad(path)
    assert np.isfinite(adata.obsm["X_umap"]).all()
    ax = scanpy.pl.umap(adata, color="perturbation", show=False)
    assert len(ax.collections[0].get_offsets()) == adata.n_obs
    plt.close("all")
