"""Overlaps, correlated effects, own genes and energy distances are drawn as the tables say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from layouts import COLUMN, in_memory
from matplotlib.colors import to_hex
from matplotlib.text import Annotation

mpl.use("Agg")

import matplotlib.pyplot as plt

import crispyx as cx
from crispyx._io import result_file
from crispyx.errors import CrispyxWarning, InputError, InputTypeError
from crispyx.plotting import rankings
from crispyx.plotting.style import DOWN, NEUTRAL, UP

GENES = [f"gene{j}" for j in range(12)]
LABELS = ["gene0", "gene1", "gene2+gene3", "other"]


@pytest.fixture(autouse=True)
def no_figure_stays_open() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> cx.RankGenesGroupsResult:
    """Perturbations 0 and 1 change the same genes, 2 the opposite way; each lowers its own."""
    rng = np.random.default_rng(0)
    labels = np.repeat([*LABELS, "control"], 40)
    values = rng.gamma(4.0, 0.3, (len(labels), len(GENES)))
    for row, sign in enumerate((1.0, 1.0, -1.0)):
        of_group = labels == LABELS[row]
        values[np.ix_(of_group, range(4, 10))] += 0.5 * sign * np.array([1, 1, 1, -1, -1, -1])
    values[labels == "gene0", 0] -= 1.0
    values[labels == "gene1", 1] -= 0.8
    values[labels == "gene2+gene3", 2] -= 0.7
    folder = tmp_path_factory.mktemp("effects")
    screen = in_memory(np.maximum(values, 0.01), labels, np.asarray)
    return cx.t_test(screen, perturbation_column=COLUMN, output_dir=folder)


def notes(ax: Any) -> str:
    return "\n".join(c.get_text() for c in ax.get_children() if isinstance(c, Annotation))


def forms(result: cx.RankGenesGroupsResult) -> Iterator[tuple[str, Any]]:
    memory = anndata.read_h5ad(result.result_path)
    scanpys = anndata.AnnData(obs=pd.DataFrame(index=["c"]), var=pd.DataFrame(index=GENES))
    ranked = result.to_rank_genes_groups_dict()
    ranked.pop("full")
    scanpys.uns["rank_genes_groups"] = ranked
    yield from (("result", result), ("path", result.result_path), ("memory", memory))
    yield "scanpy", scanpys


# -- overlap


@pytest.fixture
def overlap() -> Any:
    return cx.compute_overlap({"a": {1, 2, 3}, "b": {2, 3, 4, 5}, "$c_1$": set()})


def test_overlap_shows_every_number(overlap: Any) -> None:
    ax = cx.pl.overlap_heatmap(overlap)
    np.testing.assert_array_equal(ax.images[0].get_array(), overlap.jaccard_matrix)
    drawn = [text.get_text() for text in ax.texts]
    assert drawn == ["1.00", "0.40", "0.00", "0.40", "1.00", "0.00", "0.00", "0.00", "0.00"]
    assert ax.get_title("left") == "Jaccard similarity"
    # A name with dollars is text and no formula.
    assert [t.get_text() for t in ax.get_xticklabels()] == ["a", "b", r"\$c_1\$"]
    ax = cx.plot_overlap_heatmap(overlap, metric="count", cmap="viridis", title="Shared")
    assert [text.get_text() for text in ax.texts][:2] == ["3", "2"]
    assert ax.images[0].get_cmap().name == "viridis"
    assert ax.get_title("left") == "Shared"


def test_overlap_takes_axes_format_and_no_numbers(overlap: Any) -> None:
    _, ax = plt.subplots()
    assert cx.pl.overlap_heatmap(overlap, ax=ax, annot=False) is ax
    assert not ax.texts
    ax = cx.pl.overlap_heatmap(overlap, fmt=".0%")
    assert ax.texts[1].get_text() == "40%"


def test_numbers_on_dark_squares_are_white(overlap: Any) -> None:
    ax = cx.pl.overlap_heatmap(overlap)
    assert to_hex(ax.texts[0].get_color()) == "#ffffff"
    assert to_hex(ax.texts[2].get_color()) != "#ffffff"


def test_many_sets_have_neither_names_nor_numbers() -> None:
    ax = cx.pl.overlap_heatmap(cx.compute_overlap({str(k): {k, k + 1} for k in range(70)}))
    assert not ax.texts
    assert list(ax.get_xticks()) == []
    assert ax.get_xlabel() == "70 sets"


def test_bad_overlaps_are_refused(overlap: Any) -> None:
    with pytest.raises(InputError, match="metric is 'dice'"):
        cx.pl.overlap_heatmap(overlap, metric="dice")
    with pytest.raises(InputTypeError, match="result is a dict"):
        cx.pl.overlap_heatmap({"a": {1}})
    with pytest.raises(InputError, match=r"no jaccard matrix; call cx\.compute_overlap"):
        cx.pl.overlap_heatmap(cx.compute_overlap({"a": {1}}, metric="count"))
    with pytest.raises(InputError, match="cmap is 'mauve'"):
        cx.pl.overlap_heatmap(overlap, cmap="mauve")
    with pytest.raises(InputError, match="fmt is 'd', which does not format"):
        cx.pl.overlap_heatmap(overlap, fmt="d")


# -- correlated effects


def test_similar_effects_stand_side_by_side(result: cx.RankGenesGroupsResult) -> None:
    ax = cx.pl.effect_heatmap(result, min_genes=3)
    names = [text.get_text() for text in ax.get_xticklabels()]
    assert names == [text.get_text() for text in ax.get_yticklabels()]
    assert sorted(names) == sorted(LABELS[:3])
    assert abs(names.index("gene0") - names.index("gene1")) == 1
    rows = [result.groups.index(name) for name in names]
    expected = np.corrcoef(result.statistics[rows])
    np.testing.assert_allclose(ax.images[0].get_array(), expected, atol=1e-12)
    assert "3 of 4 perturbations that change 3 genes or more" in notes(ax)
    assert len(ax.child_axes[0].collections[0].get_segments()) == 2  # a tree of three leaves


def test_effects_are_the_same_from_every_place(
    result: cx.RankGenesGroupsResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rankings, "BLOCK", len(GENES) + 1)  # a row at a time
    expected = None
    for kind, data in forms(result):
        ax = cx.pl.effect_heatmap(data, value="logfoldchanges", min_genes=0, n_genes=8)
        table = np.asarray(ax.images[0].get_array())
        expected = table if expected is None else expected
        # scanpy keeps fold changes as float32.
        np.testing.assert_allclose(table, expected, atol=1e-6, err_msg=kind)


def test_strongest_perturbations_and_most_changed_genes_are_taken(
    result: cx.RankGenesGroupsResult,
) -> None:
    n_changed = (result.pvalues_adj <= 0.05).sum(axis=1)
    ax = cx.pl.effect_heatmap(result, min_genes=1, max_perturbations=2, n_genes=5)
    strongest = {result.groups[k] for k in np.argsort(-n_changed, kind="stable")[:2]}
    assert {text.get_text() for text in ax.get_xticklabels()} == strongest
    assert "the 2 strongest of" in notes(ax)
    assert "test statistics of 5 genes" in notes(ax)


def test_untested_genes_and_flat_profiles_do_not_correlate(tmp_path: Path) -> None:
    labels = np.repeat(["a", "b", "c", "control"], 6)
    values = np.random.default_rng(1).gamma(2.0, 1.0, (24, 5))
    values[:, 3] = 0  # untested
    data = in_memory(values, labels, np.asarray)
    found = cx.t_test(data, perturbation_column=COLUMN, output_dir=tmp_path)
    assert np.isnan(found.statistics).any()
    ax = cx.pl.effect_heatmap(found, min_genes=0)
    assert np.isfinite(np.asarray(ax.images[0].get_array())).all()


def test_many_perturbations_are_one_picture_without_names(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    n = 130
    labels = [*np.repeat([f"p{k}" for k in range(n)], 3), *["control"] * 6]
    data = in_memory(rng.gamma(2.0, 1.0, (len(labels), 6)), labels, np.asarray)
    found = cx.t_test(data, perturbation_column=COLUMN, output_dir=tmp_path)
    ax = cx.pl.effect_heatmap(found, min_genes=0)
    assert ax.images[0].get_array().shape == (n, n)
    assert list(ax.get_xticks()) == []
    assert ax.get_xlabel() == "130 perturbations"


def test_bad_heatmaps_are_refused(result: cx.RankGenesGroupsResult) -> None:
    with pytest.raises(InputError, match="value is 'pvals'"):
        cx.pl.effect_heatmap(result, value="pvals")
    with pytest.raises(InputError, match=r"0 of 4 perturbations .* change 99 genes or more"):
        cx.pl.effect_heatmap(result, min_genes=99)
    with pytest.raises(InputError, match="p_cut is 0"):
        cx.pl.effect_heatmap(result, p_cut=0)
    with pytest.raises(InputError, match="max_perturbations is 1"):
        cx.pl.effect_heatmap(result, max_perturbations=1)


# -- own genes


def test_own_genes_have_the_numbers_of_the_result(result: cx.RankGenesGroupsResult) -> None:
    for kind, data in forms(result):
        table = cx.pl.on_target_df(data)
        assert table["perturbation"].tolist() == [*LABELS[:2], LABELS[2], LABELS[2]], kind
        assert table["gene"].tolist() == ["gene0", "gene1", "gene2", "gene3"], kind
        assert table.attrs["not_measured"] == ["other"]
        for row in table.itertuples():
            group, gene = LABELS.index(row.perturbation), GENES.index(row.gene)
            assert row.logfoldchange == pytest.approx(result.logfoldchanges[group, gene], rel=1e-6)
            assert row.pval_adj == pytest.approx(result.pvalues_adj[group, gene])
            scores = np.abs(result.statistics[group])
            assert row.rank == 1 + np.count_nonzero(scores > scores[gene])
            assert np.isnan(row.low)
            assert row.pts == pytest.approx(result.pts[group, gene])


def test_interval_is_drawn_where_the_test_has_a_standard_error(
    result: cx.RankGenesGroupsResult,
) -> None:
    memory = anndata.read_h5ad(result.result_path)
    memory.layers["standard_error"] = np.full(memory.shape, 0.5)
    table = cx.pl.on_target_df(memory)
    np.testing.assert_allclose(table["high"] - table["logfoldchange"], 0.98, atol=1e-4)
    np.testing.assert_allclose(table["logfoldchange"] - table["low"], 0.98, atol=1e-4)


def test_targets_name_the_gene_and_a_label_may_be_taken_whole(
    result: cx.RankGenesGroupsResult,
) -> None:
    table = cx.pl.on_target_df(result, targets={"other": "gene7", "gene0": "unknown"})
    assert table[["perturbation", "gene"]].to_numpy().tolist() == [["other", "gene7"]]
    assert len(cx.pl.on_target_df(result, separator="")) == 2
    with pytest.raises(
        InputError, match=r"of none of its perturbations \('gene0', .*give targets="
    ):
        cx.pl.on_target_df(result, targets={"other": "unknown"})
    with pytest.raises(InputTypeError, match="targets is a list"):
        cx.pl.on_target_df(result, targets=["gene0"])


def test_own_genes_are_drawn_from_the_strongest_knock_down_on(
    result: cx.RankGenesGroupsResult,
) -> None:
    axes = cx.pl.on_target(result)
    table = cx.pl.on_target_df(result).sort_values("logfoldchange")
    points = np.concatenate([c.get_offsets() for c in axes[0].collections if len(c.get_offsets())])
    points = points[np.argsort(points[:, 1])]
    assert table["logfoldchange"].is_monotonic_increasing
    drawn = {c: v for c, v in zip(points[:, 1], points[:, 0], strict=True) if v != 0}
    np.testing.assert_allclose(list(drawn.values()), table["logfoldchange"], rtol=1e-6)
    names = [text.get_text() for text in axes[0].get_yticklabels()]
    assert names[-1] == "gene2+gene3: gene3"
    assert "of 4: 3 lower, 0 raise it at adj p" in notes(axes[0])
    assert "1 without their gene" in notes(axes[0])


# -- energy distances


def energies(n: int) -> pd.DataFrame:
    distance = np.exp(np.linspace(2, -3, n))
    table = pd.DataFrame(
        {
            "n_cells": 50,
            "energy_distance": distance,
            "expected": 0.04,
            "pvalue": 0.01,
            "pvalue_adj": np.linspace(0.001, 0.5, n),
        },
        index=pd.Index([f"p{k}" for k in range(n)], name="perturbation"),
    )
    table.attrs = {"control_label": "NTC_$1"}
    return table


def test_few_energies_have_a_row_each_and_untested_ones_are_counted() -> None:
    table = energies(5)
    table.loc["p4", ["energy_distance", "pvalue", "pvalue_adj", "expected"]] = np.nan
    ax = cx.pl.energy_distance(table, p_cut=0.2)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["p0", "p1", "p2", "p3"]
    by_color = {
        to_hex(c.get_facecolor()[0]): np.asarray(c.get_offsets())[:, 0]
        for c in ax.collections
        if len(c.get_offsets()) and len(c.get_facecolor())
    }
    np.testing.assert_allclose(by_color[UP], table["energy_distance"][:2])
    np.testing.assert_allclose(by_color[NEUTRAL], table["energy_distance"][2:4])
    assert "2 of 4 perturbations at adj p ≤ 0.2; 1 not tested" in notes(ax)
    assert ax.get_title("left") == r"Energy distance from NTC_\$1"


def test_many_energies_are_drawn_by_rank_with_the_largest_named() -> None:
    ax = cx.pl.energy_distance(energies(300), n_labels=4)
    named = [child.get_text() for child in ax.get_children() if isinstance(child, Annotation)]
    assert {"p0", "p1"} <= set(named)
    assert "p5" not in named
    assert ax.get_yscale() == "log"


def test_many_thousand_points_become_a_picture() -> None:
    ax = cx.pl.energy_distance(energies(20_000), n_labels=0)
    assert all(c.get_rasterized() for c in ax.collections if len(c.get_offsets()) > 5000)


def many_results(path: Path, n: int = 10_000) -> Path:
    """Write the result of ``n`` perturbations of 20 genes, each of which lowers one."""
    rng = np.random.default_rng(3)
    genes = [f"gene{j}" for j in range(20)]
    z = rng.normal(size=(n, 20)) + 4 * rng.normal(size=(5, 20))[np.arange(n) % 5]
    z[np.arange(n), np.arange(n) % 20] -= 8
    p = np.exp(-(z**2) / 2)
    share = np.clip(0.6 + 0.02 * rng.normal(size=(n, 20)), 0, 1)
    names = [f"gene{k % 20}+x{k}" for k in range(n)]
    layers = {"z_score": z, "logfoldchanges": z / 4, "pvalue": p, "pvalue_adj": p}
    table = anndata.AnnData(
        z,
        obs=pd.DataFrame(index=names),
        var=pd.DataFrame(index=genes),
        layers=layers | {"pts": share / 2, "pts_rest": share},
    )
    table.write_h5ad(path)
    return path


def n_shapes(ax: Any) -> int:
    return len(ax.lines) + len(ax.patches) + len(ax.collections) + len(ax.texts)


def test_ten_thousand_perturbations_are_few_shapes_and_no_names(tmp_path: Path) -> None:
    path = many_results(tmp_path / "many.h5ad")
    axes = cx.pl.on_target(path)
    ax = cx.pl.effect_heatmap(path, min_genes=1, max_perturbations=500)
    counts = in_memory(
        np.ones((20_000, 1)), [f"p{k}" for k in range(9_999)] * 2 + ["control"] * 2, np.array
    )
    bars = cx.pl.qc_perturbation_counts(data=counts, perturbation_column=COLUMN)
    for drawn in (*axes, ax, bars):
        assert n_shapes(drawn) < 15
        assert len(drawn.get_yticks()) < 15
        assert all(c.get_rasterized() for c in drawn.collections if len(c.get_offsets()) > 5000)
    median = {line.get_label(): np.median(line.get_xdata()) for line in axes[1].lines}
    assert median == pytest.approx({"control": 0.6, "perturbed": 0.3}, abs=0.01)
    assert "the 500 strongest of 10,000" in notes(ax)
    control, perturbations = sorted(bars.patches, key=lambda patch: patch.get_extents().x0)
    assert to_hex(control.get_facecolor()) == UP
    np.testing.assert_array_equal(perturbations.get_data().values, np.full(9_999, 2.0))


def test_own_genes_are_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = many_results(tmp_path / "many.h5ad", 300)
    opened = []
    open_file = result_file.open_file

    def noted(name: Path) -> Any:
        opened.append(name)
        return open_file(name)

    monkeypatch.setattr(result_file, "open_file", noted)
    table = cx.pl.on_target_df(path)
    assert len(opened) < 5
    assert len(table) == 300
    found = anndata.read_h5ad(path)
    np.testing.assert_array_equal(
        table["logfoldchange"], found.layers["logfoldchanges"][np.arange(300), np.arange(300) % 20]
    )


@pytest.mark.filterwarnings("ignore:No data for colormapping")
def test_of_many_perturbations_the_first_have_a_panel(tmp_path: Path) -> None:
    path = many_results(tmp_path / "many.h5ad", 60)
    with pytest.warns(CrispyxWarning, match="the first 40 of 60 perturbations are drawn"):
        assert len(cx.pl.rank_genes_groups(path, n_genes=2, show=False)) == 40


def test_bad_energies_are_refused() -> None:
    with pytest.raises(InputTypeError, match="table is a dict"):
        cx.pl.energy_distance({})
    with pytest.raises(InputError, match=r"the table lacks \['pvalue_adj'\]"):
        cx.pl.energy_distance(energies(3).drop(columns="pvalue_adj"))
    with pytest.raises(InputError, match="no perturbation of the table was tested"):
        cx.pl.energy_distance(energies(3).assign(energy_distance=np.nan))


@pytest.mark.parametrize("name", ["effect_heatmap", "on_target", "energy_distance"])
def test_figures_are_saved(name: str, result: cx.RankGenesGroupsResult, tmp_path: Path) -> None:
    data = energies(5) if name == "energy_distance" else result
    options = {"min_genes": 0} if name == "effect_heatmap" else {}
    getattr(cx.pl, name)(data, savepath=tmp_path / "new" / "figure", **options)
    assert (tmp_path / "new" / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_colors_say_up_and_down(result: cx.RankGenesGroupsResult) -> None:
    axes = cx.pl.on_target(result)
    colors = {to_hex(c.get_facecolor()[0]) for c in axes[0].collections if len(c.get_facecolor())}
    assert {DOWN, NEUTRAL} <= colors
