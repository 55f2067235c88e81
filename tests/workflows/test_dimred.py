"""Principal components, neighbor graph and UMAP of a data set on disk or in memory."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pytest
import scipy.sparse as sp
from layouts import FILES, OBJECTS, in_memory, write_h5ad

import crispyx as cx
from crispyx import dimred
from crispyx._io import row_passes
from crispyx.errors import CrispyxWarning, InputError, OutputBusyError

N_CELLS, N_GENES, N_COMPS = 90, 30, 6


def screen() -> tuple[np.ndarray, list[str]]:
    """Return log values (n_cells, n_genes) with two groups of cells, and their labels."""
    rng = np.random.default_rng(0)
    labels = ["KLF1", "control"] * (N_CELLS // 2)
    mean = rng.gamma(1.0, 1.0, (1, N_GENES)) * np.exp(rng.normal(size=(N_CELLS, 1)) * 0.3)
    mean[::2, :10] *= 3
    return np.log1p(rng.poisson(mean)).astype(np.float32).astype(np.float64), labels


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_h5ad(tmp_path / "screen.h5ad", *screen())


def results(data: Any) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    if isinstance(data, Path):
        data = anndata.read_h5ad(data)
    return data.obsm["X_pca"], data.varm["PCs"], data.uns["pca"]


def test_the_results_are_those_of_scanpy(path: Path) -> None:
    import scanpy

    expected = anndata.read_h5ad(path)
    expected.X = expected.X.astype(np.float64)  # else scanpy sums in float32
    scanpy.pp.pca(expected, n_comps=N_COMPS, svd_solver="covariance_eigh", dtype="float64")
    cx.pp.pca(path, n_comps=N_COMPS)
    table, loadings, info = results(path)
    signs = np.sign(np.sum(loadings * expected.varm["PCs"], axis=0))
    # float32 in the file
    np.testing.assert_allclose(table * signs, expected.obsm["X_pca"], atol=2e-6)
    np.testing.assert_allclose(loadings * signs, expected.varm["PCs"], atol=1e-6)
    for name in ("variance", "variance_ratio"):
        np.testing.assert_allclose(info[name], expected.uns["pca"][name], rtol=1e-12)
    assert (table.dtype, loadings.dtype) == (np.float32, np.float32)
    assert info["method"] == "sparse_cov"
    assert int(info["n_comps"]) == N_COMPS
    assert not info["use_highly_variable"]


def test_both_methods_and_both_engines_agree(path: Path) -> None:
    found = []
    for method in ("sparse_cov", "incremental"):
        cx.pp.pca(path, n_comps=N_COMPS, method=method)
        found.append(results(path))
        assert found[-1][2]["method"] == method
    with cx.use_engine("reference"):
        cx.pp.pca(path, n_comps=N_COMPS)
    found.append(results(path))
    for table, loadings, info in found[1:]:
        # Lanczos stops at 1e-5 of the largest variance.
        np.testing.assert_allclose(table, found[0][0], atol=1e-3)
        np.testing.assert_allclose(loadings, found[0][1], atol=1e-3)
        np.testing.assert_allclose(info["variance"], found[0][2]["variance"], rtol=1e-6)


@pytest.mark.parametrize("method", ["sparse_cov", "incremental"])
@pytest.mark.parametrize("kind", ["csc", "dense", "csr unsorted", "csc stored zeros", "csr gzip"])
def test_layouts_change_no_bit(kind: str, method: str, path: Path, tmp_path: Path) -> None:
    other = write_h5ad(tmp_path / "other.h5ad", *screen(), **FILES[kind])
    for file in (path, other):
        cx.pp.pca(file, n_comps=N_COMPS, method=method)
    for mine, expected in zip(results(other)[:2], results(path)[:2], strict=True):
        np.testing.assert_array_equal(mine, expected)


@pytest.mark.parametrize("layout", ["csr", "csc"])
@pytest.mark.parametrize("method", ["sparse_cov", "incremental"])
def test_memory_threads_and_block_sizes_change_no_bit(
    method: str, layout: str, tmp_path: Path, monkeypatch
) -> None:
    rng = np.random.default_rng(1)
    values = np.log1p(rng.poisson(0.5 * rng.gamma(1, 1, (1300, 20)))).astype(np.float32)
    path = write_h5ad(tmp_path / "long.h5ad", values, ["a"] * 1300, layout=layout)
    cx.pp.pca(path, n_comps=4, method=method)
    expected = results(path)
    monkeypatch.setattr(cx.settings, "n_threads", 3)
    cx.pp.pca(path, n_comps=4, method=method, chunk_size=1)
    again = results(path)
    # Nothing fits into memory: every pass reads the file, or the scratch file of a CSC matrix.
    monkeypatch.setattr(row_passes, "BYTES_PER_VALUE", 1e12)
    monkeypatch.setattr(row_passes, "BYTES_PER_TURNED", 1e12)
    cx.pp.pca(path, n_comps=4, method=method)
    for found in (again, results(path)):
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])
        np.testing.assert_array_equal(found[2]["variance"], expected[2]["variance"])


@pytest.mark.parametrize("kind", sorted(OBJECTS.keys() - {"memory view"}))
def test_every_kind_of_data_set_is_taken_and_changed_in_place(kind: str, tmp_path: Path) -> None:
    data = OBJECTS[kind](*screen(), tmp_path)
    assert dimred.pca(data, N_COMPS) is None
    path = getattr(data, "path", None) or getattr(data, "filename", None)
    if isinstance(data, str):
        path = data
    if path is not None:
        table = results(Path(path))[0]
        assert table.shape == (N_CELLS, N_COMPS)
        if hasattr(data, "obsm"):
            np.testing.assert_array_equal(data.obsm["X_pca"], table)
            assert data.X[:3].shape == (3, N_GENES)
    else:
        assert data.obsm["X_pca"].shape == (N_CELLS, N_COMPS)


def test_only_highly_variable_genes_are_used(tmp_path: Path) -> None:
    values, labels = screen()
    adata = in_memory(values, labels, sp.csr_matrix)
    adata.var["highly_variable"] = np.arange(N_GENES) % 3 == 0
    alone = adata[:, adata.var["highly_variable"]].copy()
    for method in ("sparse_cov", "incremental"):
        cx.pp.pca(adata, n_comps=N_COMPS, method=method)
        cx.pp.pca(alone, n_comps=N_COMPS, method=method)
        table, loadings, info = results(adata)
        np.testing.assert_array_equal(table, results(alone)[0])
        np.testing.assert_array_equal(loadings[adata.var["highly_variable"]], results(alone)[1])
        assert not loadings[~adata.var["highly_variable"]].any()
        assert info["use_highly_variable"]
    cx.pp.pca(adata, n_comps=N_COMPS, use_highly_variable=False)
    assert results(adata)[1].all(axis=1).any()
    assert not results(adata)[2]["use_highly_variable"]
    adata.var["highly_variable"] = False
    with pytest.raises(InputError, match=r"no gene .* is highly variable"):
        cx.pp.pca(adata, n_comps=N_COMPS)


def test_a_copy_leaves_the_data_set_as_it_is(path: Path) -> None:
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    copied = cx.pp.pca(path, n_comps=N_COMPS, copy=True)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    assert copied.path == path.with_name("crispyx_pca.h5ad")
    table = results(copied.path)[0]
    stamp = copied.path.stat().st_mtime_ns
    assert cx.pp.pca(path, n_comps=N_COMPS, copy=True).path.stat().st_mtime_ns == stamp
    adata = anndata.read_h5ad(path)
    found = cx.pp.pca(adata, n_comps=N_COMPS, copy=True)
    assert "X_pca" not in adata.obsm
    np.testing.assert_array_equal(found.obsm["X_pca"], table)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_comps": 0}, "n_comps is 0"),
        ({"n_comps": N_GENES}, f"n_comps is {N_GENES}, but .* {N_GENES} genes"),
        ({"method": "arpack"}, "method is 'arpack'; choose one of .*'sparse_cov'"),
        ({"chunk_size": 0}, "chunk_size is 0"),
    ],
)
def test_wrong_arguments_are_refused(path: Path, options: dict[str, Any], message: str) -> None:
    before = path.read_bytes()
    with pytest.raises(InputError, match=message):
        cx.pp.pca(path, **options)
    assert path.read_bytes() == before


def test_views_and_files_open_elsewhere_are_refused(path: Path) -> None:
    with pytest.raises(InputError, match="view"):
        cx.pp.pca(OBJECTS["memory view"](*screen(), path.parent), n_comps=3)
    with h5py.File(path, "r"), pytest.raises(OutputBusyError, match="close it first"):
        cx.pp.pca(path, n_comps=3)


def test_counts_are_warned_about(tmp_path: Path) -> None:
    values, labels = screen()
    path = write_h5ad(tmp_path / "counts.h5ad", np.round(np.expm1(values)), labels)
    with pytest.warns(CrispyxWarning, match="holds counts"):
        cx.pp.pca(path, n_comps=3)


def test_a_missing_value_is_named(tmp_path: Path) -> None:
    values, labels = screen()
    values[7, 5] = np.nan
    path = write_h5ad(tmp_path / "nan.h5ad", values, labels)
    with pytest.raises(InputError, match=r"nan at cell 'cell7'.*'gene5'"):
        cx.pp.pca(path, n_comps=3)


@pytest.fixture
def embedded(path: Path) -> Path:
    cx.pp.pca(path, n_comps=N_COMPS)
    return path


@pytest.mark.filterwarnings("ignore::UserWarning:umap", "ignore:n_jobs value")
@pytest.mark.parametrize("method", [pytest.param("umap", marks=pytest.mark.slow), "sklearn"])
def test_neighbors_are_the_nearest(embedded: Path, method: str) -> None:
    cx.pp.neighbors(embedded, n_neighbors=10, method=method)
    adata = anndata.read_h5ad(embedded)
    table = adata.obsm["X_pca"].astype(float)
    distance = np.linalg.norm(table[:, None] - table[None], axis=2)
    exact = np.argsort(distance, axis=1, kind="stable")[:, 1:10]
    found = adata.obsp["distances"]
    hits = sum(len({*found[i].indices} & {*exact[i]}) for i in range(N_CELLS))
    assert hits >= (0.99 if method == "umap" else 1.0) * exact.size
    connected = adata.obsp["connectivities"]
    assert abs(connected - connected.T).max() < 1e-6
    params = adata.uns["neighbors"]["params"]
    assert (params["n_neighbors"], params["metric"], params["use_rep"]) == (
        10,
        "euclidean",
        "X_pca",
    )


@pytest.mark.filterwarnings("ignore::UserWarning:umap", "ignore:n_jobs value")
def test_the_layout_separates_the_groups_and_opens_in_scanpy(embedded: Path) -> None:
    import matplotlib.pyplot as plt
    import scanpy

    cx.pp.neighbors(embedded, n_pcs=3, method="sklearn")
    assert cx.tl.umap(embedded, n_components=2) is None
    adata = anndata.read_h5ad(embedded)
    assert adata.obsm["X_umap"].shape == (N_CELLS, 2)
    assert np.isfinite(adata.obsm["X_umap"]).all()
    assert set(adata.uns["umap"]["params"]) >= {"a", "b", "min_dist", "spread"}
    scanpy.pl.umap(adata, color="perturbation", show=False)
    plt.close("all")
    copied = cx.tl.umap(embedded, n_components=3, copy=True)
    assert copied.obsm["X_umap"].shape == (N_CELLS, 3)


def test_what_a_graph_needs_is_named(path: Path) -> None:
    with pytest.raises(InputError, match=r"obsm has no 'X_pca'.*cx\.pp\.pca"):
        cx.pp.neighbors(path)
    with pytest.raises(InputError, match=r"uns has no 'neighbors'.*cx\.pp\.neighbors"):
        cx.tl.umap(path)
    cx.pp.pca(path, n_comps=3)
    for options, message in (
        ({"n_neighbors": 1}, "n_neighbors is 1"),
        ({"n_neighbors": 91}, "n_neighbors is 91, but there are 90 cells"),
        ({"n_pcs": 4}, "n_pcs is 4, but .* has 3 columns"),
        ({"method": "gauss"}, "method is 'gauss'"),
    ):
        with pytest.raises(InputError, match=message):
            cx.pp.neighbors(path, **options)
    with pytest.raises(InputError, match="min_dist is 2"):
        cx.tl.umap(path, min_dist=2)
