"""Three views of one check: difference against magnitude, quantiles, agreement of ranks."""

from __future__ import annotations

import io
from base64 import b64encode

import numpy as np

from validation.parity.check import Check, Row, differences

# Fewer numbers, or only flags, are read from the table.
LEAST = 30
MOST_POINTS = 4000
N_RANKS = 60


def worth_drawing(row: Row) -> bool:
    """Whether the numbers of a row are many and not only flags."""
    if row.check is None or row.n < LEAST:
        return False
    values = row.check.outside
    return values.dtype.kind == "f" and np.unique(values[np.isfinite(values)]).size >= LEAST


def picture(row: Row) -> str:
    """Return a row's three views as a PNG in base64."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    check, tolerance = row.check, row.tolerance
    assert check is not None
    assert tolerance is not None
    figure, axes = plt.subplots(1, 3, figsize=(10, 2.7))
    figure.subplots_adjust(left=0.06, right=0.99, bottom=0.2, top=0.97, wspace=0.25)
    outside = np.asarray(check.outside, dtype=float).ravel()
    sides = {"compiled": check.compiled}
    if check.reference is not None:
        sides = {"reference": check.reference, **sides}
    marks = {"reference": ("o", 14, "C1"), "compiled": (".", 8, "C0")}
    beyond = _explained(check)
    for side, values in sides.items():
        ours = np.asarray(values, dtype=float).ravel()
        shape, size, color = marks[side]
        gap = differences(tolerance.measure, ours, outside)
        both = np.isfinite(ours) & np.isfinite(outside)
        shown = _thinned(np.flatnonzero(both))
        magnitude, height = np.abs(outside[shown]), np.maximum(gap[shown], 1e-18)
        hidden = beyond[shown]
        axes[0].scatter(
            magnitude[~hidden], height[~hidden], size, color, shape, label=side, linewidths=0
        )
        if side == "compiled":
            axes[0].scatter(magnitude[hidden], height[hidden], 10, "0.6", "x", label="explained")
        a, b = (np.sort(_scale(row, one[both])) for one in (outside, ours))
        points = _thinned(np.arange(len(a)))
        axes[1].plot(a[points], b[points], shape, color=color, markersize=size**0.5)
        k, agreement = _rank_agreement(_strength(row, outside[both]), _strength(row, ours[both]))
        axes[2].plot(k, agreement, color=color, label=side)
    axes[0].axhline(max(tolerance.outside, 1e-18), color="C3", linewidth=1, label="allowed")
    axes[0].set(xscale="log", yscale="log", xlabel="magnitude, outside", ylabel=_measure(row))
    axes[0].legend(fontsize=6)
    lines = axes[1].get_xlim()
    axes[1].plot(lines, lines, color="0.5", linewidth=0.7)
    name = "-log10 p" if _is_p(row) else "value"
    axes[1].set(xlabel=f"{name}, outside, sorted", ylabel=f"{name}, here, sorted")
    axes[2].set(
        xscale="log", ylim=(-0.03, 1.03), xlabel="strongest k", ylabel="share of them in common"
    )
    for axis in axes:
        axis.tick_params(labelsize=7)
        axis.xaxis.label.set_size(8)
        axis.yaxis.label.set_size(8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=75)
    plt.close(figure)
    return b64encode(buffer.getvalue()).decode("ascii")


def _explained(check: Check) -> np.ndarray:
    masks = [np.broadcast_to(mask, check.outside.shape) for mask in check.explained.values()]
    found = np.any(masks, axis=0) if masks else np.zeros(check.outside.shape, dtype=bool)
    return np.asarray(found).ravel()


def _thinned(places: np.ndarray) -> np.ndarray:
    return places[:: max(1, len(places) // MOST_POINTS)]


def _is_p(row: Row) -> bool:
    return row.tolerance is not None and row.tolerance.measure == "log"


def _scale(row: Row, values: np.ndarray) -> np.ndarray:
    return -np.log10(np.maximum(values, 1e-300)) if _is_p(row) else values


def _strength(row: Row, values: np.ndarray) -> np.ndarray:
    return -values if _is_p(row) else np.abs(values)


def _measure(row: Row) -> str:
    assert row.tolerance is not None
    return f"difference, {row.tolerance.measure}"


def _rank_agreement(here: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers k and the share of the k strongest that both orders have in common.

    Equal strengths stand in the order of the numbers, on both sides.
    """
    orders = [np.argsort(-one, kind="stable") for one in (here, there)]
    k = np.unique(np.geomspace(1, len(here), N_RANKS).astype(int))
    places = np.empty((2, len(here)), dtype=int)
    for place, order in zip(places, orders, strict=True):
        place[order] = np.arange(len(here))
    later = np.sort(places.max(axis=0))
    return k, np.searchsorted(later, k) / k
