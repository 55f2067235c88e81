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
from crispyx.plotting.rankings import shown
from crispyx.plotting.style import (
    DOWN,
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

    Only obs is read, never the matrix.

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
    place = np.arange(1, n_drawn + 1)
    labels = counts.labels[:n_drawn]
    n_kept, n_cells = counts.n_kept[:n_drawn], counts.n_cells[:n_drawn]
    is_control = np.array([label == counts.control for label in labels])
    named = n_drawn <= MOST_NAMES
    # Edges of the same color: no seams between the bars where they touch.
    style: dict[str, Any] = {"width": 0.8 if named else 1.0, "linewidth": 0 if named else 0.4}
    kinds = [(~is_control, DOWN, "perturbations")]
    if counts.control is not None:
        kinds.append((is_control, UP, f"control: {plain_text(counts.control)}"))
    for chosen, color, name in kinds:
        if chosen.any():
            ax.bar(place[chosen], n_kept[chosen], color=color, edgecolor=color, label=name, **style)
    if masked:
        ax.bar(
            place,
            n_cells - n_kept,
            bottom=n_kept,
            color=NEUTRAL,
            edgecolor=NEUTRAL,
            label=f"removed: {int((n_cells - n_kept).sum()):,} cells",
            **style,
        )
    if named:
        ax.set_xticks(place, [plain_text(label) for label in labels], rotation=90, fontsize=8.5)
        ax.tick_params(axis="x", length=0)
    else:
        thousands(ax.xaxis)
    ax.set_xlim(0.3, n_drawn + 0.7)
    thousands(ax.yaxis)
    ax.set(title="Cells per perturbation", ylabel="cells", xlabel=_x_label(counts, n_drawn))
    legend_above(ax)


def _x_label(counts: _Counts, n_drawn: int) -> str:
    left_out = len(counts.labels) - n_drawn
    notes = [f"the {n_drawn:,} largest of {len(counts.labels):,} labels"] if left_out else []
    if counts.n_unlabelled:
        cells = "cell" if counts.n_unlabelled == 1 else "cells"
        notes.append(f"{counts.n_unlabelled:,} {cells} without a label")
    return "perturbation" + (f" ({'; '.join(notes)})" if notes else "")
