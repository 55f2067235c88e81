"""Figures say what the numbers say, and say it legibly."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.text import Annotation, Text

import crispyx as cx
from crispyx.errors import InputError
from crispyx.plotting.histogram import whole_number_edges
from crispyx.qc import QualityControlResult


@pytest.fixture(autouse=True)
def no_figure_stays_open() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Log expression of 300 cells x 40 genes; G0 is lowered in A, G1 raised in B."""
    rng = np.random.default_rng(1)
    labels = np.repeat(["ctrl", "A", "B"], 100)
    mean = np.full((300, 40), 3.0)
    mean[labels == "A", 0] = 0.5
    mean[labels == "B", 1] = 12.0
    obs = pd.DataFrame({"perturbation": labels}, index=[f"c{i}" for i in range(300)])
    var = pd.DataFrame(index=[f"G{i}" for i in range(40)])
    path = tmp_path_factory.mktemp("screen") / "logs.h5ad"
    counts = sp.csr_matrix(np.log1p(rng.poisson(mean)))
    anndata.AnnData(counts, obs=obs, var=var).write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def result(screen: Path) -> cx.RankGenesGroupsResult:
    return cx.wilcoxon_test(screen, perturbation_column="perturbation", control_label="ctrl")


def frame(**columns: Any) -> pd.DataFrame:
    n = len(columns["logfoldchanges"])
    return pd.DataFrame({"names": [f"GENE{i}" for i in range(n)], **columns})


def note(ax: Any) -> str:
    """Return the lines between title and axes."""
    texts = [child.get_text() for child in ax.get_children() if isinstance(child, Annotation)]
    return next(text for text in texts if " at " in text)


def labels_of(ax: Any) -> list[Annotation]:
    found = [child for child in ax.get_children() if isinstance(child, Annotation)]
    return [child for child in found if child.get_text() and " at " not in child.get_text()]


def heights(ax: Any) -> np.ndarray:
    return np.sort(np.concatenate([c.get_offsets().data[:, 1] for c in ax.collections]))


def test_volcano_colors_genes_inside_both_cuts_and_returns_its_axes() -> None:
    table = frame(
        logfoldchanges=[2.0, -1.0, 0.9, -3.0, 0.0], pvals_adj=[0.01, 0.05, 1e-9, 0.06, 1.0]
    )
    ax = cx.pl.volcano(de_df=table, group="A")
    assert [len(c.get_offsets()) for c in ax.collections] == [3, 1, 1]
    assert note(ax).startswith("1 up, 1 down at adj p ≤ 0.05 and |log2FC| ≥ 1")
    assert ax.get_title("left") == "Volcano: A"
    assert "log2FC" in ax.get_xlabel()
    assert "-log10(adj p)" in ax.get_ylabel()


def test_volcano_draws_a_p_of_zero_at_300_and_counts_untested_genes() -> None:
    table = frame(logfoldchanges=[2.0, 1.0, np.nan, 1.0], pvals_adj=[0.0, 1e-310, np.nan, 0.1])
    ax = cx.pl.volcano(de_df=table, group="A")
    np.testing.assert_array_equal(heights(ax), [1.0, 300.0, 300.0])
    assert "1 gene not tested" in note(ax)


def test_volcano_keeps_a_boundless_fold_change_at_the_edge() -> None:
    table = frame(logfoldchanges=[-27.0, 1.5, -1.0], pvals_adj=[1e-5, 1e-5, 0.5])
    ax = cx.pl.volcano(de_df=table, group="A")
    low, high = ax.get_xlim()
    assert -3 < low < -1.5 < 1.5 < high < 3
    assert "1 gene with |log2FC| > 10 at the edge" in note(ax)


def test_volcano_falls_back_on_uncorrected_p_and_says_so() -> None:
    ax = cx.pl.volcano(de_df=frame(logfoldchanges=[2.0], pvals=[0.01]))
    assert ax.get_ylabel() == "-log10(p)"


def test_volcano_of_nothing_tested_is_an_empty_picture() -> None:
    ax = cx.pl.volcano(de_df=frame(logfoldchanges=[np.nan], pvals_adj=[np.nan]), group="A")
    assert len(heights(ax)) == 0


def test_volcano_without_fold_change_cut_colors_by_p_alone() -> None:
    ax = cx.pl.volcano(de_df=frame(logfoldchanges=[0.1, -0.1], pvals_adj=[0.01, 0.2]), lfc_cut=0)
    assert note(ax) == "1 up, 0 down at adj p ≤ 0.05"


def sources(screen: Path, result: cx.RankGenesGroupsResult, folder: Path) -> dict[str, Any]:
    path = result.result_path
    scanpy_file = folder / "scanpy.h5ad"
    ranked = result.to_rank_genes_groups_dict()
    ranked.pop("full")
    logs = anndata.read_h5ad(screen)
    logs.uns["rank_genes_groups"] = ranked
    logs.write_h5ad(scanpy_file)
    return {
        "result": result,
        "path": path,
        "text": str(path),
        "wrapper": result.result,
        "backed": cx.read_backed(path),
        "memory": anndata.read_h5ad(path),
        "scanpy file": scanpy_file,
        "scanpy in memory": logs,
    }


def test_volcano_is_the_same_from_every_place_a_result_is_kept(
    screen: Path, result: cx.RankGenesGroupsResult, tmp_path: Path
) -> None:
    expected = np.sort(-np.log10(np.maximum(result.pvalues_adj[1], 1e-300)))
    for kind, data in sources(screen, result, tmp_path).items():
        ax = cx.pl.volcano(data=data, group="B")
        np.testing.assert_array_equal(heights(ax), expected, err_msg=kind)
        assert "G1" in [label.get_text() for label in labels_of(ax)], kind
        plt.close("all")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either de_df="),
        ({"group": "A"}, "either de_df="),
        ({"de_df": pd.DataFrame({"logfoldchanges": [1.0]})}, "'pvals_adj' or 'pvals'"),
        ({"de_df": pd.DataFrame({"pvals": [1.0]})}, "'logfoldchanges'"),
        ({"de_df": frame(logfoldchanges=[1.0], pvals=[1.0]), "p_cut": 0}, "p_cut is 0"),
        ({"de_df": frame(logfoldchanges=[1.0], pvals=[1.0]), "ax": 3}, "ax is 3"),
    ],
)
def test_volcano_says_what_is_missing(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cx.pl.volcano(**arguments)


def test_volcano_names_the_groups_there_are(
    screen: Path, result: cx.RankGenesGroupsResult, tmp_path: Path
) -> None:
    for data in sources(screen, result, tmp_path).values():
        with pytest.raises(InputError, match=r"'zz' is not in .*'A', 'B'"):
            cx.pl.volcano(data=data, group="zz")
    for data in (screen, anndata.read_h5ad(screen)):
        with pytest.raises(InputError, match="no differential expression"):
            cx.pl.volcano(data=data, group="A")


def test_gene_labels_overlap_neither_each_other_nor_points() -> None:
    rng = np.random.default_rng(0)
    n = 400
    table = frame(logfoldchanges=rng.normal(0, 2, n), pvals_adj=10.0 ** -rng.gamma(2, 4, n))
    ax = cx.pl.volcano(de_df=table, group="A", n_labels=25)
    labels = labels_of(ax)
    assert len(labels) > 8
    boxes = [Text.get_window_extent(label) for label in labels]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    points = np.concatenate([ax.transData.transform(c.get_offsets()) for c in ax.collections])
    assert not any(box.contains(*point) for box in boxes for point in points)


def test_most_significant_gene_is_labeled_first() -> None:
    table = frame(logfoldchanges=[2.0, -2.0, 3.0], pvals_adj=[1e-5, 1e-50, 1e-10])
    ax = cx.pl.volcano(de_df=table, group="A", n_labels=1)
    assert [label.get_text() for label in labels_of(ax)] == ["GENE1"]


def test_names_are_text_and_not_formulas(tmp_path: Path) -> None:
    table = frame(logfoldchanges=[2.0], pvals_adj=[1e-5])
    table["names"] = r"a$\broken_{b$"
    ax = cx.pl.volcano(de_df=table, group=r"$\broken{", savepath=tmp_path / "v.svg")
    assert r"\$\broken" in ax.get_title("left")


def test_figure_is_saved_and_its_folder_created(tmp_path: Path) -> None:
    table = frame(logfoldchanges=[2.0], pvals_adj=[1e-5])
    for name, start in (("a/b/v.png", b"\x89PNG"), ("c/v.pdf", b"%PDF"), ("d/v", b"\x89PNG")):
        cx.pl.volcano(de_df=table, group="A", savepath=tmp_path / name)
        saved = tmp_path / (name if "." in name else f"{name}.png")
        assert saved.read_bytes().startswith(start)
        assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_place_that_cannot_hold_a_figure_is_named(tmp_path: Path) -> None:
    table = frame(logfoldchanges=[2.0], pvals_adj=[1e-5])
    (tmp_path / "file").write_text("mine")
    for name, message in (("v.docx", "ending in"), ("file/v.png", "is a file and not a folder")):
        with pytest.raises(InputError, match=message):
            cx.pl.volcano(de_df=table, group="A", savepath=tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"


def test_given_axes_are_drawn_into_and_settings_left_alone() -> None:
    before = dict(mpl.rcParams)
    _, (left, right) = plt.subplots(1, 2)
    table = frame(logfoldchanges=[2.0], pvals_adj=[1e-5])
    assert cx.pl.volcano(de_df=table, group="A", ax=right) is right
    assert not left.collections
    assert dict(mpl.rcParams) == before


def test_show_shows_and_returns_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(True))
    table = frame(logfoldchanges=[2.0], pvals_adj=[1e-5])
    assert cx.pl.volcano(de_df=table, group="A", show=True) is None
    assert shown == [True]


def quality() -> QualityControlResult:
    rng = np.random.default_rng(3)
    cells, genes = rng.poisson(40, 500), rng.integers(0, 500, 60)
    return QualityControlResult(
        cell_mask=cells >= 35,
        gene_mask=genes >= 50,
        perturbation_keep={},
        filtered=None,
        cell_gene_counts=cells,
        gene_cell_counts=genes,
    )


def legend(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_qc_summary_draws_both_distributions_with_kept_and_removed(tmp_path: Path) -> None:
    result = quality()
    saved = tmp_path / "qc.png"
    axes = cx.pl.qc_summary(result, min_genes=35, min_cells_per_gene=50, savepath=saved)
    assert axes.shape == (2,)
    kept, removed = int(result.cell_mask.sum()), int((~result.cell_mask).sum())
    assert legend(axes[0]) == [f"kept: {kept}", f"removed: {removed}", "min_genes = 35"]
    assert legend(axes[1])[2] == "min_cells_per_gene = 50"
    assert [line.get_xdata()[0] for line in axes[0].lines] == [34.5]
    assert saved.read_bytes().startswith(b"\x89PNG")


def test_qc_summary_draws_into_two_given_axes_only() -> None:
    _, axes = plt.subplots(1, 2)
    assert list(cx.pl.qc_summary(quality(), ax=axes)) == list(axes)
    for wrong in (axes[0], [axes[0]], "ab"):
        with pytest.raises(InputError, match="sequence of 2 Axes"):
            cx.pl.qc_summary(quality(), ax=wrong)
    with pytest.raises(InputError, match="bins is 0"):
        cx.pl.qc_summary(quality(), bins=0)


@pytest.mark.parametrize(("high", "bins"), [(0, 50), (1, 50), (71, 25), (999, 50), (12345, 7)])
def test_histogram_bins_hold_equally_many_whole_numbers(high: int, bins: int) -> None:
    values = np.arange(high + 1)
    edges = whole_number_edges(values, bins)
    counted, _ = np.histogram(values, edges)
    assert counted.sum() == high + 1
    assert len(counted) <= bins
    assert len(set(counted[:-1].tolist())) <= 1


def test_importing_the_plots_imports_no_matplotlib() -> None:
    code = "import sys, crispyx.plotting; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_style_is_taken_back_and_nothing_else() -> None:
    """A notebook's backend makes matplotlib interactive when it draws its first figure."""
    from crispyx.plotting.style import RC, styled

    before = {name: mpl.rcParams[name] for name in RC}

    @styled
    def draw() -> dict[str, Any]:
        plt.figure()
        mpl.interactive(True)
        return {name: mpl.rcParams[name] for name in RC}

    try:
        during = draw()
        assert mpl.is_interactive()
    finally:
        mpl.interactive(False)
    assert during != before
    assert {name: mpl.rcParams[name] for name in RC} == before
