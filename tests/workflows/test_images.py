"""Every figure looks as it did when somebody last looked at it.

Figures are compared as a coarse grid of mean colors: what moves, vanishes or changes color is seen,
what a release of matplotlib does to the edges of letters is not. ``CRISPYX_NEW_BASELINES=1`` draws
the baselines anew; look at them before they are committed.
"""

from __future__ import annotations

import os
import warnings
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

mpl.use("Agg")

import matplotlib.pyplot as plt
from PIL import Image

import crispyx as cx

BASELINES = Path(__file__).parent / "images"
DPI = 50
GRID = (40, 30)  # columns, rows
# Root of the mean squared difference of grid colors, of 255. Another font moves it by about 3.
TOLERANCE = 6.0
LABELS = ["gene0", "gene1", "gene2+gene3", "weak", "control"]


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
    "energy_distance_many": lambda m: cx.pl.energy_distance(many_energies()),
    "guide_fit": lambda m: cx.pl.guide_fit(cx.gd.score(m.guides), "gene1"),
    "guide_summary": lambda m: cx.pl.guide_summary(cx.gd.assign(m.guides)),
    "guide_comparison": lambda m: cx.pl.guide_comparison(quiet_comparison(m)),
}


def drawn(what: Any) -> bytes:
    """Return the picture of whatever a plotting function returned."""
    if isinstance(what, dict):
        what = list(what.values())
    first = what if hasattr(what, "figure") else np.ravel(np.asarray(what, dtype=object))[0]
    content = BytesIO()
    first.figure.savefig(content, format="png", dpi=DPI, bbox_inches=None)
    return content.getvalue()


def grid_of(picture: Image.Image) -> np.ndarray:
    """Return mean colors (rows, columns, 3)."""
    return np.asarray(picture.convert("RGB").resize(GRID, Image.Resampling.BOX), dtype=float)


def difference(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.sqrt(((first - second) ** 2).mean()))


@pytest.mark.parametrize("name", FIGURES)
def test_figure_looks_as_before(name: str, made: SimpleNamespace, tmp_path: Path) -> None:
    path = BASELINES / f"{name}.png"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # guides with too few cells, colors of other packages
        picture = Image.open(BytesIO(drawn(FIGURES[name](made))))
    if os.environ.get("CRISPYX_NEW_BASELINES"):
        BASELINES.mkdir(exist_ok=True)
        small = picture.convert("RGB").quantize(64, dither=Image.Dither.NONE)
        small.save(path, optimize=True)
    baseline = Image.open(path)
    # Some layouts follow the width of a text by a pixel or two.
    np.testing.assert_allclose(picture.size, baseline.size, atol=6)
    found = difference(grid_of(picture), grid_of(baseline))
    if found > TOLERANCE:
        picture.save(tmp_path / f"{name}.png")
    assert found <= TOLERANCE, f"compare {tmp_path / f'{name}.png'} with {path}"


def test_baselines_are_small_and_there_is_one_for_each_figure() -> None:
    paths = sorted(BASELINES.glob("*.png"))
    assert {path.stem for path in paths} == set(FIGURES)
    assert max(path.stat().st_size for path in paths) < 30_000


def test_any_two_figures_differ_by_more_than_the_tolerance() -> None:
    grids = {path.stem: grid_of(Image.open(path)) for path in BASELINES.glob("*.png")}
    distances = {
        pair: difference(grids[pair[0]], grids[pair[1]]) for pair in combinations(grids, 2)
    }
    assert min(distances.values()) > TOLERANCE, min(distances, key=distances.get)  # type: ignore[arg-type]


def test_a_figure_without_its_points_does_not_pass(made: SimpleNamespace) -> None:
    ax = cx.pl.volcano(data=made.result, group="gene0")
    whole = grid_of(Image.open(BytesIO(drawn(ax))))
    for collection in list(ax.collections):
        collection.remove()
    assert difference(whole, grid_of(Image.open(BytesIO(drawn(ax))))) > TOLERANCE / 3
