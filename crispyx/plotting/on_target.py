"""What each perturbation does to its own gene."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx.de import RankGenesGroupsResult
from crispyx.errors import InputError, InputTypeError
from crispyx.plotting.gene_labels import short_name
from crispyx.plotting.gene_points import MANY_POINTS, MAX_LFC
from crispyx.plotting.rankings import (
    KEY,
    LFC,
    P_ADJ,
    SCORES,
    Columns,
    Ranking,
    find_ranking,
    shown,
)
from crispyx.plotting.style import (
    DOWN,
    INK,
    LINE,
    NEUTRAL,
    UP,
    finish,
    panels,
    plain_powers,
    plain_text,
    styled,
    subtitle,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MOST_NAMES = 60
# Above this, fractions are drawn as medians and quartiles of a hundred bands of rows.
MANY_ROWS = 1000
N_BANDS = 100
# Of a normal estimate, in standard errors.
HALF_WIDTH_95 = 1.959963984540054
FRACTIONS = ("pts", "pts_rest")


def on_target_df(
    data: Any,
    *,
    targets: Mapping[str, str] | None = None,
    separator: str = "+",
    key: str = KEY,
) -> pd.DataFrame:
    """Return what each perturbation does to its own gene.

    Only the tables of the result are read, some perturbations at a time.

    Parameters
    ----------
    data : RankGenesGroupsResult, str, pathlib.Path, crispyx.AnnData or anndata.AnnData
        A result, its file, or data with scanpy's ``uns[key]``.
    targets : mapping of str to str, or None
        Gene of each perturbation; those it lacks are left out. None takes the label itself, and
        each part of a label such as ``"KLF1+MAP2K6"``.
    separator : str
        What stands between the parts of a label; empty takes labels whole.
    key : str
        Key of scanpy's results in uns.

    Returns
    -------
    pandas.DataFrame
        A row for each perturbation and gene of its own that was measured, in the order of the
        result: ``perturbation, gene, logfoldchange`` (log2), ``low, high`` (95 % interval, NaN
        where the test has no standard error), ``pval_adj, pts, pts_rest`` (fractions of perturbed
        and control cells that express the gene) and ``rank``: 1 where no tested gene has a larger
        absolute score. ``attrs["not_measured"]`` lists perturbations without a row, and
        ``attrs["n_genes"]`` counts the genes.

    Raises
    ------
    InputError
        There is no result; no perturbation's own gene is in it.
    """
    import pandas as pd

    if isinstance(data, RankGenesGroupsResult) and data.result is not None:
        data = data.result_path  # the file may hold standard errors
    if targets is not None and not hasattr(targets, "get"):
        raise InputTypeError(
            f"targets is a {type(targets).__name__}; give a dict of genes by label"
        )
    ranking = find_ranking(data, key)
    place = {gene: k for k, gene in reversed([*enumerate(ranking.gene_names().tolist())])}
    names = ranking.known((LFC, SCORES, P_ADJ, *FRACTIONS, "lfcse"))
    rows, missed = [], []
    for label, tables in zip(ranking.groups, ranking.profiles(names), strict=True):
        genes = [gene for gene in _targets(label, targets, separator) if gene in place]
        if not genes:
            missed.append(label)
            continue
        columns = dict(zip(names, tables, strict=True))
        rows += [
            {"perturbation": label, "gene": gene} | _own(columns, place[gene]) for gene in genes
        ]
    if not rows:
        raise InputError(
            f"{ranking.where} holds the genes of none of its perturbations ({shown(missed)}); give "
            "targets={perturbation: gene}"
        )
    table = pd.DataFrame(rows)
    table.attrs = {"not_measured": missed, "n_genes": len(place)} | _reference(ranking)
    return table


def _targets(label: str, targets: Mapping[str, str] | None, separator: str) -> list[str]:
    if targets is not None:
        gene = targets.get(label)
        return [] if gene is None else [str(gene)]
    return list(dict.fromkeys([label, *(label.split(separator) if separator else ())]))


def _reference(ranking: Ranking) -> dict[str, Any]:
    reference = ranking.params.get("reference")
    return {} if reference is None else {"reference": str(reference)}


def _own(columns: Columns, at: int) -> dict[str, Any]:
    score = np.abs(columns[SCORES])
    known = np.isfinite(score)

    def value(name: str) -> float:
        return float(columns[name][at]) if name in columns else np.nan

    lfc, half = value(LFC), HALF_WIDTH_95 * value("lfcse")
    rank = 1 + int(np.count_nonzero(score[known] > score[at])) if known[at] else np.nan
    return {
        "logfoldchange": lfc,
        "low": lfc - half,
        "high": lfc + half,
        "pval_adj": value(P_ADJ),
        **{name: value(name) for name in FRACTIONS},
        "rank": rank,
    }


@styled
def plot_on_target(
    data: Any,
    *,
    targets: Mapping[str, str] | None = None,
    separator: str = "+",
    key: str = KEY,
    p_cut: float = 0.05,
    ax: Any = None,
    show: bool | None = None,
    savepath: str | os.PathLike[str] | None = None,
) -> np.ndarray | None:
    """Draw what each perturbation does to its own gene, the strongest knock-down first.

    Three panels share their rows: the log2 fold change of the gene with its 95 % interval where the
    test has one, the fractions of control and of perturbed cells that express it, and its rank
    among all genes by absolute score. Up to 60 rows have names; more are drawn as points. Of more
    than 1,000 rows the fractions are drawn as median and middle half of each hundredth. A fold
    change beyond 10 stands at the edge.

    Parameters
    ----------
    data, targets, separator, key
        See :func:`on_target_df`.
    p_cut : float
        Genes at or below this adjusted p are colored.
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
    InputError
        As :func:`on_target_df`.
    """
    table = on_target_df(data, targets=targets, separator=separator, key=key)
    ordered = table.sort_values("logfoldchange", kind="stable", na_position="last")
    few = len(table) <= MOST_NAMES
    axes = panels(ax, 3, (9.6, 1.7 + 0.19 * len(table) if few else 5.2))
    place = np.arange(len(table))
    _draw_changes(axes[0], ordered, place, p_cut)
    _draw_fractions(axes[1], ordered, place)
    _draw_ranks(axes[2], ordered, place, table.attrs["n_genes"])
    for axis in axes:
        axis.set_ylim(len(table) - 0.4, -0.6)
        axis.set_yticks([])
    if few:
        axes[0].set_yticks(place, [_name(row) for row in ordered.itertuples()], fontsize=8)
        axes[0].tick_params(axis="y", length=0)
    else:
        axes[0].set_ylabel(f"{len(table):,} perturbations")
    subtitle(axes[0], "Own gene of each perturbation", _notes(table, p_cut))
    return finish(axes, show, savepath)


def _name(row: Any) -> str:
    label = short_name(row.perturbation)
    return plain_text(label if row.gene == row.perturbation else f"{label}: {row.gene}")


def _draw_changes(ax: Axes, table: pd.DataFrame, place: np.ndarray, p_cut: float) -> None:
    lfc = np.clip(table["logfoldchange"].to_numpy(), -MAX_LFC, MAX_LFC)
    changed = (table["pval_adj"] <= p_cut).to_numpy()
    points: dict[str, Any] = {
        "s": 24 if len(table) <= MOST_NAMES else 6,
        "linewidths": 0,
        "rasterized": len(table) > MANY_POINTS,
        "zorder": 3,
    }
    low, high = (np.clip(table[name].to_numpy(), -MAX_LFC, MAX_LFC) for name in ("low", "high"))
    ax.hlines(place, low, high, color=LINE, linewidth=0.9, zorder=2)
    for chosen, color in (
        (~changed, NEUTRAL),
        (changed & (lfc < 0), DOWN),
        (changed & (lfc >= 0), UP),
    ):
        ax.scatter(lfc[chosen], place[chosen], color=color, **points)
    ax.axvline(0, color=INK, linewidth=0.8, zorder=1)
    ax.set_xlabel("log2FC of the own gene")


def _draw_fractions(ax: Axes, table: pd.DataFrame, place: np.ndarray) -> None:
    perturbed, control = (table[name].to_numpy() for name in FRACTIONS)
    if len(table) > MANY_ROWS:
        _draw_band(ax, control, NEUTRAL, "control")
        _draw_band(ax, perturbed, INK, "perturbed")
    else:
        points: dict[str, Any] = {"s": 18 if len(table) <= MOST_NAMES else 4, "zorder": 3}
        ax.hlines(place, perturbed, control, color=LINE, linewidth=0.7)
        ax.scatter(control, place, color=NEUTRAL, label="control", **points)
        ax.scatter(perturbed, place, color=INK, label="perturbed", **points)
    ax.set_xlim(-0.03, 1.03)
    ax.set_xlabel("cells that express it")
    ax.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    ax.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, handletextpad=0.4)


def _draw_band(ax: Axes, values: np.ndarray, color: str, name: str) -> None:
    """Draw median and middle half of rows that follow each other, top to bottom."""
    ends = np.linspace(0, len(values), N_BANDS + 1).astype(int)
    parts = [values[start:stop] for start, stop in pairwise(ends)]
    parts = [part[np.isfinite(part)] for part in parts]
    quartiles = np.array([np.quantile(part, (0.25, 0.5, 0.75)) for part in parts if len(part)])
    if not len(quartiles):
        return
    middle = ((ends[:-1] + ends[1:] - 1) / 2)[[len(part) > 0 for part in parts]]
    low, median, high = quartiles.T
    ax.fill_betweenx(middle, low, high, color=color, alpha=0.25, linewidth=0)
    ax.plot(median, middle, color=color, linewidth=1.4, label=name)


def _draw_ranks(ax: Axes, table: pd.DataFrame, place: np.ndarray, n_genes: int) -> None:
    size = 24 if len(table) <= MOST_NAMES else 6
    first = (table["rank"] == 1).to_numpy()
    for chosen, color in ((~first, NEUTRAL), (first, INK)):
        ax.scatter(
            table["rank"].to_numpy()[chosen],
            place[chosen],
            s=size,
            color=color,
            linewidths=0,
            rasterized=len(table) > MANY_POINTS,
            zorder=3,
        )
    ax.set_xscale("log")
    ax.set_xlim(0.8, 1.25 * n_genes)
    plain_powers(ax.xaxis)
    ax.set_xlabel(f"rank among {n_genes:,} genes")


def _notes(table: pd.DataFrame, p_cut: float) -> list[str]:
    changed = table["pval_adj"] <= p_cut
    n_down, n_up = (
        int(np.count_nonzero(changed & side))
        for side in (table["logfoldchange"] < 0, table["logfoldchange"] > 0)
    )
    first = int(np.count_nonzero(table["rank"] == 1))
    ranked = f"{first:,} rank it first"
    n_missed = len(table.attrs["not_measured"])
    if n_missed:
        ranked += f"; {n_missed:,} without their gene"
    # Two short lines: the legend of the next panel stands beside them.
    return [f"of {len(table):,}: {n_down:,} lower, {n_up:,} raise it at adj p ≤ {p_cut:g}", ranked]
