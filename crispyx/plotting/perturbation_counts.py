"""Cells per perturbation."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.annotations import as_labels
from crispyx._io.source import MatrixSource, open_source
from crispyx._jobs.labels import resolve_control_label
from crispyx._stats.qc import cells_per_label
from crispyx.data.arguments import mask_of, whole
from crispyx.errors import InputError
from crispyx.plotting.gene_labels import short_name
from crispyx.plotting.rankings import shown
from crispyx.plotting.style import (
    DOWN,
    INK,
    NEUTRAL,
    UP,
    finish,
    legend_above,
    panels,
    plain_text,
    styled,
    thousands,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# More names than this do not fit side by side.
MOST_NAMES = 60
MANY_BARS = 1000  # more are one shape
# A control this many times larger than every perturbation is cut off.
CUT_AT = 3


@dataclass(frozen=True)
class _Counts:
    """Cells of each label, largest first.

    Attributes
    ----------
    labels : list of str
        Labels.
    n_cells, n_kept : numpy.ndarray (n_labels,) int64
        Cells, and those among the mask.
    control : str or None
        Which label is the control.
    n_unlabelled : int
        Cells without a label.
    """

    labels: list[str]
    n_cells: np.ndarray
    n_kept: np.ndarray
    control: str | None
    n_unlabelled: int


@styled
def plot_qc_perturbation_counts(
    *,
    data: Any,
    perturbation_column: str,
    cell_mask: np.ndarray | None = None,
    top_n: int | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    savepath: str | os.PathLike[str] | None = None,
    control_label: str | None = None,
) -> Axes | None:
    """Draw how many cells each perturbation has, the largest first, the control in its own color.

    Only obs is read, never the matrix. A control of far more cells than any perturbation runs out
    of the picture, with its number beside it; more than 60 bars go without names.

    Parameters
    ----------
    data : str, pathlib.Path, crispyx.AnnData or anndata.AnnData
        The screen, on disk or in memory.
    perturbation_column : str
        obs column of labels; cells without one are counted below the axis.
    cell_mask : numpy.ndarray (n_cells,) bool or None
        Cells that count, such as ``cell_mask`` of a quality control; the cells it removes are drawn
        in gray on top.
    top_n : int or None
        Draw only this many of the largest; None draws all.
    ax : matplotlib.axes.Axes or None
        Draw here instead of into a figure of its own.
    show : bool or None
        True shows the figure and returns None.
    savepath : str, pathlib.Path or None
        Save the figure here; PNG unless the suffix says otherwise. The folder is created.
    control_label : str or None
        Label of the control; None highlights the one that reads like a control, if there is one.

    Returns
    -------
    matplotlib.axes.Axes or None

    Raises
    ------
    InputError, MissingColumnError
        No such column; no label; the control is absent; a mask of another length; ``top_n`` below
        1.
    """
    limit = None if top_n is None else whole("top_n", top_n, 1)
    with open_source(data) as source:
        counts = _count(source, perturbation_column, cell_mask, control_label)
    n_drawn = len(counts.labels[:limit])
    width = 6.4 if n_drawn > MOST_NAMES else max(6.4, 1.2 + 0.2 * n_drawn)
    axes = panels(ax, 1, (width, 4.4))
    _draw(axes[0], counts, n_drawn, masked=cell_mask is not None)
    drawn = finish(axes, show, savepath)
    return None if drawn is None else drawn[0]


def _count(
    source: MatrixSource, column: str, cell_mask: np.ndarray | None, control_label: str | None
) -> _Counts:
    labels = as_labels(source.obs.column(column))
    where = f"obs column {column!r} of {source.path or source.where}"
    every = np.ones(len(labels), dtype=bool)
    mask = every
    if cell_mask is not None:
        mask = mask_of("cell_mask", cell_mask, len(labels), "cells", source.where)
    n_cells, n_kept = cells_per_label(labels, every), cells_per_label(labels, mask)
    if not n_cells:
        raise InputError(f"{where} holds no label; every cell's entry is missing")
    if control_label is not None and str(control_label) not in n_cells:
        raise InputError(
            f"control label {control_label!r} is not in {where}, which holds {shown(n_cells)}"
        )
    order = sorted(n_cells, key=lambda label: (-n_kept[label], -n_cells[label]))
    return _Counts(
        labels=order,
        n_cells=np.array([n_cells[label] for label in order]),
        n_kept=np.array([n_kept[label] for label in order]),
        control=_control(order, control_label),
        n_unlabelled=len(labels) - sum(n_cells.values()),
    )


def _control(labels: list[str], control_label: str | None) -> str | None:
    try:
        return resolve_control_label(labels, control_label, verbose=False)
    except InputError:  # none or several read like a control: none is highlighted
        return None


def _draw(ax: Axes, counts: _Counts, n_drawn: int, masked: bool) -> None:
    labels = counts.labels[:n_drawn]
    n_kept, n_cells = counts.n_kept[:n_drawn], counts.n_cells[:n_drawn]
    is_control = np.array([label == counts.control for label in labels])
    place, width = _places(n_drawn, is_control)
    # Edges of the same color: no seams between the bars where they touch.
    touching: dict[str, Any] = {"linewidth": 0 if n_drawn <= MOST_NAMES else 0.4}
    kinds = [(~is_control, DOWN, "perturbations")]
    if is_control.any():
        n_control = int(n_kept[is_control][0])
        name = f"control: {plain_text(short_name(labels[int(np.argmax(is_control))]))}"
        kinds.append((is_control, UP, f"{name} ({n_control:,} cells)"))
    for chosen, color, name in kinds:
        if chosen.any():
            style = {"color": color, "edgecolor": color, "label": name, **touching}
            _draw_bars(ax, place[chosen], n_kept[chosen], width[chosen], 0, style)
    if masked:
        name = f"removed: {int((n_cells - n_kept).sum()):,} cells"
        style = {"color": NEUTRAL, "edgecolor": NEUTRAL, "label": name, **touching}
        for chosen in (is_control, ~is_control):
            if chosen.any():
                ends = (n_cells - n_kept)[chosen], width[chosen], n_kept[chosen]
                _draw_bars(ax, place[chosen], *ends, style)
                style.pop("label", None)  # once
    thousands(ax.xaxis)
    if n_drawn <= MOST_NAMES:
        texts = [plain_text(short_name(label)) for label in labels]
        ax.set_xticks(place, texts, rotation=90, fontsize=8.5)
        ax.tick_params(axis="x", length=0)
    ax.set_xlim((place - width / 2).min() - 0.3, (place + width / 2).max() + 0.3)
    thousands(ax.yaxis)
    ax.set(title="Cells per perturbation", ylabel="cells", xlabel=_x_label(counts, n_drawn))
    legend_above(ax)
    _cut_control(ax, n_cells, is_control, (place + width / 2)[is_control])


def _draw_bars(
    ax: Axes,
    place: np.ndarray,
    height: np.ndarray,
    width: np.ndarray,
    bottom: Any,
    style: dict[str, Any],
) -> None:
    """Draw bars that touch; very many as one shape."""
    if len(place) <= MANY_BARS:
        ax.bar(place, height, width, bottom, **style)
    else:
        edges = np.append(place - width / 2, place[-1] + width[-1] / 2)
        ax.stairs(height + bottom, edges, baseline=bottom, fill=True, **style)


def _places(n_drawn: int, is_control: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return middles and widths of the bars; among many, the control stands first, wide enough."""
    if n_drawn <= MOST_NAMES:
        return np.arange(1.0, n_drawn + 1), np.full(n_drawn, 0.8)
    width = np.where(is_control, max(1.0, 0.012 * n_drawn), 1.0)
    place = np.cumsum(~is_control).astype(float)
    place[is_control] = -0.8 * width[is_control]
    return place, width


def _cut_control(ax: Axes, n_cells: np.ndarray, is_control: np.ndarray, right: np.ndarray) -> None:
    """Let a control of very many cells run out of the picture, its number written beside it."""
    highest = n_cells[~is_control].max(initial=0)
    if not is_control.any() or not 0 < CUT_AT * highest < n_cells[is_control][0]:
        return
    ax.set_ylim(0, 1.25 * highest)
    ax.annotate(
        f"↑ {int(n_cells[is_control][0]):,}",
        xy=(right[0], 1),
        xytext=(3, -2),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        color=INK,
        fontsize=8.5,
        va="top",
    )


def _x_label(counts: _Counts, n_drawn: int) -> str:
    left_out = len(counts.labels) - n_drawn
    notes = [f"the {n_drawn:,} largest of {len(counts.labels):,} labels"] if left_out else []
    if counts.n_unlabelled:
        cells = "cell" if counts.n_unlabelled == 1 else "cells"
        notes.append(f"{counts.n_unlabelled:,} {cells} without a label")
    return "perturbation" + (f" ({'; '.join(notes)})" if notes else "")
