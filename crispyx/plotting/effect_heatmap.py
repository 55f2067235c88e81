"""How alike the effects of perturbations are: a clustered heatmap of correlations."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx.data.arguments import whole
from crispyx.errors import InputError
from crispyx.plotting.gene_labels import short_name
from crispyx.plotting.rankings import KEY, LFC, P_ADJ, SCORES, Ranking, find_ranking
from crispyx.plotting.style import (
    DOWN,
    LINE,
    UP,
    finish,
    panels,
    plain_text,
    styled,
    subtitle,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

VALUES = (SCORES, LFC)
MOST_NAMES = 60
MOST_BRANCHES = 500  # of a tree whose lines can be told apart
MAX_LFC = 10.0  # beyond, a fold change tells nothing but the pseudocount


@dataclass(frozen=True)
class _Effects:
    """Profiles that are compared.

    Attributes
    ----------
    groups : list of str
        Perturbations.
    profiles : numpy.ndarray (n_groups, n_genes) float64
        Their effects on the chosen genes, 0 where untested.
    n_groups, n_responding : int
        Perturbations of the result, and those with enough changed genes.
    """

    groups: list[str]
    profiles: np.ndarray
    n_groups: int
    n_responding: int


@styled
def plot_effect_heatmap(
    data: Any,
    *,
    value: str = SCORES,
    key: str = KEY,
    p_cut: float = 0.05,
    min_genes: int = 5,
    max_perturbations: int = 2000,
    n_genes: int = 2000,
    ax: Axes | None = None,
    show: bool | None = None,
    savepath: str | os.PathLike[str] | None = None,
) -> Axes | None:
    """Draw how alike the effects of every two perturbations are, similar ones side by side.

    Perturbations are compared by Pearson's correlation of their effects over the genes that most
    perturbations change, and ordered by average linkage of one minus it (SciPy). Weak perturbations
    correlate by noise, so that only those which change some genes are drawn. A result file is read
    row by row, twice; the matrix of counts never is.

    Parameters
    ----------
    data : RankGenesGroupsResult, str, pathlib.Path, crispyx.AnnData or anndata.AnnData
        A result, its file, or data with scanpy's ``uns[key]``.
    value : {"scores", "logfoldchanges"}
        Effect: the test statistic, or the log2 fold change, cut at 10.
    key : str
        Key of scanpy's results in uns.
    p_cut : float
        A gene is changed at or below this adjusted p.
    min_genes : int
        Draw perturbations that change at least this many genes; 0 draws all.
    max_perturbations : int
        Draw at most so many, those that change most genes.
    n_genes : int
        Compare over at most so many genes, those that most perturbations change.
    ax : matplotlib.axes.Axes or None
        Draw here instead of into a figure of its own.
    show : bool or None
        True shows the figure and returns None.
    savepath : str, pathlib.Path or None
        Save the figure here; PNG unless the suffix says otherwise. The folder is created.

    Returns
    -------
    matplotlib.axes.Axes or None

    Raises
    ------
    InputError
        There is no result; fewer than two perturbations change enough genes; a number out of range.
    """
    if value not in VALUES:
        raise InputError(f"value is {value!r}; choose one of {VALUES}")
    if not 0 < p_cut <= 1:
        raise InputError(f"p_cut is {p_cut!r}; give a number above 0, up to 1")
    limits = (
        whole("min_genes", min_genes, 0),
        whole("max_perturbations", max_perturbations, 2),
        whole("n_genes", n_genes, 2),
    )
    effects = _effects(find_ranking(data, key), value, p_cut, limits)
    correlation = _correlation(effects.profiles)
    order, tree = _clustered(correlation)
    side = 6.4 if len(order) > MOST_NAMES else 3.2 + 0.16 * len(order)
    axes = panels(ax, 1, (side + 1.0, side + 0.6))
    names = [effects.groups[k] for k in order]
    _draw(axes[0], correlation[np.ix_(order, order)], names, tree)
    subtitle(axes[0], "Effects of perturbations, correlated", _notes(effects, value, limits[0]))
    if tree is not None:  # stands between the axes and the title
        _raise_title(axes[0])
    drawn = finish(axes, show, savepath)
    return None if drawn is None else drawn[0]


def _effects(ranking: Ranking, value: str, p_cut: float, limits: tuple[int, int, int]) -> _Effects:
    min_genes, max_perturbations, n_genes = limits
    genes = ranking.gene_names()
    n_changed = np.zeros(len(ranking.groups), dtype=np.int64)
    n_changing = np.zeros(len(genes), dtype=np.int64)
    for k, (p,) in enumerate(ranking.profiles([P_ADJ])):
        changed = p <= p_cut
        n_changed[k] = np.count_nonzero(changed)
        n_changing += changed
    responding = np.flatnonzero(n_changed >= min_genes)
    if len(responding) < 2:
        raise InputError(
            f"{len(responding)} of {len(ranking.groups)} perturbations of {ranking.where} change "
            f"{min_genes} genes or more at adjusted p <= {p_cut:g}; give a smaller min_genes="
        )
    strongest = responding[np.argsort(-n_changed[responding], kind="stable")][:max_perturbations]
    drawn = np.sort(strongest)
    # Among genes changed alike often, names decide: the order of genes differs between places.
    columns = np.lexsort((genes.astype(str), -n_changing))[:n_genes]
    row_of = {int(k): row for row, k in enumerate(drawn)}
    profiles = np.empty((len(drawn), len(columns)))
    for k, (effect,) in enumerate(ranking.profiles([value])):
        if k in row_of:
            profiles[row_of[k]] = effect[columns]
    profiles[~np.isfinite(profiles)] = 0
    if value == LFC:
        np.clip(profiles, -MAX_LFC, MAX_LFC, out=profiles)
    names = [ranking.groups[k] for k in drawn]
    return _Effects(names, profiles, len(ranking.groups), len(responding))


def _correlation(profiles: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of every two rows; 0 with a row that does not vary."""
    centered = profiles - profiles.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centered, axis=1, keepdims=True)
    unit = np.divide(centered, length, out=np.zeros_like(centered), where=length > 0)
    correlation = np.clip(unit @ unit.T, -1, 1)
    np.fill_diagonal(correlation, 1)
    return correlation


def _clustered(correlation: np.ndarray) -> tuple[np.ndarray, dict[str, Any] | None]:
    """Return the order of the rows, and the tree where its lines can be told apart."""
    from scipy.cluster.hierarchy import dendrogram, leaves_list, linkage
    from scipy.spatial.distance import squareform

    distance = squareform(1 - correlation, checks=False)
    few = len(correlation) <= MOST_BRANCHES
    merged = linkage(distance, "average", optimal_ordering=few)
    return leaves_list(merged), dendrogram(merged, no_plot=True) if few else None


def _draw(ax: Axes, table: np.ndarray, names: list[str], tree: dict[str, Any] | None) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    colors = LinearSegmentedColormap.from_list("effects", [DOWN, "white", UP])
    image = ax.imshow(
        table,
        cmap=colors,
        vmin=-1,
        vmax=1,
        aspect="auto",
        # Many perturbations share a pixel: it shows their mean.
        interpolation="antialiased" if len(names) > MOST_NAMES else "nearest",
    )
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.6, label="correlation of effects")
    bar.outline.set_visible(False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    if len(names) > MOST_NAMES:
        ax.set(xticks=[], yticks=[], xlabel=f"{len(names):,} perturbations")
    else:
        texts = [plain_text(short_name(name)) for name in names]
        ax.set_xticks(range(len(texts)), texts, rotation=90, fontsize=8)
        ax.set_yticks(range(len(texts)), texts, fontsize=8)
    if tree is not None:
        _draw_tree(ax, tree, len(names))


def _draw_tree(ax: Axes, tree: dict[str, Any], n: int) -> None:
    from matplotlib.collections import LineCollection

    above = ax.inset_axes((0.0, 1.01, 1.0, 0.12))
    # SciPy puts the leaves at 5, 15, 25, ...
    lines = [
        np.column_stack([np.array(x) / 10 - 0.5, y])
        for x, y in zip(tree["icoord"], tree["dcoord"], strict=True)
    ]
    width = 0.9 if n <= MOST_NAMES else 0.4
    above.add_collection(LineCollection(lines, colors=LINE, linewidths=width))
    above.set_xlim(-0.5, n - 0.5)
    above.set_ylim(0, 1.03 * max(1e-9, *(max(y) for y in tree["dcoord"])))
    above.axis("off")


def _raise_title(ax: Axes) -> None:
    """Move the title and its lines above the tree."""
    from matplotlib.text import Annotation

    height = 0.13
    for child in ax.get_children():
        if isinstance(child, Annotation):
            child.xy = (0, 1 + height)
    ax.set_title(ax.get_title("left"), y=1 + height, pad=20)


def _notes(effects: _Effects, value: str, min_genes: int) -> list[str]:
    n_drawn, n_genes = effects.profiles.shape
    kind = "test statistics" if value == SCORES else "log2 fold changes"
    least = f" that change {min_genes:,} genes or more" if min_genes else ""
    shown = f"{effects.n_responding:,} of {effects.n_groups:,} perturbations{least}"
    if n_drawn < effects.n_responding:
        shown = f"the {n_drawn:,} strongest of {shown}"
    return [f"{shown}; {kind} of {n_genes:,} genes"]
