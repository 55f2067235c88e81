"""Effects beside covariates of files: engines, layouts, blocks, several guides a cell."""

from __future__ import annotations

import sys

import layouts
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import crispyx as cx
from crispyx.errors import CrispyxWarning

COLUMN = layouts.COLUMN
pytestmark = pytest.mark.filterwarnings("ignore:.*no label:crispyx.errors.CrispyxWarning")


def screen(form=sp.csr_matrix):
    adata = layouts.in_memory(*layouts.count_screen(n_cells=120), form)
    adata.obs["batch"] = pd.Categorical([f"b{i % 3}" for i in range(120)])
    adata.obs["depth"] = np.random.default_rng(0).normal(size=120)
    return adata


def tables(data, output, **options) -> dict[str, np.ndarray]:
    options = {"covariates": ["batch", "depth"], **options}
    cx.tl.residual_effects(data, perturbation_column=COLUMN, output_path=output, **options)
    return layouts.tables_of(output)


def test_compiled_engine_is_the_definition(tmp_path) -> None:
    compiled = tables(screen(), tmp_path / "a.h5ad")
    with cx.use_engine("reference"):
        expected = tables(screen(), tmp_path / "b.h5ad")
    for name, table in expected.items():
        # Sums in another order; the normal equations square the condition of the design.
        np.testing.assert_allclose(compiled[name], table, rtol=1e-8, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("form", [sp.csc_matrix, np.asarray])
def test_layouts_and_blocks_change_no_bit(tmp_path, form, monkeypatch) -> None:
    expected = tables(screen(), tmp_path / "a.h5ad")
    path = tmp_path / "screen.h5ad"
    screen(form).write_h5ad(path)
    monkeypatch.setattr(sys.modules["crispyx.de.residual_effects"], "MAX_SEGMENT_MAJOR", 7)
    layouts.assert_same_bits(tables(path, tmp_path / "b.h5ad"), expected)


def test_without_covariates_effects_are_differences_of_means(tmp_path) -> None:
    adata = screen()
    found = tables(adata, tmp_path / "a.h5ad", covariates=[])
    counts = adata.X.toarray()
    y = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
    labels = adata.obs[COLUMN]
    groups = cx.read_h5ad_ondisk(tmp_path / "a.h5ad").obs_names
    for row, group in zip(found["X"], groups, strict=True):
        expected = y[labels == group].mean(axis=0) - y[labels == "control"].mean(axis=0)
        np.testing.assert_allclose(row, expected, atol=1e-10)


def test_a_perturbation_in_a_batch_of_its_own_has_no_effect(tmp_path) -> None:
    adata = screen()
    batch = adata.obs["batch"].astype(str)
    batch[adata.obs[COLUMN] == "MYC"] = "alone"
    adata.obs["batch"] = pd.Categorical(batch)
    with pytest.warns(CrispyxWarning, match="'MYC'"):
        found = tables(adata, tmp_path / "a.h5ad")
    lost = np.isnan(found["X"]).all(axis=1)
    assert lost.sum() == 1
    assert list(cx.read_h5ad_ondisk(tmp_path / "a.h5ad").obs_names[lost]) == ["MYC"]
