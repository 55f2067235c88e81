"""Plots of components and embeddings show what the data set holds, and read no more than that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anndata
import matplotlib as mpl
import numpy as np
import pytest
from layouts import COLUMN, in_memory, log_screen, write_h5ad

import crispyx as cx
from crispyx.errors import InputError, MissingColumnError
from crispyx.plotting.embedding import _dimensions

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = write_h5ad(tmp_path / "screen.h5ad", *log_screen())
    cx.pp.pca(path, n_comps=5)
    return path


def test_the_variance_ratio_of_every_component_is_drawn_in_percent(path: Path) -> None:
    ratio = anndata.read_h5ad(path).uns["pca"]["variance_ratio"]
    ax = cx.pl.pca_variance_ratio(path)
    np.testing.assert_allclose(ax.collections[0].get_offsets()[:, 1], 100 * ratio)
    few = cx.pl.pca_variance_ratio(path, n_pcs=2, log=True)
    assert len(few.collections[0].get_offsets()) == 2
    assert few.get_yscale() == "log"
    with pytest.raises(InputError, match="n_pcs is 6, but there are 5"):
        cx.pl.pca_variance_ratio(path, n_pcs=6)


def test_the_genes_of_largest_and_lowest_loading_are_named(path: Path) -> None:
    adata = anndata.read_h5ad(path)
    loadings = adata.varm["PCs"][:, 1]
    (ax,) = cx.pl.pca_loadings(path, components=2)
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert names == list(adata.var_names[np.argsort(-loadings, kind="stable")])
    np.testing.assert_allclose(
        [bar.get_width() for bar in ax.patches], np.sort(loadings)[::-1], rtol=1e-6
    )
    assert len(cx.pl.pca_loadings(path, components="1,3")) == 2
    assert len(cx.pl.pca_loadings(path)) == 3
    for wrong in (0, 6, "one", []):
        with pytest.raises(InputError, match=r"components is .*from 1 to 5"):
            cx.pl.pca_loadings(path, components=wrong)


def test_only_the_highest_loadings_are_drawn_when_asked_for(tmp_path: Path) -> None:
    path = write_h5ad(tmp_path / "wide.h5ad", *log_screen(n_genes=40))
    cx.pp.pca(path, n_comps=2)
    (both,) = cx.pl.pca_loadings(path, components=1)
    (high,) = cx.pl.pca_loadings(path, components=1, include_lowest=False)
    assert len(both.patches) == len(high.patches) == 15
    lowest = anndata.read_h5ad(path).varm["PCs"][:, 0].min()
    assert both.patches[-1].get_width() == pytest.approx(lowest)
    assert high.patches[-1].get_width() > lowest


def test_cells_stand_at_their_coordinates_in_the_colors_of_their_labels(path: Path) -> None:
    adata = anndata.read_h5ad(path)
    axes = cx.pl.pca(path, color=[COLUMN, "gene5"], sort_order=False)
    labels, gene = (
        np.vstack([points.get_offsets() for points in ax.collections]) for ax in axes[:2]
    )
    np.testing.assert_allclose(gene, adata.obsm["X_pca"][:, :2], rtol=1e-6)
    assert {tuple(row) for row in labels} == {tuple(row) for row in gene}
    expected = np.asarray(adata[:, "gene5"].X.todense()).ravel()
    np.testing.assert_allclose(axes[1].collections[0].get_array(), expected, rtol=1e-6)
    assert {text.get_text() for text in axes[0].get_legend().get_texts()} >= {"KLF1", "control"}


def test_genes_are_read_in_any_order_and_layout(tmp_path: Path) -> None:
    values, labels = log_screen()
    for layout in ("csr", "csc", "dense"):
        path = write_h5ad(tmp_path / f"{layout}.h5ad", values, labels, layout=layout)
        cx.pp.pca(path, n_comps=2)
        axes = cx.pl.pca(path, color=["gene7", "gene2"], sort_order=False)
        for ax, gene in zip(axes, (7, 2), strict=False):
            np.testing.assert_allclose(ax.collections[0].get_array(), values[:, gene], rtol=1e-6)


def test_dimensions_are_counted_from_one_as_text_and_from_zero_as_numbers() -> None:
    assert _dimensions(None) is None
    assert _dimensions("1,3") == [(0, 2)]
    assert _dimensions(["1,2", "3,4"]) == [(0, 1), (2, 3)]
    assert _dimensions([1, 0]) == (1, 0)
    with pytest.raises(InputError, match="components is 'a,b'"):
        _dimensions("a,b")


def test_figures_are_saved_and_returned(path: Path, tmp_path: Path, monkeypatch) -> None:
    from matplotlib.figure import Figure

    monkeypatch.chdir(tmp_path)
    assert isinstance(cx.pl.pca(path, return_fig=True), Figure)
    cx.pl.pca(path, save=True)
    cx.pl.pca_loadings(path, save="plots/loadings.pdf")
    cx.pl.pca_variance_ratio(path, save=tmp_path / "ratio")
    for name in ("pca.png", "plots/loadings.pdf", "ratio.png"):
        assert (tmp_path / name).stat().st_size > 1000


def test_a_layout_of_umap_is_drawn_from_memory_too(path: Path) -> None:
    adata = anndata.read_h5ad(path)
    adata.obsm["X_umap"] = adata.obsm["X_pca"][:, :2].astype(np.float32)
    ax = cx.pl.umap(adata, color=COLUMN, title="Screen")
    assert ax.get_title("left") + ax.get_title() == "Screen"
    assert ax.get_xlabel() == "UMAP1"


def test_what_is_missing_is_named(path: Path) -> None:
    with pytest.raises(InputError, match="obsm has no 'X_umap'"):
        cx.pl.umap(path)
    with pytest.raises(MissingColumnError, match=r"color is 'SOX2'.*perturbation"):
        cx.pl.pca(path, color="SOX2")
    with pytest.raises(InputError, match="use_raw is True"):
        cx.pl.pca(path, use_raw=True)


def test_many_categories_have_no_legend_and_those_chosen_have_colors_of_their_own(
    tmp_path: Path,
) -> None:
    labels = [f"p{k % 200}" for k in range(1000)]
    data = in_memory(np.ones((1000, 2)), labels, np.array)
    data.obsm["X_umap"] = np.random.default_rng(0).normal(size=(1000, 2))
    data.uns[f"{COLUMN}_colors"] = ["#808080"] * 200
    assert cx.pl.umap(data, color=COLUMN).get_legend() is None
    ax = cx.pl.umap(data, color=COLUMN, groups=["p3", "p150"])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["p150", "p3", "NA"]
    colors = {tuple(color) for drawn in ax.collections for color in drawn.get_facecolor()}
    assert len(colors - {(0.5, 0.5, 0.5, 1.0)}) == 3, "two categories and the others"
