"""The genes a perturbation changes most."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx.data.arguments import whole
from crispyx.errors import InputError
from crispyx.plotting.gene_labels import short_name
from crispyx.plotting.group_table import frame_columns, require_scores
from crispyx.plotting.rankings import KEY, NAMES, SCORES, Columns, by_score, find_ranking
from crispyx.plotting.style import (
    DOWN,
    LINE,
    UP,
    finish,
    legend_above,
    panels,
    plain_text,
    styled,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

SCORE_NAMES = {"wilcoxon": "z (rank sum)", "t_test": "t (Welch)", "t-test": "t (Welch)"}


@styled
def plot_top_genes_bar(
    *,
    data: Any = None,
    group: str | None = None,
    de_df: pd.DataFrame | None = None,
    key: str = KEY,
    topn: int = 15,
    ax: Axes | None = None,
    show: bool | None = None,
    savepath: str | os.PathLike[str] | None = None,
) -> Axes | None:
    """Draw the scores of the genes with the largest absolute score, the largest on top.

    Parameters
    ----------
    data : RankGenesGroupsResult, str, pathlib.Path, crispyx.AnnData or anndata.AnnData
        A result, its file, or data with scanpy's ``uns[key]``; with ``group``.
    group : str or None
        Label of the perturbation.
    de_df : pandas.DataFrame or None
        Instead of ``data``: columns names and scores.
    key : str
        Key of scanpy's results in uns. Under the usual key, the tables of crispyx are read where
        ``data`` has them.
    topn : int
        Genes to draw, at most; untested ones are never drawn.
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
        Neither ``de_df`` nor ``data`` and ``group``; no such group; a column is missing; ``topn``
        below 1.
    """
    limit = whole("topn", topn, 1)
    if de_df is not None:
        columns, where, method = frame_columns(de_df), "de_df", None
    elif data is None or group is None:
        raise InputError("give either de_df=, or data= and group=")
    else:
        ranking = find_ranking(data, key)
        columns, where = ranking.columns(str(group)), ranking.where
        method = ranking.params.get("method")
    require_scores(columns, where)
    top = by_score(columns, limit)
    tested = ~np.isnan(top[SCORES].astype(np.float64))
    top = {name: top[name][tested] for name in (NAMES, SCORES)}
    axes = panels(ax, 1, (6.4, 1.6 + 0.26 * max(3, len(top[NAMES]))))
    axes[0].set_title("Top genes" + (f": {plain_text(str(group))}" if group is not None else ""))
    axes[0].set_xlabel(SCORE_NAMES.get(str(method), "score"))
    _draw(axes[0], top)
    drawn = finish(axes, show, savepath)
    return None if drawn is None else drawn[0]


def _draw(ax: Axes, top: Columns) -> None:
    scores = top[SCORES].astype(np.float64)
    place = np.arange(len(scores))
    for chosen, color, name in (
        (scores >= 0, UP, "higher in the perturbation"),
        (scores < 0, DOWN, "lower in the perturbation"),
    ):
        if chosen.any():
            ax.barh(place[chosen], scores[chosen], height=0.72, color=color, label=name)
    ax.axvline(0, color=LINE, linewidth=0.8)
    ax.set_yticks(place, [plain_text(short_name(str(name))) for name in top[NAMES]])
    ax.set_ylim(max(len(scores), 1) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    if len(scores):
        legend_above(ax)
