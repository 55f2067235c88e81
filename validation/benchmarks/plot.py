"""A picture of all ratios."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from validation.benchmarks.comparison import Comparison
from validation.benchmarks.tables import tool_name

PANELS = {"operation": "time of the operation", "peak_rss": "peak memory"}
ROW_INCHES = 0.24


def plot_ratios(comparisons: Iterable[Comparison], path: Path) -> None:
    """Draw other tool / crispyx on a log scale, one row a case and one mark a tool."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "crispyx"
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    shown = [found for found in comparisons if found.complete]
    rows = list(dict.fromkeys(_row(found) for found in shown))
    tools = sorted({tool_name(found) for found in shown})
    figure, axes = plt.subplots(
        1, 2, sharey=True, figsize=(10, 1.5 + ROW_INCHES * len(rows)), layout="constrained"
    )
    for axis, (quantity, title) in zip(axes, PANELS.items(), strict=True):
        for tool in tools:
            points = [
                (found.ratio(quantity), rows.index(_row(found)))
                for found in shown
                if tool_name(found) == tool
            ]
            axis.plot(*zip(*points, strict=True), "o", markersize=5, label=tool)
        axis.axvline(1, color="0.5", linewidth=1)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xlabel(f"{title}, other tool / crispyx")
        axis.grid(axis="y", color="0.92")
        axis.set_axisbelow(True)
    axes[0].set_yticks(range(len(rows)), rows)
    axes[0].invert_yaxis()
    if tools:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=6)
    # Without a date the same figures give the same file.
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def _row(found: Comparison) -> str:
    return f"{found.case} ({found.data})"
