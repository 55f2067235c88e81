"""Numbers at the ends of their ranges: right where there is an answer, else refused or flagged."""

from __future__ import annotations

import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from layouts import COLUMN, in_memory
from scipy.special import log_ndtr
from scipy.stats import mannwhitneyu, ttest_ind

import crispyx as cx
from crispyx.errors import CrispyxWarning
from reference.welch import log_student_tail

NO_FILTER = {"min_pct_ctrl": 0, "min_pct_pert": 0, "min_mean_ctrl": 0, "min_mean_pert": 0}
ONE_PASS = pytest.mark.parametrize("test", [cx.wilcoxon_test, cx.t_test])


def screen(values: Any, labels: list[str]) -> Any:
    return in_memory(np.asarray(values, dtype=np.float64), labels, sp.csr_matrix)


def run(test: Any, adata: Any, folder: Path, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CrispyxWarning)
        return test(
            adata,
            perturbation_column=COLUMN,
            control_label="control",
            output_dir=folder,
            **NO_FILTER | options,
        )


def test_counts_up_to_two_to_the_31_keep_their_digits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    top = 2**31 - 1
    values = rng.integers(top - 40, top, (60, 3), endpoint=True)
    values[:30, 1] = 0
    labels = ["control"] * 30 + ["A"] * 30
    adata = screen(values, labels)
    adata.X = sp.csr_matrix(values.astype(np.int32))
    ranks = run(cx.wilcoxon_test, adata, tmp_path)["A"]
    expected = mannwhitneyu(values[30:], values[:30], method="asymptotic", use_continuity=False)
    np.testing.assert_allclose(ranks.pvalue, expected.pvalue, rtol=1e-12)
    kept = cx.quality_control_summary(
        adata,
        perturbation_column=COLUMN,
        control_label="control",
        min_genes=0,
        min_cells_per_gene=0,
        min_cells_per_perturbation=0,
        output_dir=tmp_path,
    )
    written = cx.read_h5ad_ondisk(kept.filtered_path).to_memory()
    assert np.array_equal(np.asarray(written.X.todense()), values)


@pytest.mark.parametrize("mean", [1e-6, 1e-3, 1.0, 1e3, 1e6])
def test_fold_change_is_found_at_any_mean(mean: float, tmp_path: Path) -> None:
    """Counts of both arms differ by a factor of two; a mean of 1e-6 is one UMI of one cell."""
    rng = np.random.default_rng(1)
    labels = ["control"] * 300 + ["A"] * 300
    rate = np.repeat([mean, 2 * mean], 300)[:, None] * np.array([[1.0, 1.0]])
    values = rng.poisson(rng.gamma(10, rate / 10)).astype(float)
    values[:, 1] = rng.poisson(50, 600)  # a gene of every cell
    if mean < 0.01:
        values[:, 0] = 0
        values[450, 0] = 1
    result = run(
        cx.nb_glm_test, screen(values, labels), tmp_path, size_factors=np.ones(600), resume=False
    )["A"]
    assert np.isfinite(result.effect_size[0])
    assert 0 <= result.pvalue[0] <= 1
    if mean >= 1:
        assert abs(result.effect_size[0] - 1) < 0.25
        assert result.pvalue[0] < 1e-12


@ONE_PASS
def test_one_cell_an_arm_has_no_t_and_no_small_p(test: Any, tmp_path: Path) -> None:
    adata = screen([[1.0, 0.0], [3.0, 0.0]], ["control", "A"])
    result = run(test, adata, tmp_path, min_cells_pert=1)["A"]
    assert np.all(np.isnan(result.pvalue) | (result.pvalue > 0.3))


@ONE_PASS
def test_one_gene_is_a_screen(test: Any, tmp_path: Path) -> None:
    x = np.random.default_rng(2).gamma(1.0, 1.0, (40, 1))
    result = run(test, screen(x, ["control"] * 20 + ["A"] * 20), tmp_path)["A"]
    if test is cx.t_test:
        expected = ttest_ind(x[20:], x[:20], equal_var=False).pvalue
    else:
        expected = mannwhitneyu(x[20:], x[:20], method="asymptotic", use_continuity=False).pvalue
    np.testing.assert_allclose(result.pvalue, expected, rtol=1e-10)


@pytest.mark.parametrize("value", [0.0, 1.0, 5e-324, 3e38])
def test_values_all_tied_differ_nowhere(value: float, tmp_path: Path) -> None:
    adata = screen(np.full((20, 2), value), ["control"] * 10 + ["A"] * 10)
    ranks = run(cx.wilcoxon_test, adata, tmp_path)["A"]
    assert np.all(ranks.statistic == 0)
    assert np.all(ranks.pvalue == 1)


def test_denormals_are_ranked_like_all_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    x = rng.integers(0, 9, (40, 2)) * 5e-324
    labels = ["control"] * 20 + ["A"] * 20
    tiny = run(cx.wilcoxon_test, screen(x, labels), tmp_path / "tiny")["A"]
    plain = run(cx.wilcoxon_test, screen(x / 5e-324, labels), tmp_path / "plain")["A"]
    assert np.array_equal(tiny.statistic, plain.statistic)


def test_more_groups_than_sixteen_bits_count(tmp_path: Path) -> None:
    n_groups = 2**16 + 3
    x = np.zeros((n_groups + 4, 2))
    x[:4, 0] = [1, 2, 3, 4]
    x[4:, 0] = np.arange(n_groups) % 7
    labels = ["control"] * 4 + [f"P{k}" for k in range(n_groups)]
    result = run(cx.wilcoxon_test, screen(x, labels), tmp_path, min_cells_pert=1)
    assert len(result.groups) == n_groups
    for k in (0, 1, 2**15, 2**16 - 1, 2**16, n_groups - 1):
        row = result[f"P{k}"]
        value = k % 7
        u = sum(Fraction(1 if value > c else 0) + Fraction(value == c, 2) for c in (1, 2, 3, 4))
        assert result.u_statistics[result.groups.index(f"P{k}"), 0] == u
        assert row.pvalue[1] == 1


def test_profiles_of_more_groups_than_sixteen_bits_count(tmp_path: Path) -> None:
    n_groups = 2**16 + 3
    x = np.arange(1, 2 * n_groups + 1, dtype=float)[:, None] * [1, 0]
    adata = screen(x, [f"P{k % n_groups}" for k in range(2 * n_groups)])
    profiles = cx.pb.aggregate(
        adata, groupby=COLUMN, min_cells=1, output_path=tmp_path / "sums.h5ad"
    )
    sums = profiles.to_memory()
    assert sums.n_obs == n_groups
    found = sums[[f"P{k}" for k in range(n_groups)]].X
    expected = (2 * np.arange(n_groups) + 2 + n_groups)[:, None] * [1, 0]
    np.testing.assert_array_equal(np.asarray(found), expected)


@ONE_PASS
def test_cells_behind_more_values_than_32_bits_count_are_tested(test: Any, tmp_path: Path) -> None:
    """The first values, 2.4e9 of them, exist as a claim only: nobody asks for these cells."""
    rng = np.random.default_rng(6)
    n_before, n_genes, n_cells = 60_000, 40_000, 80
    labels = ["other"] * n_before + ["control", "A"] * (n_cells // 2)
    counted = sp.random(n_cells, n_genes, density=0.01, format="csr", rng=rng, dtype=np.float32)
    first = n_before * n_genes
    path = tmp_path / "large.h5ad"
    cells = [f"c{i}" for i in range(n_before + n_cells)]
    frame = pd.DataFrame({COLUMN: labels}, index=cells)
    ad.AnnData(obs=frame, var=pd.DataFrame(index=[f"g{j}" for j in range(n_genes)])).write_h5ad(
        path
    )
    with h5py.File(path, "r+") as file:
        file.pop("X", None)
        matrix = file.create_group("X")
        matrix.attrs["encoding-type"], matrix.attrs["encoding-version"] = "csr_matrix", "0.1.0"
        matrix.attrs["shape"] = np.array([len(labels), n_genes])
        for name, values in (("data", counted.data), ("indices", counted.indices)):
            node = matrix.create_dataset(
                name, (first + counted.nnz,), values.dtype, chunks=(1 << 15,)
            )
            node[first:] = values
        before = np.arange(n_before, dtype=np.int64) * n_genes
        matrix["indptr"] = np.concatenate([before, counted.indptr.astype("i8") + first])
    assert first > 2**31
    small = in_memory(counted.toarray(), labels[n_before:], sp.csr_matrix)
    found = run(test, path, tmp_path / "large", perturbations=["A"])
    expected = run(test, small, tmp_path / "small")
    assert (expected.pvalues < 0.5).sum() > 100
    np.testing.assert_array_equal(found.pvalues, expected.pvalues)
    np.testing.assert_array_equal(found.statistics, expected.statistics)


def test_logs_go_on_where_p_is_too_small_for_a_number(tmp_path: Path) -> None:
    n = 3_000
    control = np.random.default_rng(4).gamma(1, 1, (n, 2))
    control[:, 1] += 9
    raised = control.copy()
    raised[:, 0] += 9
    x = np.concatenate([control, np.zeros((1, 2)), raised])
    labels = ["control"] * (n + 1) + ["A"] * n
    result = run(cx.wilcoxon_test, screen(x, labels), tmp_path)
    assert result.pvalues[0, 0] == 0
    z = result.statistics[0]
    assert abs(z[0]) > 39
    assert result.log_pvalues[0, 0] == np.log(2) + log_ndtr(-abs(z[0])) < -745
    np.testing.assert_allclose(result.log_pvalues[0, 1], np.log(result.pvalues[0, 1]), rtol=1e-12)
    above = run(cx.wilcoxon_test, screen(x, labels), tmp_path / "one", alternative="greater")
    assert above.log_pvalues[0, 0] == log_ndtr(-z[0])


@pytest.mark.parametrize("batch", [None, "batch"])
@pytest.mark.parametrize("alternative", ["two-sided", "greater"])
def test_logs_of_a_t_test_go_on_where_p_is_too_small_for_a_number(
    alternative: str, batch: str | None, tmp_path: Path
) -> None:
    rng = np.random.default_rng(4)
    labels = np.repeat(["control", "A"], [1_500, 700])
    x = rng.gamma(1, 1, (2_200, 4))
    x[1_500:] += [200, 210, 45, 0.2]
    adata = screen(x, labels.tolist())
    adata.obs["batch"] = ["a", "b"] * 1_100
    options = {"alternative": alternative, "batch_column": batch}
    result = run(cx.t_test, adata, tmp_path, **options)
    t, df, p, logs = (
        table[0]
        for table in (
            result.statistics, result.degrees_of_freedom, result.pvalues, result.log_pvalues,
        )
    )  # fmt: skip
    assert (p[:3] == 0).all()
    assert p[3] > 1e-30
    assert np.isfinite(logs).all()
    assert logs[1] < logs[0] < logs[2] < -745
    # Degrees of freedom of seven digits move a log of -4000 by less than 1e-7 of it.
    exact = [log_student_tail(float(a), float(b), alternative) for a, b in zip(t, df, strict=True)]
    np.testing.assert_allclose(logs, exact, rtol=1e-7)
    assert np.isfinite(result.log_pvalues_adj).all()
    assert result.log_pvalues_adj[0, 1] < result.log_pvalues_adj[0, 0]


@pytest.mark.parametrize("scope", ["perturbation", "screen"])
@pytest.mark.parametrize("method", ["wilcoxon", "nb_glm"])
def test_logs_of_adjusted_p_are_those_of_the_correction_that_was_made(
    method: str, scope: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(5)
    labels = ["control"] * 900 + ["A"] * 700 + ["B"] * 60
    x = rng.poisson(3, (1_660, 12)).astype(float)
    x[900:1_600, :3] += [40, 50, 1]
    x[:, 11] = 0
    test = cx.wilcoxon_test if method == "wilcoxon" else cx.nb_glm_test
    given = {} if method == "wilcoxon" else {"preset": "calibrated"}
    result = run(test, screen(x, labels), tmp_path, corr_scope=scope, **given)
    assert result.pvalue_correction_scope == scope
    logs, adjusted = result.log_pvalues_adj, result.pvalues_adj
    np.testing.assert_array_equal(np.isnan(logs), np.isnan(adjusted))
    number = adjusted > 1e-300
    assert number.sum() > 10
    # p of a normal statistic z has a relative error of z^2 roundings: z^2 < 1,400 here.
    np.testing.assert_allclose(logs[number], np.log(adjusted[number]), rtol=1e-12, atol=1e-12)
    assert np.isfinite(logs[0, :2]).all()
    if method == "nb_glm":
        assert adjusted[0, 0] == adjusted[0, 1] == 0
        assert logs[0, 0] != logs[0, 1]
