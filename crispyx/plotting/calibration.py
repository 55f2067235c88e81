"""Whether tests keep their level where nothing has an effect."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx.de import CalibrationResult
from crispyx.errors import InputError, InputTypeError
from crispyx.plotting.gene_labels import short_name
from crispyx.plotting.style import (
    INK,
    LINE,
    NEUTRAL,
    finish,
    panels,
    plain_text,
    styled,
    subtitle,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", INK)
WHAT = {
    "splits": "control cells against control cells",
    "guides": "control guides against the others",
    "depth": "control cells at the depth of perturbations",
}
FEWEST_TESTS = 100  # of a bin that is drawn
SMALLEST = 1e-16  # p-values below it stand at the edge
MOST_NAMES = 30


@styled
def plot_calibration(
    result: CalibrationResult,
    *,
    kind: str = "splits",
    ax: Any = None,
    show: bool | None = None,
    savepath: str | os.PathLike[str] | None = None,
) -> np.ndarray | None:
    """Draw the p-values of tests where nothing has an effect.

    Three panels: observed against expected p by method, both logarithmic, with the 99 % interval of
    independent tests in gray (above the diagonal are p-values that are too small); the share below
    .05 by mean count of the gene, with 99 % intervals, bins of fewer than 100 tests left out; the
    depth of each perturbation over the control's, and, where groups were thinned to the depth of
    perturbations, the share below .05 that this alone makes, for each method.

    Parameters
    ----------
    result : CalibrationResult
        From :func:`crispyx.de.calibration`.
    kind : {"splits", "guides", "depth"}
        What the first two panels show.
    ax : sequence of three matplotlib.axes.Axes, or None
        Draw here instead of into a figure of its own.
    show : bool or None
        True shows the figure and returns None.
    savepath : str, pathlib.Path or None
        Save the figure here; PNG unless the suffix says otherwise. The folder is created.

    Returns
    -------
    numpy.ndarray (3,) of matplotlib.axes.Axes, or None

    Raises
    ------
    InputTypeError, InputError
        Not such a result; it has no tests of this kind.
    """
    if not isinstance(result, CalibrationResult):
        raise InputTypeError(
            f"result is a {type(result).__name__}; give what cx.tl.calibration returned"
        )
    kinds = list(dict.fromkeys(result.quantiles["kind"]))
    if kind not in kinds:
        raise InputError(f"kind is {kind!r}; the result has {', '.join(kinds) or 'no tests'}")
    colors = {name: PALETTE[k % len(PALETTE)] for k, name in enumerate(result.methods)}
    axes = panels(ax, 3, (13.2, 4.6))
    _draw_quantiles(axes[0], result.quantiles[result.quantiles["kind"] == kind], colors)
    _draw_bins(axes[1], result.bins[result.bins["kind"] == kind], colors)
    _draw_depth(axes[2], result, colors)
    # Two lines each: titles then stand at one height.
    subtitle(
        axes[0],
        "p-values without any effect",
        [WHAT[kind], "gray: 99 % of independent tests"],
    )
    subtitle(axes[1], "Share of p below .05", ["by mean count of the gene", "bars: 99 % intervals"])
    n_shifted = int((result.depth["shift"] != "").sum())
    tolerance = result.parameters["max_depth_shift"]
    notes = [f"{n_shifted:,} of {len(result.depth):,} off by more than {100 * tolerance:.0f} %"]
    if len(result.depth_effect):
        notes += ["what that alone does; in brackets: depth over the control's"]
    else:
        notes += ["gray: not off"]
    subtitle(axes[2], "Depth of perturbations", notes)
    return finish(axes, show, savepath)


def _draw_quantiles(ax: Axes, table: pd.DataFrame, colors: dict[str, str]) -> None:
    first = table[table["method"] == table["method"].iloc[0]]
    expected = -np.log10(first["expected"].to_numpy())
    low, high = (-np.log10(first[name].to_numpy()) for name in ("low", "high"))
    ax.fill_between(expected, high, low, color=NEUTRAL, alpha=0.35, linewidth=0)
    ax.plot([0, expected.max()], [0, expected.max()], color=LINE, linewidth=0.9)
    for method, color in colors.items():
        own = table[table["method"] == method]
        x, p = own["expected"].to_numpy(), np.maximum(own["observed"].to_numpy(), SMALLEST)
        ax.plot(-np.log10(x), -np.log10(p), color=color, linewidth=1.6, label=plain_text(method))
    top = float(max(low.max(), expected.max()))
    highest = -np.log10(max(float(table["observed"].min()), SMALLEST))
    # Methods far above leave the panel, and need no more of it.
    ax.set_ylim(0, min(2.2 * top, 1.08 * max(top, highest)))
    ax.set_xlim(0, 1.02 * expected.max())
    ax.set_xlabel("expected -log10 p")
    ax.set_ylabel("observed -log10 p")
    ax.legend(loc="upper left")


def _draw_bins(ax: Axes, table: pd.DataFrame, colors: dict[str, str]) -> None:
    bins = [name for name in dict.fromkeys(table["mean_count"]) if name != "all"]
    width = 0.7 / max(1, len(colors))
    for k, (method, color) in enumerate(colors.items()):
        own = table[table["method"] == method].set_index("mean_count").loc[bins]
        drawn = (own["tests"] >= FEWEST_TESTS).to_numpy()
        place = (np.arange(len(bins)) + (k - (len(colors) - 1) / 2) * width)[drawn]
        share, low, high = (
            own[name].to_numpy()[drawn] for name in ("share_05", "low_05", "high_05")
        )
        ax.vlines(place, low, high, color=color, linewidth=1.4)
        ax.scatter(place, share, color=color, s=22, zorder=3, label=plain_text(method))
    ax.axhline(0.05, color=LINE, linewidth=0.9, zorder=1)
    ax.set_xticks(np.arange(len(bins)), bins)
    ax.set_xlim(-0.6, len(bins) - 0.4)
    ax.set_xlabel("mean count")
    ax.set_ylim(0, None)


def _draw_depth(ax: Axes, result: CalibrationResult, colors: dict[str, str]) -> None:
    effect, depth = result.depth_effect, result.depth
    if len(effect):
        names = effect.drop_duplicates("perturbation").sort_values("ratio")["perturbation"]
        names = list(names)[:MOST_NAMES]
        apart = 0.6 / max(1, len(colors))
        for k, (method, color) in enumerate(colors.items()):
            own = effect[effect["method"] == method].set_index("perturbation").loc[names]
            place = np.arange(len(names)) + (k - (len(colors) - 1) / 2) * apart
            ax.hlines(place, own["low_05"], own["high_05"], color=color, linewidth=1.2)
            ax.scatter(own["share_05"], place, color=color, s=14, zorder=3)
        ratio = depth.set_index("perturbation")["ratio"]
        labels = [f"{plain_text(short_name(name))} ({ratio[name]:.2f})" for name in names]
        ax.set_yticks(np.arange(len(names)), labels, fontsize=8)
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.set_xlim(0, None)
        ax.locator_params(axis="x", nbins=5)
        ax.axvline(0.05, color=LINE, linewidth=0.9, zorder=1)
        ax.set_xlabel("share of p below .05 without any effect")
        return
    ratio = np.sort(depth["ratio"].dropna().to_numpy())
    ax.scatter(ratio, np.arange(1, len(ratio) + 1), color=INK, s=14)
    ax.axvline(1.0, color=LINE, linewidth=0.9, zorder=1)
    tolerance = result.parameters["max_depth_shift"]
    ax.axvspan(1 - tolerance, 1 / (1 - tolerance), color=NEUTRAL, alpha=0.25, linewidth=0, zorder=0)
    ax.set_xlabel("median count over the control's")
    ax.set_ylabel("perturbations")
