"""Genes as points: what volcano and MA plot share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from crispyx.errors import InputError
from crispyx.plotting.gene_labels import label_points
from crispyx.plotting.group_table import GroupTable
from crispyx.plotting.style import DOWN, NEUTRAL, UP, settle_layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A gene seen in one arm only has a fold change that tells nothing but the pseudocount.
MAX_LFC = 10.0
# Beyond this a vector format would store each point; they become a picture within it.
MANY_POINTS = 5000


@dataclass(frozen=True)
class Cuts:
    """Where a gene counts as changed: p at or below, |log2FC| at or beyond.

    Raises
    ------
    InputError
        ``p_cut`` is not above 0, or ``lfc_cut`` is below 0.
    """

    p_cut: float
    lfc_cut: float

    def __post_init__(self) -> None:
        if not (self.p_cut > 0 and self.lfc_cut >= 0):
            raise InputError(
                f"p_cut is {self.p_cut!r} and lfc_cut {self.lfc_cut!r}; give p_cut > 0, "
                "lfc_cut >= 0"
            )


@dataclass(frozen=True)
class GenePoints:
    """The genes that are drawn.

    Attributes
    ----------
    names : numpy.ndarray (n_drawn,) str or None
        Gene names.
    lfc, p : numpy.ndarray (n_drawn,) float64
        log2 fold changes and p-values, finite.
    up, down : numpy.ndarray (n_drawn,) bool
        Genes beyond the cuts.
    limit : float
        Largest fold change in the picture; larger ones stand at the edge.
    """

    names: np.ndarray | None
    lfc: np.ndarray
    p: np.ndarray
    up: np.ndarray
    down: np.ndarray
    limit: float

    @property
    def clipped_lfc(self) -> np.ndarray:
        """Fold changes as drawn (n_drawn,)."""
        return np.clip(self.lfc, -self.limit, self.limit)

    @property
    def n_beyond(self) -> int:
        """Genes at the edge."""
        return int(np.count_nonzero(np.abs(self.lfc) > self.limit))


def tested_genes(table: GroupTable) -> np.ndarray:
    """Return the genes with a fold change and a p-value (n_genes,) bool."""
    return np.isfinite(table.logfoldchanges) & np.isfinite(table.pvalues)


def gene_points(table: GroupTable, drawn: np.ndarray, cuts: Cuts) -> GenePoints:
    """Return the genes in ``drawn`` (n_genes,) bool, sorted into up, down and neither."""
    lfc, p = table.logfoldchanges[drawn], table.pvalues[drawn]
    regular = np.abs(lfc[np.abs(lfc) <= MAX_LFC])
    significant = (p <= cuts.p_cut) & (np.abs(lfc) >= cuts.lfc_cut)
    return GenePoints(
        names=None if table.genes is None else table.genes[drawn],
        lfc=lfc,
        p=p,
        up=significant & (lfc > 0),
        down=significant & (lfc < 0),
        limit=float(max(regular.max(initial=0.0), 1.5 * cuts.lfc_cut, 0.5)),
    )


def scatter_genes(
    ax: Axes, points: GenePoints, x: np.ndarray, y: np.ndarray, lfc_axis: Literal["x", "y"]
) -> None:
    """Draw the genes at x, y (n_drawn,); a triangle at the edge points to where a gene belongs."""
    markers = (">", "<") if lfc_axis == "x" else ("^", "v")
    beyond = np.abs(points.lfc) > points.limit
    changed = points.up | points.down
    for chosen, color, size in (
        (~changed, NEUTRAL, 14),
        (points.down, DOWN, 22),
        (points.up, UP, 22),
    ):
        style: dict[str, Any] = {
            "color": color,
            "linewidths": 0,
            "rasterized": bool(chosen.sum() > MANY_POINTS),
        }
        inner, edge = chosen & ~beyond, chosen & beyond
        ax.scatter(x[inner], y[inner], s=size, alpha=0.85, **style)
        for side, marker in zip(
            (edge & (points.lfc > 0), edge & (points.lfc < 0)), markers, strict=True
        ):
            if side.any():
                ax.scatter(x[side], y[side], s=size + 8, marker=marker, clip_on=False, **style)


def label_genes(ax: Axes, points: GenePoints, x: np.ndarray, y: np.ndarray, n_labels: int) -> None:
    """Name at most ``n_labels`` of the changed genes, the most significant first."""
    if points.names is None or n_labels < 1:
        return
    # Names are placed in pixels: the layout has to be settled first.
    settle_layout(ax)
    first = np.lexsort((-np.abs(points.lfc), points.p))
    first = first[(points.up | points.down)[first]][:n_labels]
    label_points(ax, x[first], y[first], points.names[first], np.column_stack([x, y]))


def summary_lines(points: GenePoints, cuts: Cuts, adjusted: bool, notes: list[str]) -> list[str]:
    """Return what stands below the title: how many genes changed, and what is not to be seen."""
    kind = "adj p" if adjusted else "p"
    limits = f"{kind} ≤ {cuts.p_cut:g}"
    limits += f" and |log2FC| ≥ {cuts.lfc_cut:g}" if cuts.lfc_cut else ""
    lines = [f"{int(points.up.sum()):,} up, {int(points.down.sum()):,} down at {limits}"]
    if points.n_beyond:
        n = count_of_genes(points.n_beyond)
        notes = [*notes, f"{n} with |log2FC| > {MAX_LFC:g} at the edge"]
    return lines + (["; ".join(notes)] if notes else [])


def count_of_genes(n: int) -> str:
    """Return "1 gene", "2,000 genes"."""
    return f"{n:,} {'gene' if n == 1 else 'genes'}"
