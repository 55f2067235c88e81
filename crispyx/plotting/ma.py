"""MA plot: effect against mean expression, gene by gene."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.source import MatrixSource, open_source
from crispyx._jobs.screen import Screen, resolve_screen
from crispyx.data.arguments import positive, whole
from crispyx.de.means import arm_means
from crispyx.errors import InputError
from crispyx.plotting.gene_points import (
    Cuts,
    count_of_genes,
    gene_points,
    label_genes,
    scatter_genes,
    summary_lines,
    tested_genes,
)
from crispyx.plotting.group_table import GroupTable, frame_columns, table_of
from crispyx.plotting.rankings import (
    KEY,
    NAMES,
    SCORES,
    Ranking,
    by_score,
    find_ranking,
    shown,
)
from crispyx.plotting.style import INK, LINE, finish, panels, plain_text, styled, subtitle

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MODES = ("raw", "log1p")


@dataclass(frozen=True)
class _Comparison:
    """Fold changes of a group, and who is compared as far as caller and result say."""

    group: str
    table: GroupTable
    reference: str | None
    perturbation_column: str | None
    gene_name_column: str | None


@styled
def plot_ma(
    *,
    data: Any,
    de_result: Any = None,
    group: str,
    reference: str | None = None,
    perturbation_column: str | None = None,
    key: str = KEY,
    de_df: pd.DataFrame | None = None,
    mean_mode: str = "raw",
    target_sum: float = 10000.0,
    n_genes: int | None = None,
    p_cut: float = 0.05,
    lfc_cut: float = 1.0,
    chunk_size: int = 1024,
    ax: Axes | None = None,
    show: bool | None = None,
    savepath: str | os.PathLike[str] | None = None,
    n_labels: int = 10,
) -> Axes | None:
    r"""Draw log2 fold change against mean expression of one perturbation.

    .. math::  A_j = \tfrac{1}{2} (m_{1j} + m_{0j})

    with the means of gene j over the perturbation's and over the reference's cells, which count
    alike however many they are. Counts are streamed, a block at a time. Genes that are not tested
    are not drawn but counted below the title, as are genes without any count, for which a
    logarithmic axis has no place; a fold change beyond 10 stands at the edge, as a triangle.

    Parameters
    ----------
    data : str, pathlib.Path, crispyx.AnnData or anndata.AnnData
        Raw counts, on disk or in memory.
    de_result : RankGenesGroupsResult, path, crispyx.AnnData, anndata.AnnData or None
        The result, its file, or data with scanpy's ``uns[key]``; None looks into ``data``.
    group : str
        Label of the perturbation.
    reference : str or None
        Label of the control, or ``"rest"``; None takes the result's, or infers it.
    perturbation_column : str or None
        obs column of labels in ``data`` (or ``"obsm/NAME"``); None takes the result's.
    key : str
        Key of scanpy's results in uns. Under the usual key, the tables of crispyx are read where
        the result has them.
    de_df : pandas.DataFrame or None
        Fold changes to draw instead of the result's: columns names, logfoldchanges, pvals_adj (else
        pvals).
    mean_mode : {"raw", "log1p"}
        Mean of the counts, on a logarithmic axis, or of log1p(count / library size * target_sum),
        on a linear one.
    target_sum : float
        Total of each cell in mode ``"log1p"``.
    n_genes : int or None
        Draw only this many genes, those of largest absolute score (of a ``de_df`` without scores,
        the first ones); None draws all.
    p_cut : float
        Genes at or below this adjusted p ...
    lfc_cut : float
        ... and at or beyond this absolute log2 fold change are colored.
    chunk_size : int
        Cells read at a time (genes of a CSC file); speed and memory only.
    ax : matplotlib.axes.Axes or None
        Draw here instead of into a figure of its own.
    show : bool or None
        True shows the figure and returns None.
    savepath : str, pathlib.Path or None
        Save the figure here; PNG unless the suffix says otherwise. The folder is created.
    n_labels : int
        Name at most this many of the most significant genes, where there is room.

    Returns
    -------
    matplotlib.axes.Axes or None

    Raises
    ------
    InputError, MissingColumnError
        No such group, reference or obs column; no result; the result's genes are not in ``data``;
        negative, NaN or infinite counts; an argument out of range. The message names the place.
    """
    if mean_mode not in MODES:
        raise InputError(f"mean_mode is {mean_mode!r}; choose one of {MODES}")
    cuts = Cuts(p_cut, lfc_cut)
    target = positive("target_sum", target_sum)
    rows = whole("chunk_size", chunk_size, 1)
    limit = None if n_genes is None else whole("n_genes", n_genes, 1)
    ranking = None
    if de_df is None or de_result is not None:
        ranking = find_ranking(data if de_result is None else de_result, key)
    comparison = _comparison(ranking, de_df, str(group), limit, (reference, perturbation_column))
    raw = mean_mode == "raw"
    with open_source(data) as source:
        screen = _screen(source, comparison)
        arms = arm_means(
            source,
            screen.membership,
            log_target_sum=None if raw else target,
            chunk_size=rows,
        )
        mean = _means_of(comparison.table, screen, (arms[0] + arms[1]) / 2, source.where)
    axes = panels(ax, 1, (6.4, 5.2))
    label = "mean count per cell" if raw else f"mean log1p(count / library size * {target:,.10g})"
    axes[0].set(xlabel=label, ylabel=f"log2FC ({plain_text(_arms(comparison, screen, ' / '))})")
    title = f"MA: {plain_text(_arms(comparison, screen, ' vs. '))}"
    _draw(axes[0], comparison.table, mean, cuts, (title, raw, n_labels))
    drawn = finish(axes, show, savepath)
    return None if drawn is None else drawn[0]


def _comparison(
    ranking: Ranking | None,
    de_df: pd.DataFrame | None,
    group: str,
    n_genes: int | None,
    given: tuple[str | None, str | None],
) -> _Comparison:
    """Fold in what the result knows; ``given`` is (reference, perturbation_column)."""
    params: dict[str, Any] = {}
    gene_name_column = None
    if ranking is not None:
        params = dict(ranking.params)
        # A result of crispyx calls its genes by the var column they were named after.
        gene_name_column = None if ranking.ranked else ranking.genes().index.name
    if de_df is not None:
        columns, where = frame_columns(de_df), "de_df"
    else:
        assert ranking is not None  # one of the two is always there
        columns, where = ranking.columns(group), ranking.where
    if NAMES not in columns:
        raise InputError(f"{where} has the columns {shown(columns)}; it lacks 'names'")
    if SCORES in columns and n_genes is not None:
        columns = by_score(columns)
    first = {name: values[:n_genes] for name, values in columns.items()}
    reference, column = given
    return _Comparison(
        group=group,
        table=table_of(first, group, where),
        reference=params.get("reference") if reference is None else str(reference),
        perturbation_column=params.get("groupby") if column is None else column,
        gene_name_column=gene_name_column,
    )


def _screen(source: MatrixSource, comparison: _Comparison) -> Screen:
    where = source.path or source.where
    if comparison.perturbation_column is None:
        raise InputError(
            f"say which obs column of {where} holds the labels: perturbation_column= (there are "
            f"{shown(source.obs.columns)})"
        )
    genes = comparison.gene_name_column
    try:
        return resolve_screen(
            source,
            perturbation_column=comparison.perturbation_column,
            control_label=comparison.reference,
            gene_name_column=genes if genes in source.var.columns else None,
            perturbations=[comparison.group],
        )
    except InputError as error:
        # The control is called reference here.
        text = str(error).replace("control_label=", "reference=")
        raise InputError(f"group={comparison.group!r}: {text}") from error


def _means_of(table: GroupTable, screen: Screen, mean: np.ndarray, where: str) -> np.ndarray:
    """Return the means in the order of the table (n_genes,), NaN for a gene the data lacks."""
    assert table.genes is not None  # checked with the columns
    mean_of = dict(zip(screen.genes.tolist(), mean.tolist(), strict=True))
    found = np.array([mean_of.get(name, np.nan) for name in table.genes.tolist()])
    if len(found) and np.isnan(found).all():
        raise InputError(
            f"no gene of the result ({shown(table.genes)}) is in {where}, which holds "
            f"{shown(screen.genes)}; give the counts the result was made of as data="
        )
    return found


def _arms(comparison: _Comparison, screen: Screen, between: str) -> str:
    return f"{comparison.group}{between}{screen.control_label}"


def _draw(
    ax: Axes, table: GroupTable, mean: np.ndarray, cuts: Cuts, how: tuple[str, bool, int]
) -> None:
    title, raw, n_labels = how
    tested, known = tested_genes(table), ~np.isnan(mean)
    placed = mean > 0 if raw else known
    points = gene_points(table, tested & placed, cuts)
    x, y = mean[tested & placed], points.clipped_lfc
    if raw:
        ax.set_xscale("log")
        _plain_decimals(ax)
    scatter_genes(ax, points, x, y, "y")
    ax.axhline(0, color=INK, linewidth=0.8, zorder=0)
    for cut in {-cuts.lfc_cut, cuts.lfc_cut} - {0}:
        ax.axhline(cut, color=LINE, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    ax.set_ylim(-1.12 * points.limit, 1.12 * points.limit)
    unseen = {
        "not tested": ~tested,
        "not in the data": tested & ~known,
        "without counts": tested & known & ~placed,
    }
    notes = [f"{count_of_genes(int(n.sum()))} {why}" for why, n in unseen.items() if n.any()]
    subtitle(ax, title, summary_lines(points, cuts, table.adjusted, notes))
    label_genes(ax, points, x, y, n_labels)


def _plain_decimals(ax: Axes) -> None:
    from matplotlib.ticker import FuncFormatter

    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
