"""Guide calls at a glance."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._run.quiet import leaving_out
from crispyx.errors import CrispyxWarning, InputError, InputTypeError
from crispyx.guides import moi
from crispyx.guides.models import HISTOGRAM_MODELS
from crispyx.plotting.rankings import shown
from crispyx.plotting.style import (
    DOWN,
    INK,
    NEUTRAL,
    UP,
    finish,
    legend_above,
    mark_threshold,
    panels,
    plain_powers,
    styled,
    thousands,
)

if TYPE_CHECKING:
    import anndata
    import pandas as pd
    from matplotlib.axes import Axes

# Few enough that rounding to whole UMIs leaves the bins about equally wide on the log scale.
N_BINS = 28
# Bars of guides per cell: the last one holds all cells with more.
FEWEST_BARS, MOST_BARS = 4, 20
RARE = 0.995
# More bars than this go without their numbers.
MOST_NUMBERS = 6
MOST_TICKS = 12  # more numbers do not fit below the bars
MANY_GUIDES = 300


@styled
def guide_summary(
    calls: anndata.AnnData,
    *,
    control_guides: Iterable[str] = (),
    capture: float | None = None,
    ax: Any = None,
    show: bool | None = None,
    savepath: str | os.PathLike[str] | None = None,
) -> np.ndarray | None:
    """Draw the UMIs behind the calls, guides per cell, and the calls of every guide.

    First panel: UMIs of every call. Second: cells by the number of guides (constructs, where they
    are known) called in them, and what the multiplicity of infection (:func:`crispyx.guides.moi`)
    expects, where one explains them.
    Third: cells of every guide, largest first. Fourth: of the cells with a UMI of a guide, the
    fraction called; a guide far below the others has much background, or a fit to look at
    (:func:`guide_fit`).

    Parameters
    ----------
    calls : anndata.AnnData
        What :func:`crispyx.guides.assign` returned, cells x guides.
    control_guides : iterable of str
        Names of the control guides, drawn in a color of their own in the third panel.
    capture : float in (0, 1], optional
        Known probability to see a guide that is in the cell, for :func:`crispyx.guides.moi`.
    ax : sequence of four matplotlib.axes.Axes, or None
        Draw here instead of into a figure of its own.
    show : bool or None
        True shows the figure and returns None.
    savepath : str, pathlib.Path or None
        Save the figure here; PNG unless the suffix says otherwise. The folder is created.

    Returns
    -------
    numpy.ndarray (4,) of matplotlib.axes.Axes, or None

    Raises
    ------
    InputError, InputTypeError
        ``calls`` are no calls; a control guide that is not among the guides; another number of
        axes.
    """
    assigned = _assigned(calls)
    controls = _controls(calls, control_guides)
    axes = panels(ax, 4, (10.0, 8.4), n_rows=2)
    counts = calls.X.tocsr()
    umis = counts.multiply(assigned).tocsr().data.astype(np.float64)
    _umis(axes[0], umis, _median_threshold(calls))
    _guides_per_cell(axes[1], calls, capture)
    n_called = np.bincount(assigned.indices, minlength=calls.n_vars)
    _cells_per_guide(axes[2], n_called, controls)
    n_seen = np.bincount(counts.indices[counts.data > 0], minlength=calls.n_vars)
    _called_fraction(axes[3], n_called, n_seen, calls.var)
    return finish(axes, show, savepath)


def _assigned(calls: Any) -> Any:
    if "assigned" not in getattr(calls, "layers", {}):
        raise InputTypeError(
            f"calls is a {type(calls).__name__} without layer 'assigned'; give what cx.gd.assign "
            "returned"
        )
    assigned = calls.layers["assigned"].tocsr()
    assigned.eliminate_zeros()
    return assigned


def _controls(calls: anndata.AnnData, control_guides: Iterable[str]) -> np.ndarray:
    names = {str(guide) for guide in control_guides}
    unknown = sorted(names - set(calls.var_names))
    if unknown:
        raise InputError(
            f"control_guides= names guides that the calls do not have: {shown(unknown)}"
        )
    is_control: np.ndarray = calls.var_names.isin(list(names))
    return is_control


def _median_threshold(calls: anndata.AnnData) -> tuple[float, str] | None:
    """Return the count that calls begin at, and how to call it; None when it is no count."""
    described = calls.uns.get("crispyx_guides", {})
    parameters = described.get("model_params", {})
    if "umi_threshold" in parameters:
        least = max(1, int(parameters["umi_threshold"]))
        return least, f"from {least:,} UMIs"
    if str(described.get("model")) not in HISTOGRAM_MODELS or "threshold" not in calls.var:
        return None
    thresholds = calls.var["threshold"].to_numpy(dtype=np.float64)
    if not np.isfinite(thresholds).any():
        return None
    middle = float(np.nanmedian(thresholds))
    return middle, f"from {middle:,.0f} UMIs (median guide)"


def _umis(ax: Axes, umis: np.ndarray, threshold: tuple[float, str] | None) -> None:
    low, high = umis.min(initial=1e9), umis.max(initial=10.0)
    low = min(low, high)
    edges = np.unique(np.round(np.geomspace(low, high + 1, N_BINS + 1)) - 0.5)
    n, _ = np.histogram(umis, edges)
    ax.stairs(
        n / np.diff(np.log2(edges)),
        edges,
        fill=True,
        color=DOWN,
        label=f"{len(umis):,} calls",
    )
    ax.set_xscale("log")
    if threshold is not None:
        mark_threshold(ax, threshold[0], threshold[1])
    ax.set(
        title="UMIs of the called guides",
        xlabel="UMIs of the guide in the cell",
        ylabel="calls per doubling of UMIs",
    )
    legend_above(ax, ncols=2)
    plain_powers(ax.xaxis)
    thousands(ax.yaxis)


def _guides_per_cell(ax: Axes, calls: anndata.AnnData, capture: float | None) -> None:
    what = "constructs" if "guide_class" in calls.obs else "guides"
    n_cells, expected, label = _multiplicity(calls, capture)
    # Rare numbers share the last bar.
    rare = np.cumsum(n_cells) > RARE * n_cells.sum()
    last = min(max(int(np.argmax(rare)) + 1, FEWEST_BARS), MOST_BARS)
    largest = len(n_cells) - 1
    n_cells, expected = (_gathered(values, last) for values in (n_cells, expected))
    colors = [NEUTRAL, DOWN] + [UP] * (last - 1)
    names = ["none", "one", "several"] + ["_"] * (last - 2)
    ax.bar(range(last + 1), n_cells, color=colors, width=0.8, label=names)
    if label:
        style: dict[str, Any] = {"marker": "_", "markersize": 14, "markeredgewidth": 1.6}
        ax.plot(range(last + 1), expected, color=INK, linestyle="none", label=label, **style)
    heights = np.maximum(n_cells, expected)
    if last < MOST_NUMBERS:
        for place, (count, height) in enumerate(zip(n_cells, heights, strict=True)):
            share = 100 * count / max(1, n_cells.sum())
            _number(ax, place, height, f"{count:,.0f}\n{share:.2g} %")
    note = "" if label or not n_cells[1:].any() else " (no MOI explains these numbers)"
    more = f"{last}+" if largest > last else f"{last}"
    step = 1 if last <= MOST_TICKS else 5
    texts = [str(k) if k % step == 0 else "" for k in range(last)]
    ax.set_xticks(range(last + 1), [*texts, more])
    ax.set_ylim(0, 1.14 * max(1.0, heights.max()))
    ax.set(
        title=f"{what.capitalize()} per cell",
        xlabel=f"{what} called in the cell{note}",
        ylabel="cells",
    )
    legend_above(ax)
    thousands(ax.yaxis)


def _multiplicity(
    calls: anndata.AnnData, capture: float | None
) -> tuple[np.ndarray, np.ndarray, str]:
    """Return cells by number of guides, what the estimate expects, and how to call it."""
    if not calls.layers["assigned"].sum():
        return np.array([float(calls.n_obs)]), np.zeros(1), ""
    with leaving_out(CrispyxWarning):  # said by the missing marks
        estimate = moi(calls, capture=capture)
    n_cells = estimate.counts.to_numpy(dtype=np.float64)
    expected = estimate.expected.to_numpy(dtype=np.float64)
    if not np.isfinite(expected).all():
        return n_cells, np.zeros(len(n_cells)), ""
    label = f"expected at MOI {estimate.moi:.2g}"
    if np.isfinite(estimate.standard_error):
        label = f"expected at MOI {estimate.moi:.2f} ± {estimate.standard_error:.1g}"
    return n_cells, expected, label


def _gathered(values: np.ndarray, last: int) -> np.ndarray:
    """Return the first values and, in the place ``last``, the sum of the others."""
    out = np.zeros(last + 1)
    out[: min(len(values), last)] = values[:last]
    out[last] += values[last:].sum()
    return out


def _number(ax: Axes, place: float, height: float, text: str) -> None:
    ax.annotate(
        text,
        xy=(place, height),
        xytext=(0, 4),
        textcoords="offset points",
        color=INK,
        fontsize=8.5,
        ha="center",
        va="bottom",
    )


def _cells_per_guide(ax: Axes, cells: np.ndarray, is_control: np.ndarray) -> None:
    drawn = 0
    others = "targeting" if is_control.any() else "all"
    for chosen, color, name in ((~is_control, DOWN, others), (is_control, UP, "control")):
        heights = np.sort(cells[chosen])[::-1]
        if len(heights):
            rank = np.arange(drawn, drawn + len(heights) + 1) + 0.5
            label = f"{name}: {len(heights):,} guide{'s' if len(heights) > 1 else ''}"
            # One outline a kind: neither seams between bars nor one element a guide.
            ax.stairs(heights, rank, fill=True, color=color, label=label)
            drawn += len(heights)
    ax.set(title="Cells per guide", xlabel="guides", ylabel="cells called")
    thousands(ax.xaxis)
    ax.set_xlim(0.3, len(cells) + 0.7)
    ax.set_ylim(bottom=0)
    legend_above(ax)
    thousands(ax.yaxis)


def _called_fraction(ax: Axes, n_called: np.ndarray, n_seen: np.ndarray, var: pd.DataFrame) -> None:
    from matplotlib.ticker import PercentFormatter

    seen = n_seen > 0
    relied = np.ones(len(n_seen), dtype=bool)
    if "fallback" in var:
        relied = (var["fallback"].astype(str) == "").to_numpy()
    size = 14 if len(n_seen) <= MANY_GUIDES else 6
    for chosen, color, name in (
        (seen & relied, DOWN, "called by the model"),
        (seen & ~relied, UP, "fit not relied on"),
    ):
        if chosen.any():
            ax.scatter(
                n_seen[chosen],
                n_called[chosen] / n_seen[chosen],
                s=size,
                color=color,
                alpha=0.7,
                linewidth=0,
                label=f"{name}: {int(chosen.sum()):,} guides",
            )
    if (~seen).any():
        ax.plot([], [], " ", label=f"never seen: {int((~seen).sum()):,} guides")
    ax.set_xscale("log")
    ax.set_ylim(-0.03, 1.03)
    ax.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
    ax.set(
        title="Called fraction of each guide",
        xlabel="cells with a UMI of the guide",
        ylabel="called",
    )
    plain_powers(ax.xaxis)
    legend_above(ax, ncols=2)
