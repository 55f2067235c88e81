"""Whole screens: the table of degenerate cases, the corrections, and scanpy on a real screen."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from reference.expression_filter import ExpressionThresholds
from reference.multiple_testing import benjamini_hochberg, bonferroni
from reference.normalize import log1p_normalize
from reference.pipelines import ComparisonOptions, ScreenStatistics, t_test, wilcoxon
from reference.rank_sum import rank_sum
from reference.welch import welch_t

NO_FILTER = ExpressionThresholds(0, 0, 0, 0)
OPEN = ComparisonOptions(thresholds=NO_FILTER)
STATISTICS = ["effect_size", "statistic", "pvalue", "pvalue_adj", "logfoldchanges"]
SILENT, ORDINARY, CONSTANT, INDUCED, SILENCED, RARE = range(6)
TESTS = [t_test, wilcoxon]


def small_screen() -> tuple[np.ndarray, np.ndarray]:
    """Return 20 cells of B, 300 controls, 15 of A, 1 of D; the genes are named above."""
    labels = np.array(["B"] * 20 + ["ctrl"] * 300 + ["A"] * 15 + ["D"])
    rng = np.random.default_rng(5)
    x = np.zeros((labels.size, 6))
    x[:, ORDINARY] = np.log1p(rng.poisson(2.0, labels.size))
    x[:, CONSTANT] = 0.1
    x[:20, INDUCED] = np.log1p(rng.poisson(3.0, 20))
    x[20:320, SILENCED] = np.log1p(rng.poisson(3.0, 300))
    x[25, RARE] = 0.4
    return x, labels


def pair(result: ScreenStatistics, group: str, gene: int) -> dict[str, float]:
    row = result.groups.index(group)
    return {name: float(getattr(result, name)[row, gene]) for name in [*STATISTICS, "u_statistic"]}


def test_groups_come_in_order_of_first_appearance_without_the_control() -> None:
    assert wilcoxon(*small_screen(), "ctrl", OPEN).groups == ("B", "A", "D")


@pytest.mark.parametrize("test", TESTS)
def test_low_gene_is_nan_with_its_fractions(test: Callable) -> None:
    x, labels = small_screen()
    result = test(x, labels, "ctrl")
    for gene in (SILENT, RARE):
        for name in STATISTICS:
            assert np.isnan(getattr(result, name)[:, gene]).all()
    assert_array_equal(result.pts[:, RARE], 0)
    assert_array_equal(result.pts_rest[:, RARE], 1 / 300)


def test_low_gene_does_not_count_in_the_correction() -> None:
    x, labels = small_screen()
    with_low, without = wilcoxon(x, labels, "ctrl"), wilcoxon(x[:, 1:5], labels, "ctrl")
    assert_array_equal(with_low.pvalue_adj[:, 1:5], without.pvalue_adj)


@pytest.mark.parametrize("test", TESTS)
def test_gene_expressed_in_too_few_cells_has_p_one_and_counts(test: Callable) -> None:
    x, labels = small_screen()
    result = test(x, labels, "ctrl", ComparisonOptions(NO_FILTER, min_cells_expressed=2))
    for group in ("B", "A"):
        for gene in (SILENT, RARE):
            expected = dict.fromkeys([*STATISTICS, "u_statistic"], 0.0)
            expected |= {"pvalue": 1.0, "pvalue_adj": 1.0}
            assert pair(result, group, gene) == expected
    tested = np.delete(result.pvalue[0], [SILENT, RARE])
    # SILENT is the first gene and RARE the last.
    assert_array_equal(result.pvalue_adj[0], benjamini_hochberg([1.0, *tested, 1.0]))


@pytest.mark.parametrize("test", TESTS)
def test_min_cells_expressed_is_inclusive_and_counts_both_arms(test: Callable) -> None:
    x, labels = small_screen()
    x[0, RARE] = 0.7
    result = test(x, labels, "ctrl", ComparisonOptions(NO_FILTER, min_cells_expressed=2))
    # Two expressing cells with B, one with A.
    assert pair(result, "B", RARE)["pvalue"] < 1
    assert pair(result, "A", RARE)["pvalue"] == 1


@pytest.mark.parametrize("test", TESTS)
def test_low_expression_filter_comes_before_min_cells_expressed(test: Callable) -> None:
    result = test(*small_screen(), "ctrl", ComparisonOptions(min_cells_expressed=2))
    assert np.isnan(result.pvalue[:, [SILENT, RARE]]).all()


@pytest.mark.parametrize("test", TESTS)
def test_group_below_min_cells_is_nan_with_its_fractions(test: Callable) -> None:
    x, labels = small_screen()
    result = test(x, labels, "ctrl", ComparisonOptions(NO_FILTER, min_cells_expressed=2))
    row = result.groups.index("D")
    for name in STATISTICS:
        assert np.isnan(getattr(result, name)[row]).all()
    assert result.pts[row, CONSTANT] == 1
    larger = test(x, labels, "ctrl", ComparisonOptions(NO_FILTER, min_cells_pert=16))
    assert np.isnan(larger.pvalue[larger.groups.index("A")]).all()
    assert np.isfinite(larger.pvalue[larger.groups.index("B"), ORDINARY])


def test_rank_sum_can_be_made_on_a_single_cell_when_asked_for() -> None:
    result = wilcoxon(*small_screen(), "ctrl", ComparisonOptions(NO_FILTER, min_cells_pert=1))
    assert np.isfinite(pair(result, "D", ORDINARY)["pvalue"])


def test_gene_without_any_count_when_nothing_is_filtered() -> None:
    screen = small_screen()
    t, w = (pair(test(*screen, "ctrl", OPEN), "B", SILENT) for test in TESTS)
    assert math.isnan(t["statistic"])
    assert math.isnan(t["pvalue"])
    assert math.isnan(t["pvalue_adj"])
    assert (t["effect_size"], t["logfoldchanges"]) == (0, 0)
    assert w == {
        "effect_size": 0, "statistic": 0, "pvalue": 1, "pvalue_adj": 1, "logfoldchanges": 0,
        "u_statistic": 20 * 300 / 2,
    }  # fmt: skip


def test_gene_with_one_value_in_all_cells() -> None:
    screen = small_screen()
    t, w = (pair(test(*screen, "ctrl", OPEN), "A", CONSTANT) for test in TESTS)
    assert math.isnan(t["statistic"])
    assert math.isnan(t["pvalue"])
    assert (w["statistic"], w["pvalue"], w["effect_size"]) == (0, 1, 0)


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize(("gene", "sign"), [(INDUCED, 1), (SILENCED, -1)])
def test_gene_silent_in_one_arm_is_tested(test: Callable, gene: int, sign: int) -> None:
    found = pair(test(*small_screen(), "ctrl"), "B", gene)
    assert found["pvalue"] < 1e-4
    for name in ("statistic", "effect_size", "logfoldchanges"):
        assert found[name] * sign > 0


def test_t_test_has_no_u() -> None:
    assert not t_test(*small_screen(), "ctrl").u_statistic.any()


def test_every_pair_is_the_single_gene_test() -> None:
    x, labels = small_screen()
    control, perturbed = x[labels == "ctrl", ORDINARY], x[labels == "A", ORDINARY]
    t, w = (pair(test(x, labels, "ctrl", OPEN), "A", ORDINARY) for test in TESTS)
    welch, ranks = welch_t(control, perturbed), rank_sum(control, perturbed)
    assert (t["statistic"], t["pvalue"]) == (welch.statistic, welch.pvalue)
    assert t["effect_size"] == pytest.approx(perturbed.mean() - control.mean(), rel=1e-12)
    assert (w["u_statistic"], w["statistic"], w["pvalue"], w["effect_size"]) == ranks
    assert t["logfoldchanges"] == w["logfoldchanges"]


def test_tie_correction_can_be_left_out() -> None:
    x, labels = small_screen()
    plain = pair(wilcoxon(x, labels, "ctrl", OPEN, tie_correct=False), "A", ORDINARY)
    expected = rank_sum(x[labels == "ctrl", ORDINARY], x[labels == "A", ORDINARY], False)
    assert plain["statistic"] == expected.z


@pytest.mark.parametrize(
    ("method", "correct"), [("benjamini-hochberg", benjamini_hochberg), ("bonferroni", bonferroni)]
)
def test_correction_runs_over_a_perturbation_or_over_the_screen(
    method: str, correct: Callable
) -> None:
    screen = small_screen()
    rows = wilcoxon(*screen, "ctrl", ComparisonOptions(NO_FILTER, corr_method=method))
    table = wilcoxon(*screen, "ctrl", ComparisonOptions(NO_FILTER, 0, 2, method, "screen"))
    for row, pvalues in enumerate(rows.pvalue):
        assert_array_equal(rows.pvalue_adj[row], correct(pvalues))
    assert_array_equal(table.pvalue_adj.ravel(), correct(rows.pvalue.ravel()))
    assert not np.array_equal(table.pvalue_adj, rows.pvalue_adj, equal_nan=True)


@pytest.mark.parametrize("test", TESTS)
def test_bad_input_is_refused_by_name(test: Callable) -> None:
    x, labels = small_screen()
    with pytest.raises(ValueError, match=r"control 'NTC' is not among the labels .*'ctrl'"):
        test(x, labels, "NTC")
    with pytest.raises(ValueError, match="one label per cell"):
        test(x, labels[:-1], "ctrl")
    with pytest.raises(ValueError, match="corr_method='fdr'"):
        test(x, labels, "ctrl", ComparisonOptions(corr_method="fdr"))
    with pytest.raises(ValueError, match="corr_scope='gene'"):
        test(x, labels, "ctrl", ComparisonOptions(corr_scope="gene"))
    x[3, 2] = np.nan
    with pytest.raises(ValueError, match="cell 3, gene 2 has value nan"):
        test(x, labels, "ctrl")


@pytest.fixture(scope="module")
def papalexi(data_dir: Path) -> ad.AnnData:
    """Every tenth of the 299 genes, log-normalized over all of them, in float64."""
    screen = ad.read_h5ad(data_dir / "papalexi_eccite_299genes.h5ad")
    expression = log1p_normalize(screen.X.toarray())[:, ::10]
    part = ad.AnnData(expression, obs=screen.obs[["perturbation"]].copy())
    part.var_names = screen.var_names[::10]
    part.obs["perturbation"] = part.obs["perturbation"].astype("category")
    return part


# scanpy builds its own table column by column.
@pytest.mark.filterwarnings("ignore:DataFrame is highly fragmented")
@pytest.mark.parametrize(
    ("test", "method", "extra"),
    [(wilcoxon, "wilcoxon", {"tie_correct": True}), (t_test, "t-test", {})],
    ids=["wilcoxon", "t-test"],
)
def test_agrees_with_scanpy_on_a_real_screen(
    papalexi: ad.AnnData, test: Callable, method: str, extra: dict
) -> None:
    labels = papalexi.obs["perturbation"].astype(str).to_numpy()
    result = test(papalexi.X, labels, "non-targeting", OPEN)
    sc.tl.rank_genes_groups(
        papalexi, "perturbation", reference="non-targeting", method=method, pts=True, **extra
    )
    assert len(result.groups) == 25
    for row, group in enumerate(result.groups):
        theirs = sc.get.rank_genes_groups_df(papalexi, group).set_index("names")
        theirs = theirs.loc[papalexi.var_names]
        # scanpy stores these two in float32, whose half unit is 6e-8.
        assert_allclose(result.statistic[row], theirs["scores"], rtol=1e-7, atol=1e-12)
        assert_allclose(result.logfoldchanges[row], theirs["logfoldchanges"], rtol=1e-7, atol=1e-9)
        # Variances summed in another order; |z| up to 28 multiplies their error by z^2 in p.
        assert_allclose(result.pvalue[row], theirs["pvals"], rtol=1e-10)
        assert_allclose(result.pvalue_adj[row], theirs["pvals_adj"], rtol=1e-10)
        assert_array_equal(result.pts[row], theirs["pct_nz_group"])


def test_agrees_with_scipy_on_a_real_screen(papalexi: ad.AnnData) -> None:
    x, labels = papalexi.X, papalexi.obs["perturbation"].astype(str).to_numpy()
    ranks, welch = (test(x, labels, "non-targeting", OPEN) for test in (wilcoxon, t_test))
    control = x[labels == "non-targeting"]
    for row, group in enumerate(ranks.groups):
        arms = x[labels == group], control
        mann_whitney = stats.mannwhitneyu(*arms, method="asymptotic", use_continuity=False)
        student = stats.ttest_ind(*arms, equal_var=False)
        assert_array_equal(ranks.u_statistic[row], mann_whitney.statistic)
        # The variance is rounded differently, and z^2 up to 800 amplifies that in p.
        assert_allclose(ranks.pvalue[row], mann_whitney.pvalue, rtol=1e-12)
        # Sums in another order, amplified by t^2 up to 600.
        assert_allclose(welch.pvalue[row], student.pvalue, rtol=1e-10)
