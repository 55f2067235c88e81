"""How much every two sets share, as a picture of squares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx.errors import InputError, InputTypeError
from crispyx.plotting.gene_labels import short_name
from crispyx.plotting.style import INK, panels, plain_text, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from crispyx.data import OverlapResult

TITLES = {"jaccard": "Jaccard similarity", "count": "Overlap counts"}
FORMATS = {"jaccard": ".2f", "count": "d"}
MOST_NAMES = 60  # more do not fit beside each other
MOST_NUMBERS = 25  # idem, of numbers in the squares
SQUARE = 0.42  # inches


@styled
def plot_overlap_heatmap(
    result: OverlapResult,
    *,
    metric: str = "jaccard",
    ax: Axes | None = None,
    cmap: str = "Blues",
    annot: bool = True,
    fmt: str | None = None,
    title: str | None = None,
) -> Axes | None:
    """Draw the overlap of every two sets.

    Above 60 sets there are no names, and above 25 no numbers in the squares.

    Parameters
    ----------
    result : OverlapResult
        From :func:`crispyx.data.compute_overlap`.
    metric : {"jaccard", "count"}
        Which of its matrices.
    ax : matplotlib.axes.Axes or None
        Draw here instead of into a figure of its own.
    cmap : str
        Colormap of matplotlib.
    annot : bool
        Write the numbers into the squares.
    fmt : str or None
        Format of the numbers; None takes ``".2f"`` for Jaccard and ``"d"`` for counts.
    title : str or None
        Title; None takes ``"Jaccard similarity"`` or ``"Overlap counts"``.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        Another metric; the result was made without this one; an unknown colormap or format.
    InputTypeError
        No OverlapResult.
    """
    table = _table(result, metric)
    fmt = FORMATS[metric] if fmt is None else fmt
    texts = _texts(table, fmt) if annot and len(table) <= MOST_NUMBERS else None
    side = min(8.0, 2.2 + SQUARE * len(table))
    axes = panels(ax, 1, (side + 0.8, side))[0]
    axes.set_title(TITLES[metric] if title is None else title)
    _draw(axes, table, metric, _colormap(cmap), texts)
    return axes


def _table(result: Any, metric: str) -> Any:
    if metric not in TITLES:
        raise InputError(f"metric is {metric!r}; choose one of {tuple(TITLES)}")
    table = getattr(result, f"{metric}_matrix", None)
    if table is None:
        raise InputTypeError(
            f"result is a {type(result).__name__}; give what cx.compute_overlap returns"
        )
    if not table.shape[1]:
        raise InputError(
            f"the result has no {metric} matrix; call cx.compute_overlap with metric={metric!r} "
            "or 'both'"
        )
    return table


def _texts(table: Any, fmt: str) -> list[list[str]]:
    try:
        return [[format(value, fmt) for value in row] for row in table.to_numpy().tolist()]
    except ValueError as error:
        raise InputError(
            f"fmt is {fmt!r}, which does not format {table.iat[0, 0]!r} ({error}); give such as "
            "'.2f' for Jaccard or 'd' for counts"
        ) from error


def _colormap(name: Any) -> Any:
    import matplotlib as mpl

    try:
        return mpl.colormaps.get_cmap(name)
    except (ValueError, TypeError) as error:
        raise InputError(f"cmap is {name!r}; give the name of a colormap of matplotlib") from error


def _draw(ax: Axes, table: Any, metric: str, colors: Any, texts: list[list[str]] | None) -> None:
    values = table.to_numpy(dtype=float)
    top = 1.0 if metric == "jaccard" else max(1.0, values.max())
    image = ax.imshow(values, cmap=colors, vmin=0, vmax=top, interpolation="nearest")
    label = "shared / in either" if metric == "jaccard" else "shared elements"
    ax.figure.colorbar(image, ax=ax, label=label, shrink=0.8)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.tick_params(length=0)
    if len(table) > MOST_NAMES:
        ax.set(xticks=[], yticks=[], xlabel=f"{len(table):,} sets", ylabel="sets")
    else:
        names = [plain_text(short_name(str(name))) for name in table.index]
        size = 9 if len(table) <= MOST_NUMBERS else 6
        ax.set_xticks(range(len(names)), names, rotation=90, fontsize=size)
        ax.set_yticks(range(len(names)), names, fontsize=size)
    for row, column in np.ndindex(*values.shape) if texts else ():
        shade = colors(values[row, column] / top)
        ax.text(
            column,
            row,
            plain_text(texts[row][column]),  # type: ignore[index]
            ha="center",
            va="center",
            fontsize=8 if len(table) <= 12 else 6,
            color=INK if _luminance(shade) > 0.45 else "white",
        )


def _luminance(color: tuple[float, ...]) -> float:
    """Return the weighted brightness, 0 to 1, that decides whether black or white reads better."""
    red, green, blue = color[:3]
    return 0.299 * red + 0.587 * green + 0.114 * blue
