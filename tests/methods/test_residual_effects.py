"""Effects beside covariates of files: engines, layouts, blocks, several guides a cell."""

from __future__ import annotations

import sys

import layouts
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import crispyx as cx
from crispyx.errors import CrispyxWarning, InputError, MemoryBudgetError

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
    monkeypatch.setattr(sys.modules["crispyx._stats.residual_effects"], "PIECE", 11)
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


def several_guides(n_cells=240):
    """Return a screen whose cells carry 0 to 3 guides, one of them in no cell without another."""
    values, _ = layouts.count_screen(n_cells=n_cells)
    rng = np.random.default_rng(1)
    carried = pd.DataFrame(
        rng.random((n_cells, 4)) < (0.3, 0.2, 0.4, 0.3), columns=["NTC", "A", "B", "C"]
    ).astype(np.int8)
    adata = layouts.in_memory(values, ["x"] * n_cells, sp.csr_matrix)
    carried.index = adata.obs_names
    adata.obsm["guides"] = carried
    adata.obs["batch"] = pd.Categorical([f"b{i % 3}" for i in range(n_cells)])
    adata.obs["depth"] = rng.normal(size=n_cells)
    return adata, carried


SEVERAL = {"perturbation_column": "obsm/guides", "covariates": ["batch", "depth"]}


@pytest.mark.parametrize("control", ["NTC", "rest"])
def test_several_guides_and_mixed_covariates_are_fitted_as_statsmodels_fits_them(
    tmp_path, control
) -> None:
    formula = pytest.importorskip("statsmodels.formula.api")
    adata, carried = several_guides()
    output = tmp_path / "a.h5ad"
    cx.tl.residual_effects(adata, control_label=control, output_path=output, **SEVERAL)
    found, tables = cx.read_h5ad_ondisk(output), layouts.tables_of(output)
    counts = adata.X.toarray().astype(float)
    y = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
    guides = ["NTC", "A", "B", "C"] if control == "rest" else ["A", "B", "C"]
    used = np.ones(len(y), bool) if control == "rest" else carried.any(axis=1).to_numpy()
    frame = adata.obs[["batch", "depth"]].join(carried)[used]
    assert list(found.obs_names) == guides
    for gene in range(y.shape[1]):
        frame["y"] = y[used, gene]
        fit = formula.ols(f"y ~ batch + depth + {' + '.join(guides)}", frame).fit()
        for name, expected in (
            ("X", fit.params),
            ("standard_error", fit.bse),
            ("z_score", fit.tvalues),
            ("pvalue", fit.pvalues),
        ):
            # The normal equations square the condition of the design.
            np.testing.assert_allclose(tables[name][:, gene], expected[guides], rtol=1e-7)
    notes = found.uns["residual_effects"]
    assert notes["degrees_of_freedom"] == fit.df_resid
    assert notes["n_cells"] == used.sum()


def test_asking_for_fewer_guides_of_many_changes_no_bit_of_theirs(tmp_path) -> None:
    adata, _ = several_guides()
    both = [tmp_path / "all.h5ad", tmp_path / "some.h5ad"]
    for output, asked in zip(both, (None, ["C", "A"]), strict=True):
        cx.tl.residual_effects(
            adata, control_label="NTC", perturbations=asked, output_path=output, **SEVERAL
        )
    expected, found = map(layouts.tables_of, both)
    for name, table in found.items():
        np.testing.assert_array_equal(table, expected[name][[2, 0]], err_msg=name)


def test_guides_that_always_go_together_have_no_effect_and_others_keep_theirs(tmp_path) -> None:
    adata, carried = several_guides()
    expected = tmp_path / "a.h5ad"
    cx.tl.residual_effects(adata, control_label="NTC", output_path=expected, **SEVERAL)
    adata.obsm["guides"]["D"] = carried["A"]
    output = tmp_path / "b.h5ad"
    with pytest.warns(CrispyxWarning, match="2 perturbations cannot be told"):
        cx.tl.residual_effects(adata, control_label="NTC", output_path=output, **SEVERAL)
    found, before = layouts.tables_of(output), layouts.tables_of(expected)
    for name in ("X", "standard_error", "z_score", "pvalue", "pvalue_adj"):
        assert np.isnan(found[name][[0, 3]]).all()
        np.testing.assert_allclose(found[name][1:3], before[name][1:3], rtol=1e-8)


def test_what_no_cell_can_tell_is_refused_before_the_matrix_is_read(tmp_path, monkeypatch) -> None:
    module = sys.modules["crispyx.de.residual_effects"]
    monkeypatch.setattr(module, "_pass", lambda *_: pytest.fail("the matrix was read"))
    with pytest.raises(InputError, match="control_label"):
        tables(screen(), tmp_path / "a.h5ad", control_label="rest")


def test_more_than_the_memory_holds_is_refused_before_the_matrix_is_read(
    tmp_path, monkeypatch
) -> None:
    module = sys.modules["crispyx.de.residual_effects"]
    monkeypatch.setattr(module, "_pass", lambda *_: pytest.fail("the matrix was read"))
    with pytest.raises(MemoryBudgetError, match="a regression"):
        tables(screen(), tmp_path / "a.h5ad", memory_limit_gb=0.001)


def test_an_interrupted_run_leaves_nothing_and_is_begun_again(tmp_path, monkeypatch) -> None:
    expected = tables(screen(), tmp_path / "a.h5ad")
    module = sys.modules["crispyx.de.residual_effects"]
    whole = module.write_profiles

    def interrupted(output, obs, var, types, strip, *rest) -> None:
        def stopped(start, stop):
            raise KeyboardInterrupt

        whole(output, obs, var, types, stopped, *rest)

    monkeypatch.setattr(module, "write_profiles", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tables(screen(), tmp_path / "b.h5ad")
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5ad"]
    monkeypatch.undo()
    layouts.assert_same_bits(tables(screen(), tmp_path / "b.h5ad"), expected)
