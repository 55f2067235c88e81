"""The mixture fitted to a guide, against the guide's counts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx.errors import InputError
from crispyx.guides.decide import call_scores
from crispyx.guides.fit_calls import with_calls
from crispyx.guides.models import BETA_MODELS, DEPTH_MODELS, resolve_model
from crispyx.guides.score import ScoreResult
from crispyx.plotting.gene_labels import short_name
from crispyx.plotting.guide_components import beta_densities, expected_cells, width
from crispyx.plotting.rankings import shown
from crispyx.plotting.style import (
    DOWN,
    INK,
    NEUTRAL,
    UP,
    finish,
    legend_above,
    panels,
    plain_powers,
    plain_text,
    styled,
    thousands,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Few enough that rounding to whole UMIs leaves the bins about equally wide on the log scale.
FEWEST_BINS, MOST_BINS = 8, 28
N_PROPORTIONS = 50
# A bar this many times higher than every other bar and the signal runs out of the picture.
CUT_AT = 3.0
MOST_CHARACTERS = 46


@dataclass(frozen=True)
class _Drawing:
    """What is drawn: bars of called and other values, and curves.

    Attributes
    ----------
    edges : numpy.ndarray (n_bins + 1,) float64
        Edges of the bars.
    widths : numpy.ndarray (n_bins,) float64
        Widths of the bars in the unit that heights are counted by.
    values : numpy.ndarray (n,) float64
        Counts or proportions.
    called : numpy.ndarray (n,) bool
        Which of them are calls.
    x : numpy.ndarray (n_points,) float64
        Places of the curves.
    curves : numpy.ndarray (n_components, n_points) float64
        Heights of the components, the signal last; no rows without a fit.
    """

    edges: np.ndarray
    widths: np.ndarray
    values: np.ndarray
    called: np.ndarray
    x: np.ndarray
    curves: np.ndarray


@styled
def guide_fit(
    scores: ScoreResult,
    guide: str | None = None,
    *,
    min_confidence: float | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    savepath: str | os.PathLike[str] | None = None,
) -> Axes | None:
    """Draw a guide's counts, the components fitted to them, and where calls begin.

    Bars hold the cells with a count of the guide, per doubling of the count, so that areas compare;
    called ones are colored. Curves are the cells that each component expects, broken where the fit
    is not relied on; of the depth models (``poisson``, ``neg_binomial``, ``binomial``), summed over
    the guide UMIs of all cells. These have no threshold to mark: it moves with a cell's guide UMIs.
    Nor have fits with batches, whose curves are those of the fit of all cells together.
    For ``beta2`` and ``beta3`` bars hold the largest proportion of each cell, on a log scale.

    Parameters
    ----------
    scores : ScoreResult
        What :func:`crispyx.guides.score` returned, of any mixture.
    guide : str or None
        Name of the guide. ``beta2`` and ``beta3`` have one fit for all guides: None draws all
        cells, a name those whose largest guide it is, with the fit scaled to their number.
    min_confidence : float in [0, 1], optional
        Posterior that a call must exceed; that of :func:`crispyx.guides.assign` unless given.
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
        ``scores`` are no scores; no such guide; ``min_confidence`` out of range.
    """
    if not isinstance(scores, ScoreResult):
        raise InputError(f"scores is a {type(scores).__name__}; give what cx.gd.score returned")
    is_beta = scores.model in BETA_MODELS
    if guide is None and not is_beta:
        raise InputError(f"guide is None; name one of {shown(scores.guides)}")
    if guide is not None and guide not in scores.fits.index:
        raise InputError(f"guide {guide!r} is not in the scores, which hold {shown(scores.guides)}")
    variant = scores.model_params.get("variant")
    model = resolve_model(scores.model, min_confidence=min_confidence, variant=variant)
    called = call_scores(scores, model.threshold)
    chosen = scores.guides[0] if guide is None else guide
    at = int(scores.fits.index.get_loc(chosen))
    here = np.flatnonzero(called.guides == at)
    fit = with_calls(scores.fits, called, model).loc[chosen].to_dict()
    axes = panels(ax, 1, (5.6, 4.2))
    if is_beta:
        drawing = _proportions(scores, fit, None if guide is None else at, called.assigned)
    else:
        drawing = _counts(scores, fit, here, called.assigned[here])
    _draw(axes[0], drawing, fit)
    _mark(axes[0], scores, fit)
    _name(axes[0], scores, guide, fit, len(here))
    drawn = finish(axes, show, savepath)
    return None if drawn is None else drawn[0]


def _counts(
    scores: ScoreResult, fit: Mapping[str, Any], here: np.ndarray, called: np.ndarray
) -> _Drawing:
    counts = scores._scored.counts[here].astype(np.float64)
    largest = counts.max(initial=9.0)
    n_bins = int(np.clip(2 * np.sqrt(len(counts)), FEWEST_BINS, MOST_BINS))
    edges = np.unique(np.round(np.geomspace(1.0, largest + 1.0, n_bins + 1))) - 0.5
    x = np.unique(np.round(np.geomspace(1.0, largest, 200)))
    curves = np.empty((0, len(x)))
    if np.isfinite(fit["weight"]):
        depth = scores._scored.depth
        is_kaichi = scores.model_params.get("variant") == "kaichi"
        if is_kaichi and scores.model in DEPTH_MODELS:
            # Fitted to the cells that have the guide, zeros left out.
            depth = depth[scores._scored.cells[here]]
        cells = expected_cells(scores.model, fit, x, depth, len(counts), raw=is_kaichi)
        curves = cells / width(x)
    return _Drawing(edges, np.diff(np.log2(edges)), counts, called, x, curves)


def _proportions(
    scores: ScoreResult, fit: Mapping[str, Any], guide: int | None, called: np.ndarray
) -> _Drawing:
    counts = scores._scored
    depth, cells = counts.depth, counts.cells
    largest = np.zeros(scores.n_cells, dtype=np.int64)
    np.maximum.at(largest, cells, counts.counts.astype(np.int64))
    chosen = counts.counts == largest[cells]
    if guide is not None:
        chosen &= counts.guides == guide
    # A cell whose largest count several guides share stands once.
    cell, first = np.unique(cells[chosen], return_index=True)
    values = largest[cell] / depth[cell]
    edges = np.linspace(0.0, 1.0, N_PROPORTIONS + 1)
    x = np.linspace(0.001, 0.999, 999)
    curves = np.empty((0, len(x)))
    if "weight_1" in fit and np.isfinite(fit["weight_1"]):
        curves = beta_densities(fit, x) * len(values) / N_PROPORTIONS
    widths = np.ones(N_PROPORTIONS)
    return _Drawing(edges, widths, values, called[np.flatnonzero(chosen)[first]], x, curves)


def _draw(ax: Axes, drawing: _Drawing, fit: Mapping[str, Any]) -> None:
    heights: list[np.ndarray] = []
    for chosen, color, name in (
        (drawing.called, DOWN, "called"),
        (~drawing.called, NEUTRAL, "not called"),
    ):
        n, _ = np.histogram(drawing.values[chosen], drawing.edges)
        label = f"{name}: {int(chosen.sum()):,} cells"
        below = heights[0] if heights else 0.0
        heights.append(n / drawing.widths)
        ax.stairs(
            heights[-1] + below,
            drawing.edges,
            baseline=below,
            fill=True,
            color=color,
            alpha=0.45,
            linewidth=0,
            label=label,
        )
    names = ["background"] * (len(drawing.curves) - 1) + ["signal"]
    for k, (curve, name) in enumerate(zip(drawing.curves, names, strict=False)):
        style: dict[str, Any] = {"color": DOWN if name == "signal" else UP, "linewidth": 1.8}
        if 0 < k < len(names) - 1:
            style["linestyle"] = (0, (1, 1))
            name = "middle"
        # Where the fit is not relied on, the curves are broken.
        if fit["fallback"]:
            style["linestyle"] = (0, (5, 2))
        ax.plot(drawing.x, curve, label=f"{name} {_percent(_share(fit, k))}", **style)
    _cut(ax, heights[0] + heights[1], drawing)


def _share(fit: Mapping[str, Any], component: int) -> float:
    if "weight_1" in fit:
        return float(fit[f"weight_{component + 1}"])
    return float(fit["weight"] if component else 1.0 - fit["weight"])


def _percent(share: float) -> str:
    return f"{100 * share:.{3 if share >= 0.99 else 2}g} %"


def _cut(ax: Axes, heights: np.ndarray, drawing: _Drawing) -> None:
    """Let one bar of very many cells run out of the picture, its number written beside it."""
    ax.set_ylim(bottom=0)
    if drawing.edges[0] == 0:
        # A beta density may be infinite at 1: bars decide.
        ax.set_ylim(top=1.5 * heights.max(initial=1.0))
        return
    signal = drawing.curves[-1].max(initial=0.0) if len(drawing.curves) else 0.0
    others = max(np.sort(heights)[-2], signal)
    highest = int(np.argmax(heights))
    if not 0 < CUT_AT * others < heights[highest]:
        return
    ax.set_ylim(0, 1.4 * others)
    n_cells = round(float(heights[highest] * drawing.widths[highest]))
    ax.annotate(
        f"↑ {n_cells:,} cells",
        xy=(drawing.edges[highest + 1], 1),
        xytext=(3, -2),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        color=INK,
        fontsize=8.5,
        va="top",
    )


def _mark(ax: Axes, scores: ScoreResult, fit: Mapping[str, Any]) -> None:
    threshold, is_beta = fit["threshold"], scores.model in BETA_MODELS
    several = scores.batch_fits is not None or scores.model_params.get("variant") == "kaichi"
    moves = (several or scores.model in DEPTH_MODELS) and not fit["fallback"]
    if moves or not np.isfinite(threshold):
        return
    label = f"called above {threshold:.2g}" if is_beta else f"called from {threshold:,.0f} UMIs"
    place = threshold if is_beta else threshold - 0.5
    ax.axvline(place, color=INK, linewidth=1.1, linestyle=(0, (4, 3)), label=label)


def _name(
    ax: Axes, scores: ScoreResult, guide: str | None, fit: Mapping[str, Any], n_nonzero: int
) -> None:
    title = "All guides" if guide is None else plain_text(short_name(guide, MOST_CHARACTERS))
    notes = [scores.model]
    if scores.model_params.get("variant") == "kaichi":
        notes[0] += " of kaichi"
    if scores.batch_fits is not None:
        notes.append("all batches together")
    if fit["status"] != "ok":
        notes.append(str(fit["status"]))
    if scores.model in BETA_MODELS:
        ax.set(xlabel="largest guide's share of the cell's guide UMIs", ylabel="cells")
        ax.set_xlim(0, 1)
        ax.set_yscale("log")
        ax.set_ylim(bottom=0.7)
        plain_powers(ax.yaxis)
    else:
        without = scores.n_cells - n_nonzero
        ax.set_xscale("log")
        plain_powers(ax.xaxis)
        thousands(ax.yaxis)
        note = f"UMIs of the guide (not drawn: {without:,} cells without one)"
        ax.set(xlabel=note, ylabel="cells per doubling of UMIs")
    ax.set_title(f"{title}\n{', '.join(notes)}")
    legend_above(ax, ncols=3)
