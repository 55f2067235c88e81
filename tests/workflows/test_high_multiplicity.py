"""Screens whose cells carry several guides, and comparisons with the rest of the screen."""

from __future__ import annotations

import os
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from scipy.stats import mannwhitneyu, ttest_ind

import crispyx as cx
from crispyx.errors import InputError, MissingColumnError

NO_FILTER = {"min_pct_both": 0.0, "min_mean_ctrl": 0.0, "min_mean_pert": 0.0}
TABLES = ("statistics", "pvalues", "pvalues_adj", "logfoldchanges", "effect_size", "pts_rest")


def carried_screen(kind: str = "frame") -> ad.AnnData:
    """Cells with no, one or several of the labels NT, A, B; expression in log units."""
    rng = np.random.default_rng(11)
    carried = rng.random((240, 3)) < (0.5, 0.3, 0.3)
    log_values = np.log1p(rng.poisson(1.2, (240, 15)) * rng.uniform(0.5, 2, (240, 1)))
    adata = ad.AnnData(sp.csr_matrix(log_values))
    adata.obs_names = [f"cell{i}" for i in range(240)]
    if kind == "frame":
        table = pd.DataFrame(carried, columns=["NT", "A", "B"], index=adata.obs_names)
        adata.obsm["carried"] = table
    else:
        adata.obsm["carried"] = sp.csr_matrix(carried.astype(np.uint8))
        adata.uns["carried_names"] = ["NT", "A", "B"]
    return adata


def arms(adata: ad.AnnData, label: int, control: str) -> tuple[np.ndarray, np.ndarray]:
    carried = np.asarray(
        adata.obsm["carried"].toarray()
        if sp.issparse(adata.obsm["carried"])
        else adata.obsm["carried"]
    ).astype(bool)
    x, has = adata.X.toarray(), carried[:, label]
    if control == "rest":
        return x[has], x[~has]
    return x[has], x[carried[:, 0] & (carried.sum(axis=1) == 1)]


@pytest.mark.parametrize("kind", ["frame", "sparse"])
@pytest.mark.parametrize("control", ["NT", "rest"])
def test_cells_with_several_perturbations_count_for_each(
    tmp_path: Path, kind: str, control: str
) -> None:
    adata = carried_screen(kind)
    path = tmp_path / "screen.h5ad"
    adata.write_h5ad(path)
    options = {"groupby": "obsm/carried", "reference": control, **NO_FILTER}
    ranks = cx.wilcoxon_test(path, **options)
    welch = cx.t_test(path, **options)
    assert ranks.groups == (["A", "B"] if control == "NT" else ["NT", "A", "B"])
    for label in ranks.groups:
        perturbed, others = arms(adata, ["NT", "A", "B"].index(label), control)
        expected = mannwhitneyu(perturbed, others, method="asymptotic", use_continuity=False)
        np.testing.assert_allclose(ranks[label].pvalue, expected.pvalue, rtol=1e-12)
        t = ttest_ind(perturbed, others, equal_var=False)
        # The rest's variance is a difference of sums: some digits go, see reference/moments.
        np.testing.assert_allclose(welch[label].statistic, t.statistic, rtol=1e-9)
        np.testing.assert_allclose(welch[label].pvalue, t.pvalue, rtol=1e-9)


@pytest.mark.parametrize("test", [cx.wilcoxon_test, cx.t_test])
@pytest.mark.parametrize("control", ["NT", "rest"])
def test_engines_agree_on_overlapping_groups(tmp_path: Path, test, control: str) -> None:
    adata = carried_screen()
    options = {"groupby": "obsm/carried", "reference": control}
    compiled = test(adata, output_path=tmp_path / "compiled.h5ad", **options)
    with cx.use_engine("reference"):
        defined = test(adata, output_path=tmp_path / "defined.h5ad", **options)
    for table in TABLES:
        np.testing.assert_allclose(
            getattr(compiled, table), getattr(defined, table), rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize(
    ("test", "method"), [(cx.wilcoxon_test, "wilcoxon"), (cx.t_test, "t-test")]
)
def test_rest_is_scanpys_rest(tmp_path: Path, test, method: str) -> None:
    adata = carried_screen()
    adata.obs["group"] = np.random.default_rng(0).choice(["NT", "A", "B"], adata.n_obs)
    result = test(
        adata, groupby="group", reference="rest", output_path=tmp_path / "x.h5ad", **NO_FILTER
    )
    ties = {"tie_correct": True} if method == "wilcoxon" else {}
    sc.tl.rank_genes_groups(adata, "group", reference="rest", method=method, **ties)
    for label in result.groups:
        table = sc.get.rank_genes_groups_df(adata, label).set_index("names")
        scores = table.loc[list(result.genes), "scores"]
        np.testing.assert_allclose(result[label].statistic, scores, rtol=1e-5)  # float32 scores


def test_gene_of_one_group_only_has_a_rest_without_variance(tmp_path: Path) -> None:
    values = np.zeros((30, 1))
    values[:10, 0] = np.linspace(0.1, 3, 10)
    adata = ad.AnnData(sp.csr_matrix(values), obs={"group": ["A"] * 10 + ["NT"] * 10 + ["B"] * 10})
    with pytest.warns(cx.errors.CrispyxWarning, match="one arm has no cell"):
        result = cx.t_test(
            adata, groupby="group", reference="rest", output_path=tmp_path / "x.h5ad", **NO_FILTER
        )
    expected = ttest_ind(values[:10, 0], values[10:, 0], equal_var=False)
    np.testing.assert_allclose(result["A"].statistic, [expected.statistic], rtol=1e-12)


def test_unlabelled_cells_are_no_rest(tmp_path: Path) -> None:
    adata = carried_screen()
    labels = np.array(["A"] * 100 + ["B"] * 100 + [None] * 40, dtype=object)
    adata.obs["group"] = pd.Categorical(labels)
    with pytest.warns(cx.errors.CrispyxWarning, match="40 of 240 cells have no label"):
        result = cx.wilcoxon_test(
            adata, groupby="group", reference="rest", output_path=tmp_path / "x.h5ad", **NO_FILTER
        )
    x = adata.X.toarray()
    expected = mannwhitneyu(x[:100], x[100:200], method="asymptotic", use_continuity=False)
    np.testing.assert_allclose(result["A"].pvalue, expected.pvalue, rtol=1e-12)


def test_table_without_names_or_of_another_shape_is_refused(tmp_path: Path) -> None:
    adata = carried_screen("sparse")
    output = tmp_path / "x.h5ad"
    with pytest.raises(MissingColumnError, match=r"obsm/absent.*membership='absent'"):
        cx.t_test(adata, groupby="obsm/absent", output_path=output)
    adata.uns["carried_names"] = ["NT", "A"]
    with pytest.raises(InputError, match=r"obsm/carried.*240 x 3.*2 names"):
        cx.t_test(adata, groupby="obsm/carried", output_path=output)
    del adata.uns["carried_names"]
    with pytest.raises(InputError, match=r"uns\['carried_names'\]"):
        cx.t_test(adata, groupby="obsm/carried", output_path=output)


def test_more_groups_than_16_bits_number(tmp_path: Path) -> None:
    n_groups = 70_000
    values = sp.csr_matrix(np.linspace(1, 2, n_groups + 3)[:, None])
    labels = ["control"] * 3 + [f"P{k}" for k in range(n_groups)]
    adata = ad.AnnData(values, obs={"group": labels})
    result = cx.wilcoxon_test(
        adata, groupby="group", min_cells_pert=1, output_path=tmp_path / "x.h5ad", **NO_FILTER
    )
    assert len(result) == n_groups
    # The values rise from cell to cell: each single cell is above the three controls.
    np.testing.assert_array_equal(result.u_statistics, 3.0)


@pytest.fixture(scope="module")
def gasperini(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ad.AnnData]:
    if "CRISPYX_DATA_DIR" not in os.environ:
        pytest.skip("CRISPYX_DATA_DIR is not set; it names the folder of real screens")
    folder = tmp_path_factory.mktemp("gasperini")
    screen = cx.datasets.gasperini()
    adata = ad.read_h5ad(screen.expression)
    guides = ad.AnnData(adata.obsm["gRNA_counts"].copy())
    guides.obs_names, guides.var_names = adata.obs_names, np.asarray(adata.uns["gRNA_names"])
    targets = dict(zip(adata.uns["gRNA_names"], adata.uns["gRNA_targets"], strict=True))
    joined = cx.gd.add_to(
        screen.expression,
        cx.gd.assign(guides, "umi"),
        targets=targets,
        membership="perturbations",
        output_path=folder / "joined.h5ad",
    )
    logged = cx.pp.normalize_total_log1p(joined, folder / "logged.h5ad", verbose=False)
    return logged.path, ad.read_h5ad(logged.path)


@pytest.mark.slow
def test_gasperini_against_scipy_and_own_targets_first(gasperini: tuple[Path, ad.AnnData]) -> None:
    path, adata = gasperini
    result = cx.wilcoxon_test(path, groupby="obsm/perturbations", reference="rest")
    carried = adata.obsm["perturbations"].toarray().astype(bool)
    names = list(adata.uns["perturbations_names"])
    x = adata.X.toarray().astype(np.float64)
    for label in result.groups[::6]:
        has = carried[:, names.index(label)]
        expected = mannwhitneyu(x[has], x[~has], method="asymptotic", use_continuity=False).pvalue
        tested = np.isfinite(result[label].pvalue) & (expected > 1e-290)
        np.testing.assert_allclose(result[label].pvalue[tested], expected[tested], rtol=1e-12)
    first = result.genes[np.nanargmin(result["CITED2_TSS"].pvalue)]
    assert first == "ENSG00000164442"  # CITED2


def test_gasperini_rare_gene_misleads_welch_not_ranks(gasperini: tuple[Path, ad.AnnData]) -> None:
    path, adata = gasperini
    carried = adata.obsm["perturbations"].toarray().astype(bool)
    names = list(adata.uns["perturbations_names"])
    vapa = "VAPA_TSS"
    has = carried[:, names.index(vapa)]
    silent = np.flatnonzero(np.asarray((adata.X[has] > 0).sum(axis=0)).ravel() == 0)
    ranks = cx.wilcoxon_test(path, groupby="obsm/perturbations", reference="rest")
    with pytest.warns(cx.errors.CrispyxWarning, match="one arm has no cell that expresses"):
        welch = cx.t_test(path, groupby="obsm/perturbations", reference="rest")
    gene = silent[np.nanargmin(welch[vapa].pvalue[silent])]
    assert welch[vapa].pvalue[gene] < 1e-100
    assert ranks[vapa].pvalue[gene] > 0.01
