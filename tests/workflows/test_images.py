"""Every figure looks as it did when somebody last looked at it.

Two things are kept of each figure. A coarse grid of mean colors, in which fields of several points
across are compared: what vanishes, moves or changes color is seen, what a release of matplotlib
does to the edges of letters is not. And an outline of its axes: labels, ticks, lines around them,
and how many shapes of which color are in them.

To renew them, run this file with ``CRISPYX_NEW_BASELINES`` set to a folder: it gets the pictures,
to be looked at before ``images.npz`` is committed.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anndata
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from layouts import COLUMN, in_memory
from matplotlib.colors import to_hex
from scipy.ndimage import uniform_filter

mpl.use("Agg")

import matplotlib.pyplot as plt
from PIL import Image

import crispyx as cx
from crispyx.plotting.style import DOWN, UP
from crispyx.profiling import Profiler

BASELINES = Path(__file__).parent / "images.npz"
NEW = os.environ.get("CRISPYX_NEW_BASELINES")
DPI = 50
GRID = (40, 30)  # columns, rows
FIELD = 4  # cells of the grid, on a side, whose means are compared
TOLERANCE = 10.0  # of 255; another family of letters moves most figures by 1 to 9
LABELS = ["gene0", "gene1", "gene2+gene3", "weak", "control"]
# Names of cx.pl that return tables and data sets.
NOT_DRAWN = {"materialize_rank_genes_groups", "on_target_df", "rank_genes_groups_df"}


@pytest.fixture(autouse=True)
def no_figure_stays_open() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A screen, its tests and its guides; the same numbers on every machine."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    labels = np.repeat(LABELS, [50, 40, 45, 12, 90])
    mean = np.linspace(0.3, 6, 40) * np.ones((len(labels), 1))
    for k, label in enumerate(LABELS[:3]):
        mean[labels == label, 8 + k : 24 + k] *= 3.0 if k < 2 else 0.3
        mean[labels == label, k] *= 0.1
    counts = rng.poisson(mean).astype(float)
    screen = in_memory(counts, labels, np.array)
    screen.obs["batch"] = pd.Categorical(np.resize(["a", "b", "c"], len(labels)))
    screen.write_h5ad(folder / "counts.h5ad")
    logs = cx.pp.normalize_total_log1p(folder / "counts.h5ad", verbose=False).path
    cx.pp.pca(logs, n_comps=6, show_progress=False)
    components = anndata.read_h5ad(logs).obsm["X_pca"]
    cx.data.write_obsm_to_h5ad(logs, "X_umap", np.ascontiguousarray(components[:, 1:3]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return SimpleNamespace(
            counts=folder / "counts.h5ad",
            logs=logs,
            result=cx.t_test(logs, perturbation_column=COLUMN),
            qc=cx.quality_control_summary(
                folder / "counts.h5ad",
                perturbation_column=COLUMN,
                min_genes=30,
                min_cells_per_perturbation=15,
                min_cells_per_gene=60,
            ),
            energies=cx.tl.energy_distance(logs, perturbation_column=COLUMN, n_permutations=30),
            guides=guides(),
            calibration=cx.tl.calibration(
                folder / "counts.h5ad",
                perturbation_column=COLUMN,
                methods=["t_test", "wilcoxon"],
                n_splits=2,
                min_cells_pert=10,
                max_depth_shift=0.05,
                show_progress=False,
            ),
        )


def guides() -> anndata.AnnData:
    rng = np.random.default_rng(1)
    counts = rng.poisson(0.3, (400, 5))
    counts[np.arange(400), np.arange(400) % 5] += rng.poisson(30, 400)
    return in_memory(counts.astype(float), ["x"] * 400, np.array)


def quiet_comparison(made: SimpleNamespace) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cx.gd.compare(made.guides, ["umi", "max", "ratio"])


def overlap() -> Any:
    return cx.compute_overlap({"A": set(range(8)), "B": set(range(4, 10)), "C": {1, 20}})


def many_energies() -> pd.DataFrame:
    distance = np.exp(np.linspace(2, -3, 900))
    return pd.DataFrame(
        {
            "energy_distance": distance,
            "expected": 0.05,
            "pvalue_adj": np.linspace(0.001, 0.9, 900),
        },
        index=[f"p{k}" for k in range(900)],
    )


def profiled() -> Profiler:
    """Return a profiler as if it had measured."""
    profiler = Profiler(timing=True, memory=True, memory_method="rss")
    profiler._seconds |= {"reading": 3.0, "testing": 7.0, "writing": 1.0}
    profiler._began = 0.0
    assert profiler._sampler is not None
    profiler._sampler.readings += [(0.0, 100e6), (3.0, 400e6), (7.0, 350e6), (11.0, 120e6)]
    return profiler


FIGURES: dict[str, Callable[[SimpleNamespace], Any]] = {
    "volcano": lambda m: cx.pl.volcano(data=m.result, group="gene0"),
    "ma": lambda m: cx.pl.ma(data=m.counts, de_result=m.result, group="gene0"),
    "top_genes_bar": lambda m: cx.pl.top_genes_bar(data=m.result, group="gene0"),
    "rank_genes_groups": lambda m: cx.pl.rank_genes_groups(m.result, n_genes=8, show=False),
    "qc_perturbation_counts": lambda m: cx.pl.qc_perturbation_counts(
        data=m.counts, perturbation_column=COLUMN
    ),
    "qc_summary": lambda m: cx.pl.qc_summary(m.qc),
    "pca": lambda m: cx.pl.pca(m.logs, color=COLUMN),
    "pca_variance_ratio": lambda m: cx.pl.pca_variance_ratio(m.logs),
    "pca_loadings": lambda m: cx.pl.pca_loadings(m.logs),
    "umap": lambda m: cx.pl.umap(m.logs, color=["batch", "gene9"]),
    "overlap_heatmap": lambda m: cx.pl.overlap_heatmap(overlap()),
    "effect_heatmap": lambda m: cx.pl.effect_heatmap(m.result, min_genes=0),
    "on_target": lambda m: cx.pl.on_target(m.result),
    "energy_distance": lambda m: cx.pl.energy_distance(m.energies),
    "energy_distance_many": lambda m: cx.pl.energy_distance(many_energies(), n_labels=0),
    "calibration": lambda m: cx.pl.calibration(m.calibration),
    "guide_fit": lambda m: cx.pl.guide_fit(cx.gd.score(m.guides), "gene1"),
    "guide_summary": lambda m: cx.pl.guide_summary(cx.gd.assign(m.guides)),
    "guide_comparison": lambda m: cx.pl.guide_comparison(quiet_comparison(m)),
    "profiler_timeline": lambda m: profiled().plot_timeline(),
    "profiler_memory": lambda m: profiled().plot_memory(),
}


def figure_of(what: Any) -> Any:
    """Return the figure of whatever a plotting function returned."""
    if isinstance(what, dict):
        what = list(what.values())
    first = what if hasattr(what, "figure") else np.ravel(np.asarray(what, dtype=object))[0]
    return first.figure


def draw(name: str, made: SimpleNamespace) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # guides with too few cells, colors of other packages
        return figure_of(FIGURES[name](made))


def picture_of(figure: Any) -> Image.Image:
    content = BytesIO()
    figure.savefig(content, format="png", dpi=DPI, bbox_inches=None)
    return Image.open(content).convert("RGB")


def grid_of(figure: Any) -> np.ndarray:
    """Return mean colors (rows, columns, 3) uint8."""
    return np.asarray(picture_of(figure).resize(GRID, Image.Resampling.BOX))


def difference(first: np.ndarray, second: np.ndarray) -> float:
    """Return the largest difference of the mean color of a field."""
    moved = first.astype(float) - second.astype(float)
    return float(np.abs(uniform_filter(moved, (FIELD, FIELD, 0), mode="constant")).max())


def colors_of(ax: Any) -> list[str]:
    """Return what is drawn in an axes, in words: kind, color, how many. No font changes it."""
    found: Counter[str] = Counter()
    for line in ax.lines:
        found[f"line {to_hex(line.get_color())}"] += 1
    for patch in ax.patches:
        found[f"bar {to_hex(patch.get_facecolor())}"] += 1
    for image in ax.images:
        found[f"image {image.cmap.name}"] += 1
    for drawn in ax.collections:
        if drawn.get_array() is not None:
            found[f"colored by {drawn.cmap.name}"] += 1
        elif len(drawn.get_facecolor()):
            found[f"point {to_hex(drawn.get_facecolor()[0])}"] += len(drawn.get_offsets())
        else:
            found[f"lines {to_hex(drawn.get_edgecolor()[0])}"] += 1
    if ax.texts:
        found["texts"] = 1  # how many find room, letters decide
    return [f"{n} {what}" for what, n in sorted(found.items())]


def outline_of(figure: Any) -> str:
    """Return what stands in and around each axes, a line each."""
    lines = []
    for ax in figure.axes:
        ticks = [
            f"{name} {'ticks' if any(t.get_text() for t in axis.get_ticklabels()) else 'bare'}"
            for name, axis in (("x", ax.xaxis), ("y", ax.yaxis))
        ]
        spines = [name for name, spine in ax.spines.items() if spine.get_visible()]
        around = [*map(ax.get_title, ("left", "center")), ax.get_xlabel(), ax.get_ylabel()]
        words = [*around, *ticks, " ".join(spines)] if ax.axison else ["no axis"]
        lines.append(" | ".join([*words, *colors_of(ax)]))
    width, height = figure.get_size_inches()
    return "\n".join([f"{width:.1f} x {height:.1f}", *lines])


@pytest.fixture(scope="module")
def baselines() -> Iterator[dict[str, np.ndarray]]:
    kept: dict[str, np.ndarray] = {}
    if not NEW:
        with np.load(BASELINES) as file:
            kept.update(file)
    yield kept
    if NEW:
        np.savez_compressed(BASELINES, **kept)


@pytest.mark.parametrize("name", FIGURES)
def test_figure_looks_as_before(
    name: str, made: SimpleNamespace, baselines: dict[str, np.ndarray], tmp_path: Path
) -> None:
    figure = draw(name, made)
    grid = grid_of(figure)  # a second drawing settles the layout elsewhere
    if NEW:
        Path(NEW).mkdir(parents=True, exist_ok=True)
        figure.savefig(Path(NEW) / f"{name}.png", dpi=100)
        baselines |= {name: grid, f"{name}.outline": np.array(outline_of(figure))}
    assert outline_of(figure) == str(baselines[f"{name}.outline"])
    found = difference(grid, baselines[name])
    if found > TOLERANCE:
        figure.savefig(tmp_path / f"{name}.png")
        Image.fromarray(baselines[name]).save(tmp_path / "before.png")
    assert found <= TOLERANCE, f"look at {tmp_path}: {name}.png and before.png"


def test_every_plot_of_the_namespace_has_a_baseline() -> None:
    public = {name for name in dir(cx.pl) if not name.startswith("_")}
    assert public - NOT_DRAWN <= FIGURES.keys()
    profilers = {name[5:] for name in dir(Profiler) if name.startswith("plot_")}
    assert {f"profiler_{name}" for name in profilers} <= FIGURES.keys()
    assert public >= NOT_DRAWN


@pytest.mark.skipif(bool(NEW), reason="the baselines are written at the end")
def test_baselines_are_small_and_there_is_one_for_each_figure(
    baselines: dict[str, np.ndarray],
) -> None:
    assert {name for name in baselines if not name.endswith(".outline")} == FIGURES.keys()
    assert BASELINES.stat().st_size < 100_000


def test_any_two_figures_differ_by_more_than_the_tolerance(
    baselines: dict[str, np.ndarray],
) -> None:
    pairs = combinations(FIGURES, 2)
    nearest = min(pairs, key=lambda pair: difference(*(baselines[name] for name in pair)))
    assert difference(*(baselines[name] for name in nearest)) > TOLERANCE, nearest


PLANTED = ("top_genes_bar", "qc_summary", "on_target", "effect_heatmap", "volcano", "umap")


@pytest.mark.parametrize("name", PLANTED)
def test_an_empty_panel_a_missing_axis_and_swapped_colors_are_seen(
    name: str, made: SimpleNamespace, baselines: dict[str, np.ndarray]
) -> None:
    figure = draw(name, made)
    expected = str(baselines[f"{name}.outline"])
    for ax in figure.axes:
        assert outline_of(figure) == expected
        ax.set_axis_off()
        assert outline_of(figure) != expected
        ax.set_axis_on()
    if swap(figure):
        assert outline_of(figure) != expected
        swap(figure)
        assert outline_of(figure) == expected
    else:
        assert name in {"qc_summary", "effect_heatmap", "umap"}, "neither up nor down is in it"
    for shape in [*figure.axes[0].collections, *figure.axes[0].patches, *figure.axes[0].images]:
        shape.remove()
    assert outline_of(figure) != expected
    if name != "on_target":  # its three points are too small for the grid
        assert difference(grid_of(figure), baselines[name]) > TOLERANCE


def swap(figure: Any) -> int:
    """Exchange the colors of up and down; return how many shapes had one of them."""
    other = {UP: DOWN, DOWN: UP}
    n = 0
    for ax in figure.axes:
        plain = [drawn for drawn in ax.collections if drawn.get_array() is None]
        for shape in [*plain, *ax.patches]:
            colors = np.atleast_2d(shape.get_facecolor())
            color = to_hex(colors[0]) if colors.size else ""
            if color in other:
                shape.set_facecolor(other[color])
                n += 1
    return n


def test_points_at_other_places_are_seen(
    made: SimpleNamespace, baselines: dict[str, np.ndarray]
) -> None:
    figure = draw("volcano", made)
    for points in figure.axes[0].collections:
        points.set_offsets(points.get_offsets() * [-1, 1])
    assert outline_of(figure) == str(baselines["volcano.outline"])
    assert difference(grid_of(figure), baselines["volcano"]) > TOLERANCE


def test_letters_of_another_font_are_not(
    made: SimpleNamespace, baselines: dict[str, np.ndarray]
) -> None:
    for name in ("top_genes_bar", "pca_variance_ratio", "guide_comparison"):
        with mpl.rc_context({"font.family": "DejaVu Serif"}):
            figure = draw(name, made)
            assert difference(grid_of(figure), baselines[name]) <= TOLERANCE
        assert outline_of(figure) == str(baselines[f"{name}.outline"])
