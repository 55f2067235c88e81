"""Rankings say the same wherever a result is kept, and figures draw what the counts say."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata
import h5py
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from layouts import COLUMN, FILES, OBJECTS, count_screen, write_h5ad

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.text import Annotation

import crispyx as cx
import reference.normalize
from crispyx.errors import CrispyxWarning, InputError, InputTypeError, MissingColumnError
from crispyx.plotting import materialize_rank_genes_groups, plot_ma, rank_genes_groups
from crispyx.plotting.style import DOWN, NEUTRAL, UP

TABLES = ["scores", "logfoldchanges", "pvals", "pvals_adj", "pts", "pts_rest"]
RANK_TABLES = ["auc", "u_stat"]
Labels = np.ndarray
ONE_GENE = pd.DataFrame({"names": ["gene0"], "logfoldchanges": [1.0], "pvals_adj": [0.5]})


@pytest.fixture(autouse=True)
def no_figure_stays_open() -> Iterator[None]:
    yield
    plt.close("all")


def counts_and_labels() -> tuple[np.ndarray, Labels]:
    """Return counts (61, 13) and labels; no cell has genes 1 and 5, every group has the others."""
    counts, labels = count_screen()
    counts[:6] += 1  # these cells are of all groups
    counts[:, [1, 5]] = 0
    return counts, np.array([label or "control" for label in labels], dtype=object)


@pytest.fixture(scope="module")
def counts_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts, labels = counts_and_labels()
    path = tmp_path_factory.mktemp("counts") / "counts.h5ad"
    write_h5ad(path, counts, labels)
    return path


@pytest.fixture(scope="module")
def logs_file(counts_file: Path) -> Path:
    return cx.pp.normalize_total_log1p(counts_file, verbose=False).path


@pytest.fixture(scope="module")
def result(logs_file: Path) -> cx.RankGenesGroupsResult:
    return cx.wilcoxon_test(logs_file, perturbation_column=COLUMN, scanpy_format=True)


@pytest.fixture(scope="module")
def t_result(logs_file: Path) -> cx.RankGenesGroupsResult:
    return cx.t_test(logs_file, perturbation_column=COLUMN, min_cells_expressed=2)


@pytest.fixture(scope="module")
def places(
    result: cx.RankGenesGroupsResult, logs_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """The same result in every form it can be given."""
    path = result.result_path
    ranked = result.to_rank_genes_groups_dict()
    ranked.pop("full")
    logs = anndata.read_h5ad(logs_file)
    logs.uns["rank_genes_groups"] = ranked
    scanpy_file = tmp_path_factory.mktemp("scanpy") / "scanpy.h5ad"
    logs.write_h5ad(scanpy_file)
    return {
        "result": result,
        "path": path,
        "text": str(path),
        "wrapper": result.result,
        "backed": cx.read_backed(path),
        "memory": anndata.read_h5ad(path),
        "scanpy file": scanpy_file,
        "scanpy backed": cx.read_backed(scanpy_file),
        "scanpy in memory": logs,
    }


def offsets(ax: Any) -> np.ndarray:
    """Return the points of all scatters (n, 2), sorted."""
    drawn = np.concatenate([np.asarray(c.get_offsets()).reshape(-1, 2) for c in ax.collections])
    return drawn[np.lexsort(drawn.T)]


def points_of(ax: Any, color: str) -> np.ndarray:
    found = [c.get_offsets() for c in ax.collections if to_hex(c.get_facecolor()[0]) == color]
    return np.concatenate([np.asarray(points) for points in found])


def note(ax: Any) -> str:
    texts = [child.get_text() for child in ax.get_children() if isinstance(child, Annotation)]
    return next(text for text in texts if " at " in text)


# -- rank_genes_groups_df


def test_table_of_a_group_is_sorted_by_absolute_score_with_untested_genes_last(
    result: cx.RankGenesGroupsResult,
) -> None:
    table = cx.pl.rank_genes_groups_df(result, "MYC")
    assert list(table.columns) == ["names", *TABLES, *RANK_TABLES, "group"]
    assert (table["group"] == "MYC").all()
    scores = table["scores"].to_numpy()
    n_tested = int(np.isfinite(scores).sum())
    assert 0 < n_tested < len(scores)  # there are both
    assert np.isnan(scores[n_tested:]).all()
    assert (np.diff(np.abs(scores[:n_tested])) <= 0).all()
    row = result.groups.index("MYC")
    by_gene = table.set_index("names").loc[list(result.genes)]
    tables = result.to_full_order_dict()
    for name in (*TABLES, *RANK_TABLES):
        np.testing.assert_array_equal(by_gene[name].to_numpy(), tables[name][row], err_msg=name)


def test_table_of_a_group_is_the_same_from_every_place(places: dict[str, Any]) -> None:
    expected = cx.rank_genes_groups_df(places["path"], "GATA1")
    for kind, data in places.items():
        found = cx.pl.rank_genes_groups_df(data, "GATA1")
        pd.testing.assert_frame_equal(found, expected, check_dtype=False, obj=kind)


def test_table_of_a_t_test_has_no_columns_of_ranks(t_result: cx.RankGenesGroupsResult) -> None:
    for data in (t_result, t_result.result_path):
        table = cx.pl.rank_genes_groups_df(data, "MYC", n_genes=4)
        assert list(table.columns) == ["names", *TABLES, "group"]
        assert len(table) == 4


def test_other_key_is_read_from_uns_even_beside_tables(
    places: dict[str, Any], tmp_path: Path
) -> None:
    own = anndata.read_h5ad(places["path"])
    own.uns["mine"] = {
        "names": np.rec.fromarrays([np.array(["a", "b"], dtype=object)], names=["x"]),
        "scores": np.rec.fromarrays([np.array([1.0, -2.0])], names=["x"]),
    }
    own.write_h5ad(tmp_path / "own.h5ad")
    expected = {"names": ["b", "a"], "scores": [-2, 1], "group": ["x", "x"]}
    for data in (own, tmp_path / "own.h5ad"):
        table = cx.pl.rank_genes_groups_df(data, "x", key="mine")
        assert table.to_dict("list") == expected
        with pytest.raises(InputError, match=r"uns\['none'\].*give key="):
            cx.pl.rank_genes_groups_df(data, "x", key="none")


def test_ranking_kept_in_memory_of_a_backed_object_is_found(logs_file: Path) -> None:
    backed = cx.read_backed(logs_file)
    backed.uns["rank_genes_groups"] = {
        "names": np.rec.fromarrays([np.array(["a"], dtype=object)], names=["x"]),
        "scores": np.rec.fromarrays([np.array([1.0])], names=["x"]),
    }
    assert list(cx.pl.rank_genes_groups_df(backed, "x")["names"]) == ["a"]
    backed.file.close()


def test_table_says_what_it_cannot_find(places: dict[str, Any], logs_file: Path) -> None:
    for data in places.values():
        with pytest.raises(InputError, match=r"'zz' is not in .*'GATA1'"):
            cx.pl.rank_genes_groups_df(data, "zz")
    with pytest.raises(InputError, match="n_genes is 0"):
        cx.pl.rank_genes_groups_df(places["path"], "MYC", n_genes=0)
    with pytest.raises(InputError, match="no differential expression"):
        cx.pl.rank_genes_groups_df(logs_file, "MYC")
    broken = anndata.AnnData(np.zeros((1, 1)), uns={"rank_genes_groups": {"params": {}}})
    with pytest.raises(InputError, match="no table 'names'"):
        cx.pl.rank_genes_groups_df(broken, "MYC")


# -- materialize_rank_genes_groups, rank_genes_groups


def test_materialized_result_carries_the_same_numbers(places: dict[str, Any]) -> None:
    for kind, data in places.items():
        adata = cx.materialize_rank_genes_groups(data)
        assert adata.X.nnz == 0, kind
        assert adata.shape == (3, 13)
        assert list(adata.obs[COLUMN]) == list(places["result"].groups)
        for group in places["result"].groups:
            expected = cx.rank_genes_groups_df(places["path"], group)
            found = cx.rank_genes_groups_df(adata, group)
            pd.testing.assert_frame_equal(found, expected, check_dtype=False, obj=kind)


def test_materialized_result_is_read_by_scanpy(result: cx.RankGenesGroupsResult) -> None:
    scanpy = pytest.importorskip("scanpy")
    adata = materialize_rank_genes_groups(result, groups=["MYC", "KLF1"], n_genes=5)
    assert adata.uns["rank_genes_groups"]["names"].dtype.names == ("MYC", "KLF1")
    for group in ("MYC", "KLF1"):
        found = scanpy.get.rank_genes_groups_df(adata, group)
        expected = cx.rank_genes_groups_df(result, group, n_genes=5)
        assert list(found["names"]) == list(expected["names"])
        for theirs, ours in {
            **{name: name for name in TABLES[:4]},
            "pct_nz_group": "pts",
            "pct_nz_reference": "pts_rest",
        }.items():
            np.testing.assert_array_equal(found[theirs].to_numpy(), expected[ours].to_numpy())


def test_no_matrix_is_needed_to_materialize(places: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "no_matrix.h5ad"
    path.write_bytes(places["scanpy file"].read_bytes())
    with h5py.File(path, "r+") as file:
        del file["X"]
    assert materialize_rank_genes_groups(path).shape == (3, 13)


def test_scanpys_own_order_is_kept() -> None:
    scanpy = pytest.importorskip("scanpy")
    counts, labels = counts_and_labels()
    adata = anndata.AnnData(
        sp.csr_matrix(np.log1p(counts)),
        obs=pd.DataFrame({"p": pd.Categorical(labels)}, index=[f"c{i}" for i in range(61)]),
        var=pd.DataFrame({"symbol": [f"S{i}" for i in range(13)]}, index=list("abcdefghijklm")),
    )
    scanpy.tl.rank_genes_groups(adata, "p", reference="control", method="wilcoxon", key_added="k")
    drawn = materialize_rank_genes_groups(adata, key="k", gene_symbols="symbol", groups="MYC")
    ranked = drawn.uns["k"]
    np.testing.assert_array_equal(ranked["names"]["MYC"], adata.uns["k"]["names"]["MYC"])
    assert ranked["params"]["reference"] == "control"
    assert dict(drawn.var["symbol"]) == dict(adata.var["symbol"])


def test_materializing_says_what_is_missing(result: cx.RankGenesGroupsResult) -> None:
    with pytest.raises(InputError, match=r"'zz'.*holds .*'MYC'"):
        cx.pl.materialize_rank_genes_groups(result, groups=["MYC", "zz"])
    with pytest.raises(MissingColumnError, match=r"'symbol'.*gene_name_column="):
        cx.pl.materialize_rank_genes_groups(result, gene_symbols="symbol")
    with pytest.raises(InputError, match="n_genes is -1"):
        cx.pl.materialize_rank_genes_groups(result, n_genes=-1)


def test_panels_write_the_first_genes_at_their_scores(
    result: cx.RankGenesGroupsResult, tmp_path: Path
) -> None:
    pytest.importorskip("scanpy")
    saved = tmp_path / "ranked.png"
    axes = cx.pl.rank_genes_groups(result, ["MYC", "KLF1"], n_genes=4, ncols=1, savepath=saved)
    assert [ax.get_title("left") for ax in axes] == ["MYC vs. control", "KLF1 vs. control"]
    for ax, group in zip(axes, ("MYC", "KLF1"), strict=True):
        table = cx.rank_genes_groups_df(result, group, n_genes=4)
        assert [text.get_text() for text in ax.texts] == list(table["names"])
        assert [text.get_position()[1] for text in ax.texts] == list(table["scores"])
        assert ax.get_ylim()[0] < table["scores"].min()
    assert saved.read_bytes().startswith(b"\x89PNG")


def test_untested_genes_and_groups_are_not_drawn(logs_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("scanpy")
    adata = anndata.read_h5ad(logs_file)
    labels = adata.obs[COLUMN].astype(str).to_numpy()
    labels[0] = "alone"
    adata.obs[COLUMN] = labels
    with pytest.warns(CrispyxWarning, match="fewer than min_cells_pert"):
        result = cx.wilcoxon_test(adata, perturbation_column=COLUMN, output_dir=tmp_path)
    with pytest.warns(CrispyxWarning, match="'alone' without any tested gene"):
        axes = rank_genes_groups(result, n_genes=50)
    assert len(axes) == 3
    tested = set(result.genes[np.isfinite(result.statistics[1])])
    assert {text.get_text() for text in axes[0].texts} <= tested | {""}
    with pytest.raises(InputError, match="no gene is tested in 'alone'"):
        rank_genes_groups(result, "alone")


def test_panel_of_one_gene_is_drawn(result: cx.RankGenesGroupsResult) -> None:
    pytest.importorskip("scanpy")
    (ax,) = rank_genes_groups(result, "MYC", n_genes=1, sharey=False)
    assert len(ax.texts) == 1


def test_argument_that_scanpy_does_not_know_is_an_error(result: cx.RankGenesGroupsResult) -> None:
    pytest.importorskip("scanpy")
    with pytest.raises(InputTypeError, match="no argument 'colour'"):
        rank_genes_groups(result, colour="red")


def test_missing_scanpy_is_named_with_the_way_to_get_it(
    result: cx.RankGenesGroupsResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "scanpy", None)
    with pytest.raises(ImportError, match=r"pip install \"\.\[scanpy\]\""):
        cx.pl.rank_genes_groups(result)
    assert materialize_rank_genes_groups(result).n_obs == 3  # needs no scanpy


# -- ma


def mean_counts(counts: np.ndarray, labels: Labels, group: str) -> np.ndarray:
    return (counts[labels == group].mean(axis=0) + counts[labels == "control"].mean(axis=0)) / 2


def test_ma_draws_mean_counts_against_fold_changes(
    counts_file: Path, result: cx.RankGenesGroupsResult
) -> None:
    counts, labels = counts_and_labels()
    ax = cx.pl.ma(data=counts_file, de_result=result, group="MYC")
    row = result.groups.index("MYC")
    lfc = result.logfoldchanges[row]
    drawn = np.isfinite(result.statistics[row])
    expected = np.column_stack([mean_counts(counts, labels, "MYC"), lfc])[drawn]
    # Sums of whole numbers are exact; the division may round differently in NumPy's mean.
    np.testing.assert_allclose(offsets(ax), expected[np.lexsort(expected.T)], rtol=1e-15)
    assert ax.get_xscale() == "log"
    assert ax.get_title("left") == "MA: MYC vs. control"
    assert ax.get_ylabel() == "log2FC (MYC / control)"
    assert f"{int((~drawn).sum())} genes not tested" in note(ax)


def test_ma_of_log_expression_averages_what_the_reference_normalizes(
    counts_file: Path, result: cx.RankGenesGroupsResult
) -> None:
    counts, labels = counts_and_labels()
    ax = cx.pl.ma(
        data=counts_file, de_result=result, group="MYC", mean_mode="log1p", target_sum=500
    )
    logs = reference.normalize.log1p_normalize(counts, 500)
    drawn = np.isfinite(result.statistics[result.groups.index("MYC")])
    expected = np.sort(mean_counts(logs, labels, "MYC")[drawn])
    # log1p of two libraries and another order of summation: a few units in the last place.
    np.testing.assert_allclose(np.sort(offsets(ax)[:, 0]), expected, rtol=1e-13)
    assert ax.get_xscale() == "linear"
    assert "500" in ax.get_xlabel()


@pytest.mark.parametrize("mean_mode", ["raw", "log1p"])
def test_ma_does_not_depend_on_layout_or_chunk_size(
    mean_mode: str, counts_file: Path, result: cx.RankGenesGroupsResult, tmp_path: Path
) -> None:
    counts, labels = counts_and_labels()
    expected = offsets(
        plot_ma(data=counts_file, de_result=result, group="KLF1", mean_mode=mean_mode)
    )
    stored = {
        kind: write_h5ad(tmp_path / f"{kind}.h5ad", counts, labels, **how)
        for kind, how in FILES.items()
        if "element" not in how
    }
    for kind, make in OBJECTS.items():
        folder = tmp_path / kind
        folder.mkdir()
        stored[kind] = make(counts, labels, folder)
    for k, (kind, data) in enumerate(stored.items()):
        ax = plot_ma(
            data=data,
            de_result=result,
            group="KLF1",
            mean_mode=mean_mode,
            chunk_size=1 + k % 7,
            n_labels=0,
        )
        np.testing.assert_array_equal(offsets(ax), expected, err_msg=kind)
        plt.close("all")


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_ma_counts_an_empty_cell_with_stored_zeros_as_zero(layout: str, tmp_path: Path) -> None:
    counts, labels = counts_and_labels()
    counts[labels == "MYC"] = 0
    path = tmp_path / "empty.h5ad"
    write_h5ad(path, counts, labels, layout=layout, stored_zeros=True)
    ax = cx.pl.ma(
        data=path, de_df=ONE_GENE, group="MYC", perturbation_column=COLUMN, mean_mode="log1p"
    )
    logs = reference.normalize.log1p_normalize(counts)[labels == "control", 0]
    assert offsets(ax)[0, 0] == pytest.approx(logs.mean() / 2, rel=1e-13)


def test_ma_colors_changed_genes_and_draws_the_cuts(counts_file: Path) -> None:
    table = pd.DataFrame(
        {
            "names": ["gene0", "gene2", "gene3", "gene4"],
            "logfoldchanges": [1.5, -2.0, 0.5, 3.0],
            "pvals_adj": [0.01, 0.01, 0.01, 0.2],
        }
    )
    ax = cx.pl.ma(data=counts_file, de_df=table, group="MYC", perturbation_column=COLUMN)
    assert points_of(ax, UP)[:, 1].tolist() == [1.5]
    assert points_of(ax, DOWN)[:, 1].tolist() == [-2.0]
    assert sorted(points_of(ax, NEUTRAL)[:, 1]) == [0.5, 3.0]
    assert {line.get_ydata()[0] for line in ax.lines} == {-1.0, 0, 1.0}
    assert note(ax) == "1 up, 1 down at adj p ≤ 0.05 and |log2FC| ≥ 1"
    ax = cx.pl.ma(
        data=counts_file, de_df=table, group="MYC", perturbation_column=COLUMN, p_cut=0.3, lfc_cut=0
    )
    assert note(ax) == "3 up, 1 down at adj p ≤ 0.3"


def test_ma_counts_the_genes_it_cannot_place(counts_file: Path) -> None:
    table = pd.DataFrame(
        {
            "names": ["gene0", "gene1", "gene2", "elsewhere"],
            "logfoldchanges": [1.0, 0.0, np.nan, 1.0],
            "pvals": [0.5, 1.0, np.nan, 0.5],
        }
    )
    ax = cx.pl.ma(data=counts_file, de_df=table, group="MYC", perturbation_column=COLUMN)
    assert len(offsets(ax)) == 1
    for text in ("1 gene not tested", "1 gene not in the data", "1 gene without counts", "at p ≤"):
        assert text in note(ax)


def test_ma_of_a_boundless_fold_change_stays_readable(counts_file: Path) -> None:
    table = pd.DataFrame(
        {"names": ["gene0", "gene2"], "logfoldchanges": [-27.0, 1.2], "pvals_adj": [0.01, 0.5]}
    )
    ax = cx.pl.ma(data=counts_file, de_df=table, group="MYC", perturbation_column=COLUMN)
    assert offsets(ax)[:, 1].min() == -1.5
    assert "1 gene with |log2FC| > 10 at the edge" in note(ax)


def test_ma_draws_only_the_first_genes_when_asked(
    counts_file: Path, result: cx.RankGenesGroupsResult
) -> None:
    # Four: the third and the fourth have the same absolute score.
    best = cx.rank_genes_groups_df(result, "MYC", n_genes=4)
    ax = cx.pl.ma(data=counts_file, de_result=result, group="MYC", n_genes=4)
    np.testing.assert_array_equal(offsets(ax)[:, 1], np.sort(best["logfoldchanges"]))
    shuffled = cx.rank_genes_groups_df(result, "MYC").iloc[::-1]
    ax = cx.pl.ma(data=counts_file, de_df=shuffled, de_result=result, group="MYC", n_genes=4)
    np.testing.assert_array_equal(offsets(ax)[:, 1], np.sort(best["logfoldchanges"]))
    unscored = shuffled.dropna().drop(columns="scores")
    ax = cx.pl.ma(data=counts_file, de_df=unscored, de_result=result, group="MYC", n_genes=2)
    np.testing.assert_array_equal(offsets(ax)[:, 1], np.sort(unscored["logfoldchanges"][:2]))


def test_ma_looks_for_the_result_in_the_data(
    counts_file: Path, result: cx.RankGenesGroupsResult
) -> None:
    adata = anndata.read_h5ad(counts_file)
    adata.uns["mine"] = materialize_rank_genes_groups(result).uns["rank_genes_groups"]
    expected = offsets(plot_ma(data=counts_file, de_result=result, group="MYC"))
    np.testing.assert_array_equal(offsets(plot_ma(data=adata, group="MYC", key="mine")), expected)


def test_ma_takes_another_reference_and_the_rest(
    counts_file: Path, result: cx.RankGenesGroupsResult
) -> None:
    counts, labels = counts_and_labels()
    drawn = np.isfinite(result.statistics[result.groups.index("MYC")])
    for reference_label, others in (("KLF1", labels == "KLF1"), ("rest", labels != "MYC")):
        ax = plot_ma(data=counts_file, de_result=result, group="MYC", reference=reference_label)
        means = (counts[labels == "MYC"].mean(axis=0) + counts[others].mean(axis=0)) / 2
        found = np.sort(offsets(ax)[:, 0])
        np.testing.assert_allclose(found, np.sort(means[drawn]), rtol=1e-15)
        assert ax.get_title("left") == f"MA: MYC vs. {reference_label}"


def test_ma_counts_cells_that_carry_several_perturbations(counts_file: Path) -> None:
    adata = anndata.read_h5ad(counts_file)
    rng = np.random.default_rng(4)
    carried = pd.DataFrame(
        rng.random((61, 3)) < 0.4, index=adata.obs_names, columns=["A", "B", "nt"]
    )
    adata.obsm["perturbations"] = carried
    table = pd.DataFrame({"names": ["gene0"], "logfoldchanges": [1.0], "pvals_adj": [0.5]})
    ax = plot_ma(
        data=adata, de_df=table, group="A", perturbation_column="obsm/perturbations", reference="nt"
    )
    gene = adata.X[:, 0].toarray().ravel()
    control = carried["nt"] & ~carried["A"] & ~carried["B"]
    expected = (gene[carried["A"]].mean() + gene[control].mean()) / 2
    # X is float32 here, whose mean NumPy rounds to float32.
    np.testing.assert_allclose(offsets(ax)[0, 0], expected, rtol=1e-6)


def test_ma_finds_genes_by_the_names_the_test_used(counts_file: Path, tmp_path: Path) -> None:
    adata = anndata.read_h5ad(counts_file)
    adata.var["symbol"] = [f"S{i}" for i in range(13)]
    by_index = cx.t_test(
        adata_logs(adata), perturbation_column=COLUMN, output_path=tmp_path / "i.h5ad"
    )
    by_symbol = cx.t_test(
        adata_logs(adata),
        perturbation_column=COLUMN,
        gene_name_column="symbol",
        output_path=tmp_path / "s.h5ad",
    )
    found = offsets(plot_ma(data=adata, de_result=by_symbol.result_path, group="MYC"))
    expected = offsets(plot_ma(data=adata, de_result=by_index, group="MYC"))
    np.testing.assert_array_equal(found, expected)


def adata_logs(adata: anndata.AnnData) -> anndata.AnnData:
    logs = adata.copy()
    logs.X = logs.X.astype(np.float64).log1p()
    return logs


def test_ma_needs_counts(logs_file: Path, result: cx.RankGenesGroupsResult) -> None:
    with pytest.warns(CrispyxWarning, match="not a count; give the file with the raw counts"):
        plot_ma(data=logs_file, de_result=result, group="MYC")
    adata = anndata.read_h5ad(logs_file)
    adata.X.data[3] = -1
    with pytest.raises(InputError, match="holds -1 at cell"):
        plot_ma(data=adata, de_result=result, group="MYC")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"mean_mode": "log"}, InputError, r"mean_mode is 'log'; choose one of \('raw', 'log1p'\)"),
        ({"group": "zz"}, InputError, "group='zz'.*asks for 'zz'"),
        ({"reference": "zz"}, InputError, "'zz' is not in .*give reference="),
        ({"perturbation_column": "zz"}, MissingColumnError, "no obs column 'zz'"),
        ({"perturbation_column": None}, InputError, "perturbation_column= .*'perturbation'"),
        ({"target_sum": 0}, InputError, "target_sum is 0"),
        ({"chunk_size": 0}, InputError, "chunk_size is 0"),
        ({"n_genes": 0}, InputError, "n_genes is 0"),
        ({"p_cut": 0}, InputError, "p_cut is 0"),
        ({"de_df": ONE_GENE.assign(names="x")}, InputError, "no gene of the result .'x'"),
        ({"de_df": ONE_GENE.drop(columns="names")}, InputError, "lacks 'names'"),
        ({"de_df": ONE_GENE.drop(columns="pvals_adj")}, InputError, "'pvals_adj' or 'pvals'"),
        ({"de_df": None}, InputError, "no differential expression"),
        ({"de_df": [1]}, InputError, "de_df is a list"),
    ],
)
def test_ma_says_what_is_wrong(
    arguments: dict[str, Any], error: type[Exception], message: str, counts_file: Path
) -> None:
    usual = {"group": "MYC", "de_df": ONE_GENE, "perturbation_column": COLUMN}
    with pytest.raises(error, match=message):
        cx.pl.ma(data=counts_file, **(usual | arguments))


# -- top_genes_bar


def test_bars_are_the_largest_scores_of_both_signs_with_the_largest_on_top(
    places: dict[str, Any], tmp_path: Path
) -> None:
    best = cx.rank_genes_groups_df(places["path"], "MYC", n_genes=5)
    for kind, data in places.items():
        ax = cx.pl.top_genes_bar(data=data, group="MYC", topn=5, savepath=tmp_path / "b.png")
        bars = sorted(ax.patches, key=lambda bar: bar.get_y())
        np.testing.assert_array_equal([bar.get_width() for bar in bars], best["scores"], kind)
        assert [label.get_text() for label in ax.get_yticklabels()] == list(best["names"])
        low, high = ax.get_ylim()
        assert low > high, "the first bar is on top"
        colors = [to_hex(bar.get_facecolor()) for bar in bars]
        assert colors == [UP if score > 0 else DOWN for score in best["scores"]]
        plt.close("all")
    assert ax.get_xlabel() == "z (rank sum)"
    assert ax.get_title("left") == "Top genes: MYC"


def test_bars_of_a_frame_are_sorted_and_leave_untested_genes_out() -> None:
    table = pd.DataFrame({"names": ["a", "$b{", "c"], "scores": [1.0, -3.0, np.nan]})
    ax = cx.pl.top_genes_bar(de_df=table)
    assert [label.get_text() for label in ax.get_yticklabels()] == [r"\$b{", "a"]
    ax.figure.draw_without_rendering()
    _, given = plt.subplots()
    assert cx.plot_top_genes_bar(de_df=table[2:], ax=given) is given  # nothing tested: empty


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either de_df="),
        ({"group": "MYC"}, "either de_df="),
        ({"de_df": pd.DataFrame({"names": ["a"]})}, "lacks 'scores'"),
        ({"de_df": pd.DataFrame({"scores": [1.0]})}, "lacks 'names'"),
        ({"topn": 0}, "topn is 0"),
    ],
)
def test_bars_say_what_is_missing(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cx.pl.top_genes_bar(**arguments)


# -- qc_perturbation_counts


def heights(ax: Any, color: str) -> list[float]:
    return [bar.get_height() for bar in ax.patches if to_hex(bar.get_facecolor()) == color]


def names(ax: Any) -> list[str]:
    return [label.get_text() for label in ax.get_xticklabels()]


def test_cells_per_perturbation_are_sorted_and_the_control_stands_out(
    counts_file: Path, tmp_path: Path
) -> None:
    _, labels = counts_and_labels()
    expected = pd.Series(labels).value_counts()
    for data in (counts_file, cx.AnnData(counts_file), anndata.read_h5ad(counts_file)):
        ax = cx.pl.qc_perturbation_counts(
            data=data, perturbation_column=COLUMN, savepath=tmp_path / "counts.png"
        )
        assert heights(ax, DOWN) == sorted(expected.drop("control"), reverse=True)
        assert heights(ax, UP) == [expected["control"]]
        assert expected[names(ax)].is_monotonic_decreasing
    assert (tmp_path / "counts.png").read_bytes().startswith(b"\x89PNG")


def test_cells_a_mask_removes_are_drawn_on_top(counts_file: Path) -> None:
    _, labels = counts_and_labels()
    mask = np.arange(61) % 3 > 0
    ax = cx.pl.qc_perturbation_counts(data=counts_file, perturbation_column=COLUMN, cell_mask=mask)
    everything, kept = pd.Series(labels).value_counts(), pd.Series(labels[mask]).value_counts()
    assert heights(ax, UP) == [kept["control"]]
    removed = {label: everything[label] - kept[label] for label in everything.index}
    assert heights(ax, NEUTRAL) == [removed[label] for label in names(ax)]
    assert [text.get_text() for text in ax.get_legend().get_texts()][2] == "removed: 21 cells"


def test_perturbations_are_sorted_by_the_cells_they_keep() -> None:
    ax = cx.pl.qc_perturbation_counts(
        data=labelled(["A", "A", "A", "B", "B"]),
        perturbation_column="p",
        cell_mask=np.array([True, False, False, True, True]),
    )
    assert names(ax) == ["B", "A"]
    assert heights(ax, DOWN) == [2, 1]


def test_only_the_largest_perturbations_are_drawn_when_asked(counts_file: Path) -> None:
    ax = cx.pl.qc_perturbation_counts(data=counts_file, perturbation_column=COLUMN, top_n=2)
    assert len(ax.patches) == 2
    assert ax.get_xlabel() == "perturbation (the 2 largest of 4 labels)"


def labelled(labels: list[Any]) -> anndata.AnnData:
    obs = pd.DataFrame({"p": labels}, index=[f"c{i}" for i in range(len(labels))])
    return anndata.AnnData(sp.csr_matrix((len(labels), 2)), obs=obs)


def test_cells_without_a_label_are_counted_below_the_axis() -> None:
    ax = cx.plot_qc_perturbation_counts(
        data=labelled(["ctrl", None, "A", np.nan]), perturbation_column="p"
    )
    assert names(ax) == ["ctrl", "A"]
    assert ax.get_xlabel() == "perturbation (2 cells without a label)"


def test_control_that_cannot_be_told_is_not_highlighted() -> None:
    for labels in (["A", "B"], ["ctrl", "control"]):
        ax = cx.pl.qc_perturbation_counts(data=labelled(labels), perturbation_column="p")
        assert heights(ax, UP) == []
        assert heights(ax, DOWN) == [1, 1]
    ax = cx.pl.qc_perturbation_counts(
        data=labelled(labels), perturbation_column="p", control_label="control"
    )
    assert heights(ax, UP) == [1]


@pytest.mark.parametrize("n_perturbations", [3, 200])
def test_large_control_does_not_flatten_the_perturbations(n_perturbations: int) -> None:
    data = labelled([f"p{i}" for i in range(n_perturbations)] * 2 + ["ctrl"] * 1500)
    ax = cx.pl.qc_perturbation_counts(data=data, perturbation_column="p")
    assert ax.get_ylim() == (0, 2.5)
    assert [text.get_text() for text in ax.texts] == ["↑ 1,500"]
    bar = next(bar for bar in ax.patches if to_hex(bar.get_facecolor()) == UP)
    assert bar.get_height() == 1500
    low, high = ax.get_xlim()
    assert bar.get_width() > 0.01 * (high - low), "wide enough to be seen"
    others = [other for other in ax.patches if other is not bar]
    assert bar.get_x() + bar.get_width() <= min(other.get_x() for other in others)


def test_many_perturbations_are_drawn_without_their_names() -> None:
    data = labelled([f"p{i}" for i in range(200)] + ["ctrl"])
    ax = cx.pl.qc_perturbation_counts(data=data, perturbation_column="p")
    assert len(ax.patches) == 201
    assert not any(name.startswith("p") for name in names(ax))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"perturbation_column": "zz"}, MissingColumnError, "no obs column 'zz'"),
        ({"cell_mask": np.ones(60, dtype=bool)}, InputError, r"cell_mask has shape \(60,\).* 61"),
        ({"cell_mask": np.ones(61)}, InputError, "cell_mask has type float64"),
        ({"top_n": 0}, InputError, "top_n is 0"),
        ({"control_label": "zz"}, InputError, "control label 'zz' is not in .*'control'"),
        ({"ax": 3}, InputError, "ax is 3"),
    ],
)
def test_cells_per_perturbation_say_what_is_wrong(
    arguments: dict[str, Any], error: type[Exception], message: str, counts_file: Path
) -> None:
    with pytest.raises(error, match=message):
        cx.pl.qc_perturbation_counts(
            **({"data": counts_file, "perturbation_column": COLUMN} | arguments)
        )
    with pytest.raises(InputError, match="holds no label"):
        cx.pl.qc_perturbation_counts(data=labelled([None, None]), perturbation_column="p")


@pytest.mark.parametrize("name", ["ma", "top_genes_bar", "qc_perturbation_counts"])
def test_show_shows_and_returns_nothing(
    name: str, counts_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(name))
    table = ONE_GENE.assign(scores=1.0)
    arguments = {
        "ma": {"data": counts_file, "de_df": table, "group": "MYC", "perturbation_column": COLUMN},
        "top_genes_bar": {"de_df": table},
        "qc_perturbation_counts": {"data": counts_file, "perturbation_column": COLUMN},
    }[name]
    assert getattr(cx.pl, name)(**arguments, show=True) is None
    assert shown == [name]


def test_interferon_receptor_loss_lowers_its_targets_in_a_real_screen(
    data_dir: Path, tmp_path: Path
) -> None:
    screen = data_dir / "papalexi_eccite_299genes.h5ad"
    logs = cx.pp.normalize_total_log1p(screen, output_dir=tmp_path, verbose=False)
    result = cx.wilcoxon_test(
        logs, perturbation_column="perturbation", perturbations=["IFNGR1"], output_dir=tmp_path
    )
    ax = cx.pl.top_genes_bar(data=result, group="IFNGR1", topn=4)
    assert ax.get_yticklabels()[0].get_text() == "PSMB9"
    ax = cx.pl.ma(data=screen, de_result=result, group="IFNGR1")
    adata = anndata.read_h5ad(screen)
    gene = adata[:, "PSMB9"].X.toarray().ravel().astype(float)
    arms = [gene[adata.obs["perturbation"] == k].mean() for k in ("IFNGR1", "non-targeting")]
    place = result.genes.get_loc("PSMB9")
    nearest = offsets(ax)[np.argmin(np.abs(offsets(ax)[:, 1] - result.logfoldchanges[0, place]))]
    assert nearest[0] == pytest.approx(np.mean(arms), rel=1e-12)
