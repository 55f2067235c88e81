"""Highly variable genes of files: engines, layouts, cells in use, what is written."""

from __future__ import annotations

import anndata
import layouts
import numpy as np
import pandas as pd
import pytest

import crispyx as cx
from crispyx.dimred import highly_variable
from crispyx.errors import InputError

COLUMN = layouts.COLUMN


@pytest.fixture
def screen() -> tuple[np.ndarray, list]:
    return layouts.count_screen(n_cells=160, n_genes=60)


@pytest.fixture
def path(tmp_path, screen):
    return layouts.write_h5ad(tmp_path / "screen.h5ad", *screen)


def found(data, **options) -> pd.DataFrame:
    return cx.pp.highly_variable_genes(
        data, perturbation_column=COLUMN, n_top_genes=12, inplace=False, **options
    )


@pytest.mark.parametrize("flavor", ["seurat_v3", "seurat", "cell_ranger"])
def test_compiled_engine_is_the_definition(path, flavor) -> None:
    compiled = found(path, flavor=flavor)
    with cx.use_engine("reference"):
        expected = found(path, flavor=flavor)
    # Sums in another order: rounding alone. It decides between two genes alone in a bin, which lie
    # equally far from their median.
    columns = [name for name in compiled if flavor != "cell_ranger" or name != "highly_variable"]
    pd.testing.assert_frame_equal(compiled[columns], expected[columns], rtol=1e-10)


@pytest.mark.parametrize("layout", ["csc", "dense"])
@pytest.mark.parametrize("flavor", ["seurat_v3", "seurat"])
def test_no_layout_changes_a_bit(path, screen, tmp_path, layout, flavor, monkeypatch) -> None:
    other = layouts.write_h5ad(tmp_path / "other.h5ad", *screen, layout=layout)
    expected = found(path, flavor=flavor)
    monkeypatch.setattr(highly_variable, "MAX_SEGMENT_MAJOR", 7)
    pd.testing.assert_frame_equal(found(other, flavor=flavor), expected, check_exact=True)


def test_only_control_cells_are_looked_at(path, screen) -> None:
    values, labels = screen
    control = np.array([label == "control" for label in labels])
    table = found(path)
    np.testing.assert_allclose(table["means"], values[control].mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(
        table["variances"], values[control].var(axis=0, ddof=1), rtol=1e-12, atol=1e-15
    )
    assert table["highly_variable"].sum() == 12
    np.testing.assert_allclose(found(path, cells="all")["means"], values.mean(axis=0), rtol=1e-12)


def test_a_fraction_in_other_cells_does_no_harm(screen, tmp_path) -> None:
    values, labels = screen
    values[labels.index("KLF1"), 0] = 0.5
    odd = layouts.write_h5ad(tmp_path / "odd.h5ad", values, labels)
    assert found(odd)["highly_variable"].any()
    with pytest.raises(InputError, match=r"0\.5.*seurat_v3"):
        found(odd, cells="all")


def test_columns_are_added_to_the_file_and_used_by_principal_components(path) -> None:
    before = anndata.read_h5ad(path)
    table = cx.pp.highly_variable_genes(path, perturbation_column=COLUMN, n_top_genes=12)
    after = anndata.read_h5ad(path)
    pd.testing.assert_frame_equal(after.var, table, check_names=False)
    np.testing.assert_array_equal(after.X.toarray(), before.X.toarray())
    assert after.uns["hvg"] == {"flavor": "seurat_v3", "cells": "control"}
    with pytest.warns(cx.errors.CrispyxWarning, match="counts"):
        cx.pp.pca(path, n_comps=3)
    loadings = anndata.read_h5ad(path).varm["PCs"]
    np.testing.assert_array_equal(loadings.any(axis=1), table["highly_variable"])


def test_a_copy_leaves_the_file_alone(path) -> None:
    copied = cx.pp.highly_variable_genes(path, perturbation_column=COLUMN, copy=True)
    assert "highly_variable" in copied.var.columns
    assert copied.path.name == "crispyx_hvg.h5ad"
    assert "highly_variable" not in anndata.read_h5ad(path).var.columns


def test_batches_are_ranked_one_by_one_as_scanpy_does(screen) -> None:
    scanpy = pytest.importorskip("scanpy")
    adata = layouts.in_memory(np.log1p(screen[0]), screen[1], np.asarray)
    adata.obs["batch"] = pd.Categorical(["a", "b"] * 80)
    expected = scanpy.pp.highly_variable_genes(
        adata, flavor="seurat", n_top_genes=12, batch_key="batch", inplace=False
    )
    table = found(adata, flavor="seurat", cells="all", batch_key="batch")
    expected = expected.loc[table.index]
    assert table["highly_variable"].tolist() == expected["highly_variable"].tolist()
    np.testing.assert_allclose(table["dispersions_norm"], expected["dispersions_norm"], rtol=1e-6)


def test_mean_dispersion_is_another_name_of_seurat(path) -> None:
    expected = found(path, flavor="seurat")
    pd.testing.assert_frame_equal(found(path, flavor="mean_dispersion"), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flavor": "vst"}, "seurat_v3"),
        ({"cells": "some"}, "'control' or 'all'"),
        ({"span": 2}, "at most 1"),
        ({"control_label": "nobody"}, "nobody"),
    ],
)
def test_wrong_words_are_refused(path, options, message) -> None:
    with pytest.raises(InputError, match=message):
        found(path, **options)
