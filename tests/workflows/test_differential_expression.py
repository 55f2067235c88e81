"""t_test, wilcoxon_test and rank_genes_groups through their public doors."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layouts import COLUMN, count_screen, in_memory, log_screen, tables_of, write_h5ad
from scipy import stats
from strategies import screens

import crispyx as cx
import reference.pipelines
from crispyx.de import load_result, rank_genes_groups, t_test, wilcoxon_test
from crispyx.errors import (
    CrispyxWarning,
    InputError,
    InputTypeError,
    MissingColumnError,
    MissingFileError,
)
from reference.expression_filter import ExpressionThresholds
from reference.pipelines import ComparisonOptions

METHODS = [wilcoxon_test, t_test]
UNFILTERED = {"min_pct_both": 0.0, "min_mean_ctrl": 0.0, "min_mean_pert": 0.0}
EPS = np.finfo(float).eps


@pytest.fixture
def screen(tmp_path: Path) -> Path:
    values, labels = log_screen()
    labels = [label or "control" for label in labels]
    return write_h5ad(tmp_path / "screen.h5ad", values, labels)


def quietly(method: Callable[..., Any], data: Any, **options: Any) -> Any:
    """Run a test whose warnings are not what is tested."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CrispyxWarning)
        return method(data, perturbation_column=COLUMN, **options)


# Against the definitions


fractions, means = st.sampled_from([0, 0.2, 0.6]), st.sampled_from([0, 0.4, 2.0])
options_of_a_comparison = st.builds(
    ComparisonOptions,
    thresholds=st.builds(ExpressionThresholds, fractions, fractions, means, means),
    min_cells_expressed=st.sampled_from([0, 3, 6]),
    min_cells_pert=st.integers(1, 3),
    corr_method=st.sampled_from(["benjamini-hochberg", "bonferroni"]),
    corr_scope=st.sampled_from(["perturbation", "screen"]),
)
TABLES = {
    "effect_size": "effect_size",
    "statistics": "statistic",
    "pvalues": "pvalue",
    "pvalues_adj": "pvalue_adj",
    "logfoldchanges": "logfoldchanges",
    "u_statistics": "u_statistic",
    "pts": "pts",
    "pts_rest": "pts_rest",
}


def documented(options: ComparisonOptions) -> dict[str, Any]:
    """Return options as the arguments of the public functions."""
    given = {k: v for k, v in vars(options).items() if k != "thresholds"}
    return given | vars(options.thresholds)


def on_the_fly(values: np.ndarray) -> np.ndarray:
    """Normalize counts as t_test does; other values are left as they are."""
    is_counts = np.all((values >= 0) & (values == np.floor(values))) and values.any()
    if not is_counts:
        return values
    sizes = values.sum(axis=1, keepdims=True)
    return np.log1p(values * 1e4 / np.where(sizes > 0, sizes, 1))


@pytest.mark.parametrize("method", METHODS)
@given(screens(), options_of_a_comparison, st.sampled_from(["csr", "csc", "dense"]), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_both_engines_give_what_the_reference_defines(
    method, tmp_path_factory, case, options: ComparisonOptions, layout: str, tie_correct: bool
) -> None:
    values, labels = case
    folder = tmp_path_factory.mktemp("screen", numbered=True)
    path = write_h5ad(folder / "screen.h5ad", values, labels, layout=layout, dtype="f8")
    arguments = documented(options)
    known = np.array([label is not None for label in labels])
    names = np.array(labels)[known]
    if method is wilcoxon_test:
        arguments["tie_correct"] = tie_correct
        values = values[known]
        expected = reference.pipelines.wilcoxon(values, names, "control", options, tie_correct)
    else:
        values = on_the_fly(values)[known]
        expected = reference.pipelines.t_test(values, names, "control", options)
    compiled = quietly(method, path, **arguments)
    with cx.use_engine("reference"):
        by_reference = quietly(method, path, output_path=folder / "reference.h5ad", **arguments)
    assert compiled.groups == by_reference.groups == list(expected.groups)

    for found in (compiled, by_reference):
        assert_as_defined(found, expected, values, exact=found is by_reference)


def assert_as_defined(found, expected, values: np.ndarray, *, exact: bool) -> None:
    """Compare a result with the reference's tables; fractions and U are exact for both engines."""
    ranks = found.method == "wilcoxon"
    largest = np.abs(values).max(axis=0)
    # A sum of n values is off by n roundings of the largest at most.
    rounding = len(values) * EPS * largest
    # Where values differ in their last digits only, float64 cannot tell the mean from them.
    spread = np.ptp(values, axis=0)
    known = (spread == 0) | (spread > 1e7 * rounding)
    for name, definition in TABLES.items():
        table, truth = getattr(found, name), getattr(expected, definition)
        narrow = 1.2e-7 if table.dtype == np.float32 else 0
        if name in ("u_statistics", "pts", "pts_rest"):
            np.testing.assert_allclose(table, truth, rtol=narrow / 2, atol=0, err_msg=name)
        elif ranks and name != "logfoldchanges":
            # The variance, its root and the quotient take seven roundings; p has them z^2 times.
            np.testing.assert_allclose(table, truth, rtol=5e-14, atol=0, err_msg=name)
        elif name == "pvalues_adj":
            np.testing.assert_array_equal(np.isnan(table), np.isnan(found.pvalues), err_msg=name)
            if known.all():
                np.testing.assert_allclose(table, truth, rtol=1e-4, atol=1e-6, err_msg=name)
        else:
            rtol = 1e-15 + narrow if exact and name != "effect_size" else 1e-6
            # 1e-9 stands beside a mean that is off by the rounding in a fold change.
            atol = 4 * rounding * (1e9 if name == "logfoldchanges" else 1)
            atol = np.minimum(atol + narrow * largest, 1e-3) if not exact else narrow * largest
            for g in np.flatnonzero(known):
                np.testing.assert_allclose(
                    table[:, g], truth[:, g], rtol=rtol, atol=float(atol[g]), err_msg=name
                )


# Against SciPy and scanpy, on simulated and on real screens


class Data(NamedTuple):
    path: Path
    adata: anndata.AnnData
    control: str
    wilcoxon: Any
    t: Any


REAL = {
    "papalexi": ("papalexi_eccite_299genes.h5ad", "non-targeting"),
    "norman": ("norman2019_crispra_500hvg.h5ad", "control"),
    "schraivogel": ("schraivogel_tapseq.h5ad", "non-targeting"),
}


def simulated_counts() -> anndata.AnnData:
    rng = np.random.default_rng(0)
    labels = rng.choice(["NT", "A", "B", "C"], 3000, p=[0.5, 0.3, 0.19, 0.01])
    rates = rng.gamma(0.5, 2.0, 150) * rng.gamma(10, 0.1, (3000, 1))
    rates[labels == "A", :50] *= 2
    rates[labels == "B", 50:60] = 0
    return in_memory(rng.poisson(rates), labels, sp.csr_matrix)


@pytest.fixture(scope="module", params=["simulated", *REAL])
def data(request, tmp_path_factory) -> Data:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "simulated":
        adata, control = simulated_counts(), "NT"
    else:
        name, control = REAL[request.param]
        adata = anndata.read_h5ad(request.getfixturevalue("data_dir") / name)
    counts = adata.X.toarray().astype(np.float64)
    sizes = counts.sum(axis=1, keepdims=True)
    logs = np.log1p(counts * 1e4 / np.where(sizes > 0, sizes, 1))
    labels = adata.obs["perturbation"].astype(str).tolist()
    path = write_h5ad(folder / "screen.h5ad", logs, labels, dtype="f8")
    results = [quietly(method, path, control_label=control, **UNFILTERED) for method in METHODS]
    return Data(path, in_memory(logs, labels, np.asarray), control, *results)


def arms(data: Data):
    """Yield every perturbation's row, its cells and the control's (n_cells, n_genes)."""
    labels = data.adata.obs[COLUMN].to_numpy()
    for row, label in enumerate(data.wilcoxon.groups):
        yield row, data.adata.X[labels == label], data.adata.X[labels == data.control]


def test_wilcoxon_is_scipys_for_every_perturbation_and_gene(data: Data) -> None:
    result = data.wilcoxon
    for row, perturbed, control in arms(data):
        with np.errstate(divide="ignore", invalid="ignore"):
            theirs = stats.mannwhitneyu(
                perturbed, control, method="asymptotic", use_continuity=False
            )
        np.testing.assert_array_equal(result.u_statistics[row], theirs.statistic)
        tied = np.ptp(np.concatenate([perturbed, control]), axis=0) == 0
        assert np.all(result.pvalues[row, tied] == 1)
        told = ~tied & (theirs.pvalue > 1e-300)
        np.testing.assert_allclose(result.pvalues[row, told], theirs.pvalue[told], rtol=1e-12)
        # z by its definition: the p-value alone would hide its sign.
        center = len(perturbed) * len(control) / 2
        assert np.all(np.sign(result.statistics[row]) == np.sign(theirs.statistic - center))


def test_t_is_scipys_for_every_perturbation_and_gene(data: Data) -> None:
    for row, perturbed, control in arms(data):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # genes without any variation
            theirs = stats.ttest_ind(perturbed, control, equal_var=False)
        # Means that nearly meet leave t its absolute error: some roundings of the means over their
        # standard error, which is above 1e-3 of them here.
        np.testing.assert_allclose(data.t.statistics[row], theirs.statistic, rtol=1e-10, atol=1e-12)
        told = ~(theirs.pvalue < 1e-300)
        np.testing.assert_allclose(data.t.pvalues[row, told], theirs.pvalue[told], rtol=1e-9)


@pytest.mark.parametrize("name", ["wilcoxon", "t"])
def test_scores_and_fold_changes_are_scanpys(data: Data, name: str) -> None:
    result = getattr(data, name)
    adata = data.adata.copy()
    adata.uns["log1p"] = {"base": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fragmented tables, genes without variation
        method = {"wilcoxon": "wilcoxon", "t": "t-test"}[name]
        sc.tl.rank_genes_groups(
            adata, COLUMN, reference=data.control, method=method, tie_correct=name == "wilcoxon"
        )
        for row, label in enumerate(result.groups):
            theirs = sc.get.rank_genes_groups_df(adata, label).set_index("names")
            theirs = theirs.loc[list(result.genes)]
            # scanpy gives 0 for what has no t, and stores scores and fold changes as float32.
            ours = np.nan_to_num(result.statistics[row])
            np.testing.assert_allclose(ours, theirs["scores"], rtol=2e-6, atol=2e-6)
            np.testing.assert_allclose(
                result.logfoldchanges[row], theirs["logfoldchanges"], rtol=1e-5, atol=1e-5
            )
            ours = np.nan_to_num(result.pvalues[row], nan=1.0)
            np.testing.assert_allclose(ours, theirs["pvals"], rtol=1e-9, atol=1e-13)


def test_known_biology_stands_at_the_top(data_dir: Path, tmp_path: Path) -> None:
    for name, label, gene in (
        ("papalexi_eccite_299genes", "IFNGR1", "PSMB9"),
        ("schraivogel_tapseq", "DSCC1", "DSCC1"),
        ("schraivogel_tapseq", "STK3", "STK3"),
    ):
        path = data_dir / f"{name}.h5ad"
        logs = cx.pp.normalize_total_log1p(path, tmp_path / f"{name}_logs.h5ad", verbose=False)
        result = wilcoxon_test(logs, groupby=COLUMN, control_label="non-targeting", force=True)
        top = result.genes[result.order[result.groups.index(label)]][:3]
        assert gene in list(top)
        assert result[label].effect_size[list(result.genes).index(gene)] < 0


# Degenerate cases


# gene: values of six control cells and of four perturbed ones
GENES = {
    "ordinary": ([0, 1, 2, 0, 1.5, 0.3], [2, 0, 3, 1]),
    "all zero": ([0] * 6, [0] * 4),
    "all equal": ([0.7] * 6, [0.7] * 4),
    "control silent": ([0] * 6, [1, 2, 0, 1.5]),
    "perturbed silent": ([1, 0, 2, 0.5, 1, 1], [0] * 4),
    "two equal arms": ([0.5] * 6, [1.5] * 4),
}


def degenerate(tmp_path: Path, n_perturbed: int = 4) -> Path:
    columns = [control + perturbed[:n_perturbed] for control, perturbed in GENES.values()]
    labels = ["control"] * 6 + ["A"] * n_perturbed
    values = np.array(columns, dtype=float).T
    # Another group keeps the screen valid and, with a fraction, clear of counts.
    values = np.vstack([values, np.full((2, len(GENES)), [[0.25], [0.5]])])
    names = list(GENES)
    path = tmp_path / "degenerate.h5ad"
    return write_h5ad(path, values, [*labels, "B", "B"], genes=names, dtype="f8")


def table_of(result: Any, label: str = "A") -> pd.DataFrame:
    row = result.groups.index(label)
    names = ["statistics", "pvalues", "pvalues_adj", "logfoldchanges", "effect_size"]
    names += ["pts", "pts_rest"]
    return pd.DataFrame({n: getattr(result, n)[row] for n in names}, index=list(result.genes))


@pytest.mark.parametrize("engine", ["compiled", "reference"])
def test_genes_without_variation_take_their_place_in_the_table(engine, tmp_path: Path) -> None:
    path = degenerate(tmp_path)
    with cx.use_engine(engine):
        w = table_of(quietly(wilcoxon_test, path, **UNFILTERED))
        t = table_of(quietly(t_test, path, **UNFILTERED))
    for gene in ("all zero", "all equal"):
        assert w.loc[gene, ["statistics", "pvalues", "effect_size"]].tolist() == [0, 1, 0]
        assert t.loc[gene, ["statistics", "pvalues", "pvalues_adj"]].isna().all()
        for table in (w, t):
            # The means of ten and of four times 0.7 differ in their last digit.
            assert table.loc[gene, "logfoldchanges"] == pytest.approx(0, abs=1e-15)
    # Two arms of equal values each: ranks tell them apart, Welch has no variance to divide by.
    assert w.loc["two equal arms", "effect_size"] == 0.5
    assert t.loc["two equal arms", ["statistics", "pvalues"]].isna().all()
    assert t.loc["two equal arms", "effect_size"] == 1
    for gene, sign in (("control silent", 1), ("perturbed silent", -1)):
        assert np.sign(w.loc[gene, "statistics"]) == np.sign(t.loc[gene, "statistics"]) == sign
        assert np.sign(t.loc[gene, "logfoldchanges"]) == sign
        assert abs(t.loc[gene, "logfoldchanges"]) > 25
    # What has no p counts in no correction; the fully tied genes count in Wilcoxon's.
    for table, n_tests in ((w, 6), (t, 3)):
        assert table["pvalues"].notna().sum() == n_tests
        adjusted = stats.false_discovery_control(table["pvalues"].dropna())
        np.testing.assert_allclose(table["pvalues_adj"].dropna(), adjusted, rtol=1e-14)


@pytest.mark.parametrize("engine", ["compiled", "reference"])
@pytest.mark.parametrize("method", METHODS)
def test_gene_below_all_thresholds_is_untested_but_its_fractions_are_told(
    method, engine, tmp_path: Path
) -> None:
    with cx.use_engine(engine):
        result = quietly(
            method, degenerate(tmp_path), min_pct_both=0.9, min_mean_ctrl=0.1, min_mean_pert=9
        )
    table = table_of(result)
    # The control is low in "control silent" and "all zero"; only there all four values are low.
    untested = table.index.isin(["control silent", "all zero"])
    assert table.loc[untested, "statistics":"effect_size"].isna().all(axis=None)
    assert table.loc[~untested, "effect_size"].notna().all()
    np.testing.assert_allclose(table["pts"], [0.75, 0, 1, 0.75, 0, 1])
    np.testing.assert_allclose(table["pts_rest"], np.float32([4 / 6, 0, 1, 0, 5 / 6, 1]))
    if method is wilcoxon_test:
        assert np.isnan(result.u_statistics[0][untested]).all()


@pytest.mark.parametrize("engine", ["compiled", "reference"])
@pytest.mark.parametrize("method", METHODS)
def test_gene_of_too_few_expressing_cells_has_p_one_and_counts(method, engine, tmp_path) -> None:
    options = UNFILTERED | {"min_cells_expressed": 5}
    with cx.use_engine(engine):
        table = table_of(quietly(method, degenerate(tmp_path), **options))
    # Five cells express "perturbed silent", which is enough; three express "control silent".
    few = ["all zero", "control silent"]
    expected = [0, 1, 0, 0]
    for gene in few:
        columns = ["statistics", "pvalues", "logfoldchanges", "effect_size"]
        assert table.loc[gene, columns].tolist() == expected
        assert table.loc[gene, "pvalues_adj"] == 1
    assert table.loc["control silent", "pts"] == 0.75
    assert table.loc["perturbed silent", "effect_size"] < 0
    tested = table["pvalues"].dropna()
    np.testing.assert_allclose(
        table["pvalues_adj"].dropna(), stats.false_discovery_control(tested), rtol=1e-14
    )


@pytest.mark.parametrize("method", METHODS)
def test_filter_goes_before_the_count_of_expressing_cells(method, tmp_path: Path) -> None:
    options = {"min_pct_both": 0.9, "min_mean_ctrl": 9, "min_mean_pert": 9}
    table = table_of(quietly(method, degenerate(tmp_path), min_cells_expressed=9, **options))
    assert table.loc["all zero", ["pvalues", "effect_size"]].isna().all()


@pytest.mark.parametrize("method", METHODS)
def test_group_smaller_than_the_minimum_is_nan_with_a_warning(method, tmp_path: Path) -> None:
    path = degenerate(tmp_path, n_perturbed=1)
    message = r"1 perturbations have fewer than min_cells_pert=2 cells .* not tested: 'A' \(1\)"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CrispyxWarning)
        with pytest.warns(CrispyxWarning, match=message):
            result = method(path, perturbation_column=COLUMN, **UNFILTERED)
    table = table_of(result)
    assert table.loc[:, "statistics":"effect_size"].isna().all(axis=None)
    assert table["pts"].tolist() == [1, 0, 1, 1, 0, 1]
    assert table_of(result, "B")["pvalues"].notna().any()
    # Asked for, one cell is ranked; a variance it does not have.
    table = table_of(quietly(method, path, min_cells_pert=1, force=True, **UNFILTERED))
    assert table["pvalues"].notna().any() == (method is wilcoxon_test)


def test_warning_names_five_small_groups_at_most(tmp_path: Path) -> None:
    labels = ["control", "control", *"ABCDEFG"]
    path = write_h5ad(tmp_path / "s.h5ad", np.random.default_rng(0).random((9, 2)), labels)
    with pytest.warns(CrispyxWarning, match=r"7 perturb.*: 'A' \(1\), .*'E' \(1\) and 2 more$"):
        wilcoxon_test(path, groupby=COLUMN)


# What the user is warned about


def warnings_of(method: Callable[..., Any], data: Any, **options: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        method(data, perturbation_column=COLUMN, **options)
    assert all(w.category is CrispyxWarning for w in caught)
    # Each points at the line that called, here.
    assert {Path(w.filename).name for w in caught} <= {Path(__file__).name}
    return [str(w.message) for w in caught]


@pytest.mark.parametrize("method", METHODS)
def test_ordinary_screen_gives_no_warning(method, tmp_path: Path) -> None:
    labels = ["control", "A", "B"] * 20
    values = np.log1p(np.random.default_rng(0).poisson(1, (60, 5)) * 1.3)
    path = write_h5ad(tmp_path / "screen.h5ad", values, labels)
    assert warnings_of(method, path) == []


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
@pytest.mark.parametrize("dtype", ["i4", "f4"])
@pytest.mark.parametrize("method", METHODS)
def test_counts_are_told_whatever_their_type(method, layout, dtype, tmp_path: Path) -> None:
    counts, labels = count_screen()
    labels = [label or "control" for label in labels]
    path = write_h5ad(tmp_path / "counts.h5ad", counts, labels, layout=layout, dtype=dtype)
    (message,) = (m for m in warnings_of(method, path) if "holds counts" in m)
    assert f"{path} [X]" in message
    assert "normalize_total_log1p" in message


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
@pytest.mark.parametrize("where", ["first", "last"])
@pytest.mark.parametrize("method", METHODS)
def test_counts_are_judged_by_the_whole_matrix(
    method, layout: str, where: str, tmp_path: Path, small_reads
) -> None:
    counts, labels = count_screen()
    labels = [label or "control" for label in labels]
    # Whole numbers but for one value of the first or of the last block.
    at = (0, 0) if where == "first" else (-1, -1)
    counts[at] = 0.5
    path = write_h5ad(tmp_path / "s.h5ad", counts, labels, layout=layout)
    assert [m for m in warnings_of(method, path) if "counts" in m] == []
    counts[at] = 1
    path = write_h5ad(tmp_path / "s.h5ad", counts, labels, layout=layout)
    assert len([m for m in warnings_of(method, path, force=True) if "holds counts" in m]) == 1


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
@pytest.mark.parametrize("method", METHODS)
def test_negative_values_are_told_with_the_first(
    method, layout: str, tmp_path: Path, small_reads
) -> None:
    values, labels = log_screen()
    labels = [label or "control" for label in labels]
    values[40, 9] = -1.5
    path = write_h5ad(tmp_path / "s.h5ad", values, labels, layout=layout)
    (message,) = (m for m in warnings_of(method, path) if "negative" in m)
    for part in (str(path), "-1.5", "'cell40'", "'gene9'", "logfoldchanges assume log1p"):
        assert part in message


def test_silent_arms_are_told_where_they_are_tested(tmp_path: Path) -> None:
    path = degenerate(tmp_path)
    (message,) = warnings_of(t_test, path, **UNFILTERED)
    # "control silent" and "perturbed silent" in A; "all zero" and "control silent" in B.
    assert message.startswith("in 4 tests one arm has no cell that expresses the gene")
    # Left out by a threshold, they are nothing to warn about.
    assert warnings_of(t_test, path, force=True, **UNFILTERED, min_cells_expressed=9) == []
    assert warnings_of(wilcoxon_test, path, **UNFILTERED) == []


# What is refused


@pytest.mark.parametrize("method", [*METHODS, rank_genes_groups, cx.tl.rank_genes_groups])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, InputTypeError, r"say which obs column .* perturbation_column= \(or groupby=\)"),
        (
            {"perturbation_column": COLUMN, "groupby": COLUMN},
            InputTypeError,
            "'perturbation_column' and 'groupby' are two names of one argument",
        ),
        (
            {"groupby": COLUMN, "control_label": "control", "reference": "control"},
            InputTypeError,
            "'control_label' and 'reference' are two names of one argument",
        ),
        ({"groupby": "target"}, MissingColumnError, "has no obs column 'target'; it has: pert"),
        ({"groupby": COLUMN, "reference": "NT"}, InputError, "control label 'NT' is not in"),
        ({"groupby": COLUMN, "perturbations": ["TP53"]}, InputError, "asks for 'TP53'"),
        ({"groupby": COLUMN, "perturbations": "MYC"}, InputError, "is the text 'MYC'"),
        ({"groupby": COLUMN, "perturbations": []}, InputError, "names no group"),
        ({"groupby": COLUMN, "min_pct_ctrl": -0.1}, InputError, "min_pct_ctrl is -0.1; give"),
        ({"groupby": COLUMN, "min_pct_pert": 5}, InputError, "min_pct_pert is 5; .* from 0 to 1"),
        ({"groupby": COLUMN, "min_pct_both": 1.5}, InputError, "is 1.5; .* from 0 to 1"),
        ({"groupby": COLUMN, "min_mean_ctrl": float("nan")}, InputError, "min_mean_ctrl is nan"),
        ({"groupby": COLUMN, "min_cells_expressed": -1}, InputError, "min_cells_expressed is -1"),
        ({"groupby": COLUMN, "min_cells_pert": -1}, InputError, "min_cells_pert is -1"),
        ({"groupby": COLUMN, "corr_method": "bh"}, InputError, "corr_method is 'bh'; choose one"),
        ({"groupby": COLUMN, "corr_scope": "all"}, InputError, "corr_scope is 'all'; choose one"),
        ({"groupby": COLUMN, "n_jobs": 0}, InputError, "n_jobs is 0; give a number of threads"),
        ({"groupby": COLUMN, "memory_limit_gb": 0}, InputError, "memory_limit_gb is 0; give GB"),
        ({"groupby": COLUMN, "gene_name_column": "s"}, MissingColumnError, "no var column 's'"),
        ({"groupby": COLUMN, "layer": "log"}, InputError, "has no layers/log; it has X"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(
    method, options, error, message: str, screen: Path
) -> None:
    with pytest.raises(error, match=message):
        method(screen, **options)
    assert [path.name for path in screen.parent.iterdir()] == [screen.name]


@pytest.mark.parametrize("value", [0, -1])
def test_chunk_below_one_is_refused(value: int, screen: Path) -> None:
    with pytest.raises(InputError, match=f"chunk_size is {value}; give a whole number"):
        wilcoxon_test(screen, groupby=COLUMN, chunk_size=value)
    with pytest.raises(InputError, match=f"chunk size is {value}; give a whole number"):
        t_test(screen, groupby=COLUMN, cell_chunk_size=value)


@pytest.mark.parametrize("method", METHODS)
def test_bad_input_is_refused_with_its_path(method, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="nowhere"):
        method(tmp_path / "nowhere.h5ad", groupby=COLUMN)
    values, labels = log_screen()
    values[50, 11] = np.nan
    path = write_h5ad(tmp_path / "nan.h5ad", values, labels)
    with pytest.raises(InputError, match=r"nan\.h5ad \[X\] holds nan at cell 'cell50' .*'gene11'"):
        quietly(method, path)
    memory = in_memory(*log_screen(), sp.csr_matrix)
    with pytest.raises(InputError, match="has no folder for the result; give output_path"):
        quietly(method, memory)
    assert [p.name for p in tmp_path.iterdir()] == ["nan.h5ad"]


def test_unknown_method_is_refused_with_the_known_ones(screen: Path) -> None:
    with pytest.raises(
        InputError, match="method is 'logreg'; choose 'wilcoxon', 't-test' or 'nb_glm'"
    ):
        cx.tl.rank_genes_groups(screen, groupby=COLUMN, method="logreg")
    with pytest.raises(TypeError, match="unexpected keyword argument 'tie_correct'"):
        cx.tl.rank_genes_groups(screen, groupby=COLUMN, method="t-test", tie_correct=True)


def test_scanpys_layout_for_more_perturbations_than_hdf5_holds_is_refused_at_once(tmp_path) -> None:
    labels = ["control"] * 2 + [f"perturbation_{i}" for i in range(2000)]
    path = write_h5ad(tmp_path / "s.h5ad", np.ones((2002, 1)) * 0.5, labels, label_kind="text")
    with pytest.raises(InputError, match="scanpy's layout cannot hold 2000 perturbations"):
        wilcoxon_test(path, groupby=COLUMN, scanpy_format=True)


# Doors that lead to the same result


@pytest.mark.parametrize(
    ("name", "method"), [("wilcoxon", wilcoxon_test), ("t-test", t_test), ("t_test", t_test)]
)
def test_one_door_for_all_methods(name: str, method, screen: Path) -> None:
    direct = quietly(method, screen)
    for number, door in enumerate((rank_genes_groups, cx.tl.rank_genes_groups)):
        result = quietly(partial(door, method=name), screen, data_name=f"door{number}")
        assert isinstance(result, cx.RankGenesGroupsResult)
        assert isinstance(result.result, cx.AnnData)
        np.testing.assert_array_equal(result.pvalues, direct.pvalues)


def test_wilcoxon_is_the_default_method(screen: Path) -> None:
    assert cx.tl.rank_genes_groups(screen, groupby=COLUMN).method == "wilcoxon"


def test_scanpys_names_of_arguments_are_taken(screen: Path) -> None:
    ours = wilcoxon_test(screen, perturbation_column=COLUMN, control_label="MYC")
    theirs = wilcoxon_test(screen, groupby=COLUMN, reference="MYC", data_name="again")
    np.testing.assert_array_equal(ours.statistics, theirs.statistics)


def test_perturbations_asked_for_become_the_rows(screen: Path) -> None:
    whole = wilcoxon_test(screen, groupby=COLUMN)
    some = wilcoxon_test(screen, groupby=COLUMN, perturbations=["MYC", "KLF1"], data_name="some")
    assert some.groups == ["MYC", "KLF1"]
    for label in some:
        np.testing.assert_array_equal(some[label].pvalue, whole[label].pvalue)


def test_without_tie_correction_z_is_smaller(screen: Path) -> None:
    corrected = wilcoxon_test(screen, groupby=COLUMN)
    plain = wilcoxon_test(screen, groupby=COLUMN, tie_correct=False, data_name="plain")
    assert (corrected.tie_correct, plain.tie_correct) == (True, False)
    np.testing.assert_array_equal(plain.u_statistics, corrected.u_statistics)
    moved = np.nan_to_num(corrected.statistics) != 0
    smaller = np.abs(plain.statistics[moved]) < np.abs(corrected.statistics[moved])
    # A gene without any tie has nothing to correct.
    assert smaller.mean() > 0.5
    assert np.all(smaller | (plain.statistics[moved] == corrected.statistics[moved]))


def test_rest_of_the_screen_is_the_control_asked_for(screen: Path) -> None:
    result = wilcoxon_test(screen, groupby=COLUMN, reference="rest", **UNFILTERED)
    values, labels = log_screen()
    labels = np.array([label or "control" for label in labels])
    assert result.groups == ["KLF1", "control", "GATA1", "MYC"]
    for row, label in enumerate(result.groups):
        theirs = stats.mannwhitneyu(
            values[labels == label], values[labels != label],
            method="asymptotic", use_continuity=False,
        )  # fmt: skip
        np.testing.assert_array_equal(result.u_statistics[row], theirs.statistic)
        told = np.ptp(values, axis=0) > 0
        np.testing.assert_allclose(result.pvalues[row, told], theirs.pvalue[told], rtol=1e-12)


# What is written and what is returned


COMMON = {"z_score", "pvalue", "pvalue_adj", "logfoldchanges", "pts", "pts_rest"}
LAYERS = {"wilcoxon": COMMON | {"u_statistic"}, "t_test": COMMON | {"degrees_of_freedom"}}
FLOAT32 = {
    "wilcoxon": {"pts", "pts_rest"},
    "t_test": {"X", "logfoldchanges", "degrees_of_freedom", "pts", "pts_rest"},
}


@pytest.mark.parametrize("column", [COLUMN, "target_gene"])
@pytest.mark.parametrize("method", METHODS)
def test_result_file_has_the_documented_form(method, column: str, screen: Path) -> None:
    adata = anndata.read_h5ad(screen)
    adata.obs = adata.obs.rename(columns={COLUMN: column})
    adata.write_h5ad(screen)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CrispyxWarning)
        result = method(screen, perturbation_column=column)
    assert result.result_path == screen.with_name(f"crispyx_{result.method}.h5ad")
    found = anndata.read_h5ad(result.result_path)
    assert found.obs.index.name == "perturbation"
    assert list(found.obs.columns) == [column]
    assert found.obs_names.tolist() == found.obs[column].tolist() == ["KLF1", "GATA1", "MYC"]
    assert found.var_names.tolist() == [f"gene{i}" for i in range(13)]
    assert found.var.shape[1] == 0
    assert set(found.layers) == LAYERS[result.method]
    for name, table in tables_of(result.result_path).items():
        assert table.shape == (3, 13)
        assert table.dtype == ("f4" if name in FLOAT32[result.method] else "f8"), name
    assert found.uns["method"] == result.method
    assert found.uns["control_label"] == "control"
    assert found.uns["perturbation_column"] == column
    assert found.uns["pvalue_correction"] == "benjamini-hochberg"
    assert ("tie_correct" in found.uns) == (method is wilcoxon_test)
    assert found.uns["crispyx"]["kind"] == result.method
    again = screen.with_name("again.h5ad")
    found.write_h5ad(again)
    pd.testing.assert_frame_equal(anndata.read_h5ad(again).obs.astype(str), found.obs.astype(str))


@pytest.mark.parametrize("method", METHODS)
def test_gene_names_of_a_column_name_the_genes(method, screen: Path) -> None:
    adata = anndata.read_h5ad(screen)
    adata.var["symbol"] = [f"SYM{i}" for i in range(13)]
    adata.write_h5ad(screen)
    result = quietly(method, screen, gene_name_column="symbol")
    assert (result.genes.name, result.genes[3]) == ("symbol", "SYM3")
    assert anndata.read_h5ad(result.result_path).var_names[3] == "SYM3"


@pytest.mark.parametrize("method", METHODS)
def test_scanpy_reads_its_own_layout(method, screen: Path) -> None:
    result = quietly(method, screen, scanpy_format=True)
    adata = sc.read_h5ad(result.result_path)
    for row, label in enumerate(result.groups):
        order = result.order[row]
        table = sc.get.rank_genes_groups_df(adata, label)
        assert table["names"].tolist() == result.genes[order].tolist()
        for theirs, ours in (
            ("scores", result.statistics),
            ("pvals", result.pvalues),
            ("pvals_adj", result.pvalues_adj),
            ("logfoldchanges", result.logfoldchanges),
            ("pct_nz_group", result.pts),
            ("pct_nz_reference", result.pts_rest),
        ):
            expected = ours[row, order].astype(table[theirs].dtype)
            np.testing.assert_array_equal(table[theirs], expected, err_msg=theirs)
    assert adata.uns["rank_genes_groups"]["params"]["reference"] == "control"
    sc.pl.rank_genes_groups(adata, n_genes=2, show=False)


def test_labels_of_any_text_survive_every_layout(tmp_path: Path) -> None:
    labels = ["control", " lead", "lead", "x,y", "Δ/β", "a b"] * 3
    values = np.random.default_rng(0).random((18, 2))
    path = write_h5ad(tmp_path / "s.h5ad", values, labels)
    result = wilcoxon_test(path, groupby=COLUMN, scanpy_format=True)
    assert result.groups == labels[1:6]
    assert list(result.to_rank_genes_groups_dict()["names"].dtype.names) == labels[1:6]
    adata = sc.read_h5ad(result.result_path)
    for label in labels[1:6]:
        scores = sc.get.rank_genes_groups_df(adata, label)["scores"]
        expected = sorted(result[label].statistic, key=abs, reverse=True)
        np.testing.assert_allclose(scores, expected, rtol=1e-6)


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_result_is_a_mapping_from_label_to_its_comparison(method, loaded, screen: Path) -> None:
    result = quietly(method, screen, data_name="kept")
    if loaded:
        result = load_result(result.result_path)
    assert len(result) == 3
    assert list(result) == list(result.keys()) == ["KLF1", "GATA1", "MYC"]
    assert "MYC" in result
    assert "control" not in result
    assert result.get("TP53") is None
    with pytest.raises(KeyError, match="TP53"):
        result["TP53"]
    for row, (label, one) in enumerate(result.items()):
        assert (one.perturbation, one.method) == (label, result.method)
        assert one.result_path == result.result_path
        assert list(one.genes) == list(result.genes)
        for ours, table in (
            (one.statistic, result.statistics),
            (one.pvalue, result.pvalues),
            (one.pvalue_adj, result.pvalues_adj),
            (one.effect_size, result.effect_size),
        ):
            assert ours.dtype == table.dtype
            np.testing.assert_array_equal(ours, table[row])
    assert isinstance(result.genes, pd.Index)
    assert (result.groupby, result.control_label) == (COLUMN, "control")
    assert result.pvalue_correction == "benjamini-hochberg"
    assert result.order.dtype == np.int64
    assert result.u_statistics.any() == (method is wilcoxon_test)
    assert "3 perturbations x 13 genes against 'control'" in repr(result)


@pytest.mark.parametrize("method", METHODS)
def test_order_falls_with_the_statistic_and_ends_with_the_untested(method, screen) -> None:
    result = quietly(method, screen)
    for row, order in enumerate(result.order):
        size = np.abs(result.statistics[row, order])
        n_tested = np.isfinite(size).sum()
        assert 0 < n_tested < 13
        assert np.all(np.diff(size[:n_tested]) <= 0)
        assert np.isnan(size[n_tested:]).all()
        assert sorted(order) == list(range(13))


@pytest.mark.parametrize("method", METHODS)
def test_dictionaries_have_scanpys_layout_and_the_whole_tables(method, screen: Path) -> None:
    result = quietly(method, screen)
    full = result.to_full_order_dict()
    keys = ["scores", "pvals", "pvals_adj", "logfoldchanges", "auc", "u_stat", "pts", "pts_rest"]
    assert list(full) == keys
    np.testing.assert_array_equal(full["auc"], result.effect_size)
    sorted_tables = result.to_rank_genes_groups_dict()
    assert set(sorted_tables) == {"params", "names", "full", *keys}
    assert sorted_tables["params"] == {
        "groupby": COLUMN,
        "method": result.method,
        "reference": "control",
        "tie_correct": method is wilcoxon_test,
        "corr_method": "benjamini-hochberg",
    }
    for row, label in enumerate(result.groups):
        order = result.order[row]
        assert sorted_tables["names"][label].tolist() == result.genes[order].tolist()
        for key in keys:
            np.testing.assert_array_equal(sorted_tables[key][label], full[key][row, order])
    full["scores"][:] = 0
    assert np.nansum(np.abs(result.statistics)) > 0


def test_result_without_a_file_has_no_path(screen: Path) -> None:
    result = wilcoxon_test(screen, groupby=COLUMN)
    one = result["MYC"]
    one.result = None
    with pytest.raises(AttributeError, match="no file behind it"):
        _ = one.result_path


def test_file_that_is_no_result_is_not_loaded(screen: Path) -> None:
    with pytest.raises(InputError, match=r"screen\.h5ad' is not a differential expression result"):
        load_result(screen)


@pytest.mark.parametrize(("verbose", "shown"), [(True, True), (False, False)])
def test_progress_is_shown_on_request_and_never_on_standard_output(
    verbose: bool, shown: bool, screen: Path, capsys
) -> None:
    wilcoxon_test(screen, groupby=COLUMN, verbose=verbose)
    out, err = capsys.readouterr()
    assert out == ""
    assert ("wilcoxon" in err) == shown


FORKED = """
import os, sys
import numpy as np
from crispyx.de import wilcoxon_test
run = lambda name: wilcoxon_test(sys.argv[1], groupby="perturbation", n_jobs=2, data_name=name)
expected = run("parent").pvalues
child = os.fork()
if child == 0:
    os._exit(not np.array_equal(run("child").pvalues, expected, equal_nan=True))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_forked_process_does_not_hang(screen: Path) -> None:
    # The OpenMP runtime of a forked child would wait for threads that did not come along.
    command = [sys.executable, "-W", "ignore", "-c", FORKED, str(screen)]
    assert subprocess.run(command, timeout=60, check=False).returncode == 0
