"""Tests within batches, one-sided tests and guides of one target, through the public functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from layouts import COLUMN, assert_same_bits, log_screen, tables_of
from scipy import stats

import crispyx as cx
from crispyx.de import t_test, wilcoxon_test
from crispyx.errors import CrispyxWarning, InputError, MissingColumnError
from reference.batch_welch import welch_in_batches
from reference.van_elteren import van_elteren

METHODS = [wilcoxon_test, t_test]
OPEN = {"min_pct_both": 0.0, "min_mean_ctrl": 0.0, "min_mean_pert": 0.0}

pytestmark = pytest.mark.filterwarnings(
    "ignore:.* cells have no label", "ignore:in .* tests one arm"
)


def screen(layout: str = "csr") -> anndata.AnnData:
    """Return log expression with labels and batches; MYC is in one batch only."""
    values, labels = log_screen()
    rng = np.random.default_rng(5)
    obs = pd.DataFrame(
        {
            COLUMN: pd.Categorical(labels),
            "batch": rng.choice(["b2", "b1", "b3"], len(labels)),
            "one": "all",
        },
        index=[f"cell{i}" for i in range(len(labels))],
    )
    obs.loc[obs[COLUMN] == "MYC", "batch"] = "b1"
    form = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "dense": np.ascontiguousarray}[layout]
    return anndata.AnnData(
        form(values), obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(13)])
    )


def result_tables(method: Any, data: Any, output: Path, **options: Any) -> dict[str, np.ndarray]:
    method(
        data,
        perturbation_column=COLUMN,
        output_path=output,
        force=True,
        **({**OPEN, **options}),
    )
    return tables_of(output)


@pytest.mark.parametrize("control_label", ["control", "rest"])
@pytest.mark.parametrize("alternative", ["two-sided", "less"])
@pytest.mark.parametrize("method", METHODS)
def test_statistics_are_the_references_within_batches(
    method, alternative, control_label, tmp_path
) -> None:
    adata = screen()
    found = result_tables(
        method,
        adata,
        tmp_path / "r.h5ad",
        batch_column="batch",
        alternative=alternative,
        control_label=control_label,
    )
    labels = adata.obs[COLUMN].astype(object)
    x, batch = adata.X.toarray(), adata.obs["batch"]
    for row, label in enumerate(anndata.read_h5ad(tmp_path / "r.h5ad").obs_names):
        own = (labels == label).to_numpy()
        control = ~own & labels.notna() if control_label == "rest" else labels == "control"
        for g in range(13):
            arms = [(x[control & (batch == b), g], x[own & (batch == b), g]) for b in set(batch)]
            if method is wilcoxon_test:
                test = van_elteren(arms, alternative=alternative)
                expected = test.effect_size, test.z, test.pvalue
            else:
                test = welch_in_batches(arms, alternative)
                expected = test.difference, test.statistic, test.pvalue
            tables = [found[name][row, g] for name in ("X", "z_score", "pvalue")]
            # X of the t-test is float32.
            np.testing.assert_allclose(tables[0], expected[0], rtol=2e-7, atol=1e-8)
            np.testing.assert_allclose(tables[1:], expected[1:], rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
@pytest.mark.parametrize("method", METHODS)
def test_one_batch_is_the_plain_test_to_the_last_bit(method, layout, tmp_path) -> None:
    adata = screen(layout)
    adata = adata[adata.obs[COLUMN].notna()].copy()
    plain = result_tables(method, adata, tmp_path / "plain.h5ad")
    found = result_tables(method, adata, tmp_path / "one.h5ad", batch_column="one")
    assert_same_bits(found, plain)


@pytest.mark.parametrize("method", METHODS)
def test_layout_threads_and_blocks_change_no_bit(method, tmp_path) -> None:
    options = {"batch_column": "batch", "alternative": "greater"}
    expected = result_tables(method, screen(), tmp_path / "r.h5ad", **options)
    for layout in ("csc", "dense"):
        found = result_tables(method, screen(layout), tmp_path / "r.h5ad", **options)
        assert_same_bits(found, expected)
    size = "chunk_size" if method is wilcoxon_test else "cell_chunk_size"
    for more in ({"n_jobs": 1}, {"n_jobs": 3, size: 4}, {size: 1}):
        found = result_tables(method, screen(), tmp_path / "r.h5ad", **options, **more)
        assert_same_bits(found, expected)


@pytest.mark.parametrize("method", METHODS)
def test_engines_agree(method, tmp_path) -> None:
    options = {"batch_column": "batch", "alternative": "greater"}
    compiled = result_tables(method, screen(), tmp_path / "r.h5ad", **options)
    with cx.use_engine("reference"):
        found = result_tables(method, screen(), tmp_path / "r.h5ad", **options)
    for name, table in compiled.items():
        np.testing.assert_allclose(found[name], table, rtol=3e-7, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("method", METHODS)
def test_perturbation_that_shares_no_batch_with_the_control_is_not_tested(method, tmp_path) -> None:
    adata = screen()
    adata.obs["batch"] = adata.obs["batch"].astype(str)
    adata.obs.loc[adata.obs[COLUMN] == "MYC", "batch"] = "alone"
    with pytest.warns(CrispyxWarning, match="1 perturbations share no batch .*'MYC'"):
        found = result_tables(method, adata, tmp_path / "r.h5ad", batch_column="batch")
    assert np.isnan(found["pvalue"][2]).all()
    assert np.isnan(found["X"][2]).all()
    assert np.isfinite(found["pts"]).all()


def test_cells_without_a_batch_are_left_out(tmp_path) -> None:
    adata = screen()
    adata.obs.loc[adata.obs_names[:20], "batch"] = None
    with pytest.warns(CrispyxWarning, match="20 of 61 cells have no batch"):
        found = result_tables(wilcoxon_test, adata, tmp_path / "r.h5ad", batch_column="batch")
    rest = adata[20:].copy()
    expected = result_tables(wilcoxon_test, rest, tmp_path / "r.h5ad", batch_column="batch")
    order = anndata.read_h5ad(tmp_path / "r.h5ad").obs_names
    place = [list(order).index(k) for k in ("KLF1", "GATA1", "MYC")]
    # Batches come in another order of first appearance, and sums over them with it.
    for name, table in found.items():
        np.testing.assert_allclose(table, expected[name][place], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("method", METHODS)
def test_alternative_changes_p_only(method, tmp_path) -> None:
    both = result_tables(method, screen(), tmp_path / "r.h5ad")
    for alternative, sign in (("greater", 1), ("less", -1)):
        one = result_tables(method, screen(), tmp_path / "r.h5ad", alternative=alternative)
        for name in both.keys() - {"pvalue", "pvalue_adj"}:
            np.testing.assert_array_equal(one[name], both[name], err_msg=name)
        z, p = both["z_score"], both["pvalue"]
        expected = np.where(sign * z > 0, p / 2, 1 - p / 2)
        np.testing.assert_allclose(one["pvalue"], expected, rtol=1e-12)


def test_choices_are_checked_recorded_and_part_of_the_identity(tmp_path) -> None:
    screen().write_h5ad(tmp_path / "s.h5ad")
    options = {"perturbation_column": COLUMN, **OPEN}
    path = tmp_path / "s.h5ad"
    with pytest.raises(InputError, match="two-sided"):
        wilcoxon_test(path, alternative="both", **options)
    with pytest.raises(MissingColumnError, match="lane"):
        t_test(path, batch_column="lane", **options)
    wilcoxon_test(path, **options)
    with pytest.warns(CrispyxWarning, match="computed again.*batch_column None -> 'batch'"):
        result = cx.tl.rank_genes_groups(
            path, method="wilcoxon", batch_column="batch", alternative="less", **options
        )
    uns = anndata.read_h5ad(result.result_path).uns
    assert (uns["batch_column"], uns["alternative"]) == ("batch", "less")


@pytest.fixture(scope="module")
def papalexi(data_dir: Path, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("papalexi") / "log.h5ad"
    cx.pp.normalize_total_log1p(data_dir / "papalexi_eccite_299genes.h5ad", path, verbose=False)
    return path


def test_replicates_of_a_real_screen_against_the_definition(papalexi, tmp_path) -> None:
    result = wilcoxon_test(
        papalexi,
        perturbation_column="perturbation",
        perturbations=["IFNGR1", "CAV1"],
        batch_column="bio_rep",
        output_dir=tmp_path,
        **OPEN,
    )
    adata = anndata.read_h5ad(papalexi)
    batch = adata.obs["bio_rep"]
    for label in result.groups:
        for g in range(0, 299, 13):
            excess = variance = 0.0
            for b in batch.unique():
                x = adata.X[(batch == b).to_numpy(), g].toarray().ravel()
                labels = adata.obs["perturbation"][batch == b]
                control, own = x[labels == "non-targeting"], x[labels == label]
                n0, n1 = len(control), len(own)
                ranks = stats.rankdata(np.concatenate([control, own]))
                weight = 1 / (n0 + n1 + 1)
                excess += weight * (ranks[n0:].sum() - n1 * (n0 + n1 + 1) / 2)
                variance += weight**2 * n0 * n1 / (n0 + n1) * ranks.var(ddof=1)
            row = list(result.groups).index(label)
            z = excess / np.sqrt(variance) if variance else 0.0
            # The variance of ranks is summed in floating point here.
            np.testing.assert_allclose(result.statistics[row, g], z, rtol=1e-10, atol=1e-12)
    assert result["IFNGR1"].statistic[list(result.genes).index("PSMB9")] < -5


def test_guides_of_one_target_agree_more_than_guides_of_two(papalexi, tmp_path) -> None:
    obs = cx.load_obs(papalexi)
    target = dict(zip(obs["guide"].astype(str), obs["perturbation"].astype(str), strict=True))
    adata = anndata.read_h5ad(papalexi)
    adata.obs["guide"] = np.where(
        adata.obs["perturbation"] == "non-targeting",
        "non-targeting",
        adata.obs["guide"].astype(str),
    )
    guides = sorted(k for k, v in target.items() if v in ("IFNGR1", "JAK2", "CAV1"))
    result = cx.tl.rank_genes_groups(
        adata, groupby="guide", perturbations=guides, output_dir=tmp_path, batch_column="bio_rep"
    )
    table = cx.tl.guide_concordance(result, target)
    assert len(table) == sum(
        n * (n - 1) // 2 for n in pd.Series([target[k] for k in guides]).value_counts()
    )
    own = table.groupby("target").mean(numeric_only=True)
    assert (own.loc[["IFNGR1", "JAK2"], "spearman"] > 0.5).all()
    assert own.loc["CAV1", "spearman"] < 0.4
    mixed = {k: "IFNGR1 and CAV1" for k in guides if target[k] != "JAK2"}
    across = cx.tl.guide_concordance(result, mixed)
    across = across[across["guide_1"].map(target) != across["guide_2"].map(target)]
    assert across["spearman"].mean() < own.loc["IFNGR1", "spearman"]


def test_columns_of_concordance_by_hand(tmp_path) -> None:
    nan = np.nan
    z = np.array([[3.0, -4.0, 1.0, nan, 5.0], [2.5, 4.0, -1.0, 3.0, 6.0]])
    padj = np.array([[0.01, 0.01, 0.9, nan, 0.01], [0.2, 0.01, 0.9, 0.01, 0.01]])
    result = cx.RankGenesGroupsResult(
        genes=pd.Index(list("abcde")),
        groups=["g1", "g2"],
        statistics=z,
        pvalues=padj,
        pvalues_adj=padj,
        logfoldchanges=np.where(np.isnan(z), nan, z),
        effect_size=z,
        u_statistics=z,
        pts=z,
        pts_rest=z,
        order=np.zeros((2, 5), dtype=int),
        groupby="guide",
        method="wilcoxon",
        control_label="NTC",
        tie_correct=True,
        pvalue_correction="benjamini-hochberg",
    )
    [row] = cx.tl.guide_concordance(result, {"g1": "T", "g2": "T"}).to_dict("records")
    assert (row["n_genes"], row["n_significant_1"], row["n_significant_2"]) == (4, 3, 2)
    assert row["n_shared"] == 2
    assert row["jaccard"] == pytest.approx(2 / 3)
    assert row["sign_agreement"] == pytest.approx(2 / 3)  # b is the one that differs
    # 3 of 4 genes drawn twice out of the 4: two of them hit in 3 of 6 ways.
    assert row["pvalue_shared"] == pytest.approx(0.5)
    # Ranks 3 1 2 4 and 2 3 1 4 of a, b, c, e.
    assert row["spearman"] == pytest.approx(1 - 6 * (1 + 4 + 1) / (4 * 15))
    summary = cx.tl.guide_concordance(result, {"g1": "T", "g2": "T"}, per="target").loc["T"]
    assert summary["n_guides"] == 2
    # d is not tested in g1, and significant in g2 all the same.
    assert summary[["n_significant_any", "n_significant_two", "n_significant_all"]].tolist() == [
        4,
        2,
        2,
    ]
    assert summary["sign_agreement"] == row["sign_agreement"]
    with pytest.raises(InputError, match="no target has two guides"):
        cx.tl.guide_concordance(result, {"g1": "T", "g2": "S"})
    with pytest.raises(InputError, match="alpha"):
        cx.tl.guide_concordance(result, {"g1": "T", "g2": "T"}, alpha=0)
    with pytest.raises(InputError, match="'pair' or 'target'"):
        cx.tl.guide_concordance(result, {"g1": "T", "g2": "T"}, per="gene")
