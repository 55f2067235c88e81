"""The look all figures share, and how they are shown and saved.

The colors are told apart by readers with any color vision (Okabe and Ito, 2008); the report page
replaces each by its counterpart on a dark page.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.atomic import atomic_path
from crispyx._run.drawing import drawing
from crispyx.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1f2933"
LINE = "#8a94a0"
NEUTRAL = "#a3abb4"
UP = "#d55e00"
DOWN = "#0072b2"

# Any: matplotlib types each key on its own.
RC: dict[Any, Any] = {
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": LINE,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
DPI = 160
# Axes that span less than this factor get ticks between the powers of ten.
FEW_DECADES = 150


def panels(ax: Any, n_panels: int, size: tuple[float, float], n_rows: int = 1) -> np.ndarray:
    """Return the axes to draw into (n_panels,): the caller's, else those of a fresh figure.

    A fresh figure has them in ``n_rows`` rows of equal length.

    Raises
    ------
    InputError
        The caller gave another number of axes.
    """
    if ax is None:
        import matplotlib.pyplot as plt

        figure = plt.figure(figsize=size, layout="constrained")
        return np.ravel(figure.subplots(n_rows, n_panels // n_rows))
    given = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
    if len(given) != n_panels or not all(hasattr(axes, "scatter") for axes in given):
        wanted = "one matplotlib Axes" if n_panels == 1 else f"a sequence of {n_panels} Axes"
        raise InputError(f"ax is {ax!r}; give {wanted}")
    return given


def offscreen(n_panels: int, size: tuple[float, float], n_rows: int = 1) -> np.ndarray:
    """Return the axes (n_panels,) of a figure that matplotlib's pyplot does not know.

    Nothing has to be closed and no window opens, whatever backend is set.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with drawing, mpl.rc_context(RC):
        figure = Figure(figsize=size, layout="constrained")
        return np.ravel(figure.subplots(n_rows, n_panels // n_rows))


def settle_layout(ax: Axes) -> None:
    """Let the layout engine give the axes their final place."""
    root_figure(ax).draw_without_rendering()


def root_figure(ax: Axes) -> Figure:
    """Return the whole figure, also when the axes lie in a subfigure."""
    return ax.figure.canvas.figure


def finish(
    axes: np.ndarray, show: bool | None, savepath: str | os.PathLike[str] | None
) -> np.ndarray | None:
    """Save and show the figure the axes belong to; return the axes unless it was shown."""
    if savepath is not None:
        save_figure(root_figure(axes[0]), savepath)
    if show:
        import matplotlib.pyplot as plt

        plt.show()
        return None
    return axes


def save_figure(figure: Figure, savepath: str | os.PathLike[str], **options: Any) -> None:
    """Write a figure; the suffix of the name decides the format, PNG without one.

    ``options`` are those of ``Figure.savefig``.

    Raises
    ------
    InputError
        The folder cannot be created, or the format is not known to matplotlib.
    """
    path = Path(savepath).expanduser()
    if not path.suffix:
        path = path.with_suffix(".png")
    kind = path.suffix[1:].lower()
    known = figure.canvas.get_supported_filetypes()
    if kind not in known:
        raise InputError(f"savepath is {str(path)!r}; give a name ending in .{', .'.join(known)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(
            f"savepath is {str(path)!r}, but {str(error.filename)!r} is a file and not a folder"
        ) from error
    with atomic_path(path) as work:
        save_as(figure, work, path.suffix, **options)


def save_as(figure: Figure, path: Path, suffix: str, **options: Any) -> None:
    """Write a figure in the format that ``suffix`` names, whatever the path is called."""
    figure.savefig(path, format=suffix[1:].lower(), dpi=DPI, **options)


def thousands(axis: Any) -> None:
    """Write the ticks of an axis of counts as 12,000."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=5, integer=True, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def mark_threshold(ax: Axes, threshold: float, label: str) -> None:
    """Draw a vertical line just below a threshold that is itself kept."""
    ax.axvline(threshold - 0.5, color=INK, linewidth=1.1, linestyle=(0, (4, 3)), label=label)


def legend_above(ax: Axes, ncols: int = 4) -> None:
    """Put the legend in rows between the title and the axes, where it covers nothing."""
    legend = ax.legend(
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=ncols,
        borderpad=0.2,
        borderaxespad=0.2,
        handlelength=1.1,
        handleheight=1.0,
        handletextpad=0.5,
        columnspacing=1.3,
    )
    n_rows = -(-len(legend.get_texts()) // ncols)
    ax.set_title(ax.get_title("left"), pad=10 + 14 * n_rows)


def plain_powers(axis: Any) -> None:
    """Write the ticks of a logarithmic axis of counts as 1, 10, 100, or 1, 2, 5, 10 where few."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    subs = (1.0, 2.0, 5.0) if high < FEW_DECADES * low else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.set_minor_formatter(NullFormatter())


def plain_text(text: str) -> str:
    """Return text that matplotlib does not read as a formula."""
    return text.replace("$", r"\$")


def subtitle(ax: Axes, title: str, lines: list[str]) -> None:
    """Set a title with smaller lines of plain text below it."""
    ax.set_title(title, pad=8 + 12 * len(lines))
    note = ax.annotate(
        "\n".join(lines),
        xy=(0, 1),
        xytext=(0, 6),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=8.5,
        va="bottom",
    )
    # The title, set above the note, makes its room.
    note.set_in_layout(False)


def styled(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Run a drawing function in the house style, and put matplotlib's settings of it back.

    The others stay as the call left them: a notebook's backend, which the first figure loads, makes
    matplotlib interactive, and would show no further figure if that were undone.
    """
    from functools import wraps

    @wraps(draw)
    def drawn(*args: Any, **kwargs: Any) -> Any:
        import matplotlib as mpl

        with drawing:
            before = {name: mpl.rcParams[name] for name in RC}
            mpl.rcParams.update(RC)
            try:
                return draw(*args, **kwargs)
            finally:
                mpl.rcParams.update(before)

    return drawn
