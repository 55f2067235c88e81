"""scanpy's plots of ranked genes, drawn from crispyx's results."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.scanpy_format import records
from crispyx._run.extras import import_scanpy
from crispyx._run.quiet import leaving_out
from crispyx.data.arguments import whole
from crispyx.errors import CrispyxWarning, InputError, InputTypeError, MissingColumnError
from crispyx.plotting.group_table import require_scores
from crispyx.plotting.rankings import (
    COLUMNS,
    KEY,
    NAMES,
    SCORES,
    Columns,
    Ranking,
    by_score,
    find_ranking,
    shown,
)
from crispyx.plotting.style import finish, plain_text, styled

if TYPE_CHECKING:
    import anndata
    import pandas as pd

FRACTIONS = ("pts", "pts_rest")
MOST_PANELS = 40  # of one figure, unless groups= asks for more


def materialize_rank_genes_groups(
    data: Any,
    *,
    key: str = KEY,
    groups: Iterable[str] | None = None,
    n_genes: int | None = None,
    gene_symbols: str | None = None,
) -> anndata.AnnData:
    """Return a small AnnData in memory that carries a result as scanpy's functions expect it.

    For plots and for ``scanpy.get.rank_genes_groups_df``. No expression is read: X is an empty
    sparse matrix of one row per perturbation.

    Parameters
    ----------
    data : RankGenesGroupsResult, str, pathlib.Path, crispyx.AnnData or anndata.AnnData
        A result, its file, or data with scanpy's ``uns[key]``, on disk or in memory.
    key : str
        Key of scanpy's results in uns, of ``data`` and of what is returned. Under the usual key,
        the tables of crispyx are read where ``data`` has them.
    groups : str, iterable of str, or None
        Perturbations, in this order; None takes all.
    n_genes : int or None
        Keep this many of the first genes of each perturbation; None keeps all.
    gene_symbols : str or None
        Column of var to take along.

    Returns
    -------
    anndata.AnnData (n_groups, n_genes)
        ``uns[key]`` holds ``params``, record arrays with a field per perturbation (``names``,
        ``scores``, ``logfoldchanges``, ``pvals``, ``pvals_adj``; after a rank-sum test ``auc`` and
        ``u_stat``), sorted by falling absolute score, or as scanpy sorted them, and the tables
        ``pts`` and ``pts_rest`` by gene (NaN where a gene is not among a perturbation's first).

    Raises
    ------
    InputError, MissingColumnError
        There is no result; a group is not in it; no such var column; ``n_genes`` below 1.
    """
    import anndata
    import pandas as pd
    from scipy import sparse

    limit = None if n_genes is None else whole("n_genes", n_genes, 1)
    ranking = find_ranking(data, key)
    chosen = _chosen(ranking, groups)
    ranked = [_ranked(ranking, group, limit) for group in chosen]
    var = _var(ranking, ranked, gene_symbols)
    groupby = ranking.params.get("groupby", "perturbation")
    obs = pd.DataFrame({groupby: pd.Categorical(chosen, categories=chosen)}, index=pd.Index(chosen))
    return anndata.AnnData(
        sparse.csr_matrix((len(chosen), len(var)), dtype=np.float32),
        obs=obs,
        var=var,
        uns={key: _scanpy_layout(ranking, chosen, ranked, groupby)},
    )


@styled
def rank_genes_groups(
    data: Any,
    groups: Iterable[str] | None = None,
    *,
    n_genes: int = 20,
    gene_symbols: str | None = None,
    key: str = KEY,
    show: bool | None = None,
    savepath: str | os.PathLike[str] | None = None,
    **kwargs: Any,
) -> list[Any] | None:
    """Draw ``scanpy.pl.rank_genes_groups``: the first genes of each perturbation by their scores.

    Untested genes are not drawn; a perturbation without any tested gene gets no panel.

    Parameters
    ----------
    data : RankGenesGroupsResult, str, pathlib.Path, crispyx.AnnData or anndata.AnnData
        A result, its file, or data with scanpy's ``uns[key]``, on disk or in memory.
    groups : str, iterable of str, or None
        Perturbations, one panel each, in this order; None draws all, of more than 40 the first 40,
        with a warning.
    n_genes : int
        Genes of a panel, at most.
    gene_symbols : str or None
        Column of var with the names to write.
    key : str
        Key of scanpy's results in uns. Under the usual key, the tables of crispyx are read where
        ``data`` has them.
    show : bool or None
        True shows the figure and returns None.
    savepath : str, pathlib.Path or None
        Save the figure here; PNG unless the suffix says otherwise. The folder is created.
    **kwargs
        Further arguments of ``scanpy.pl.rank_genes_groups``: ``ncols``, ``sharey``, ``fontsize``,
        ``ax``, ``save``.

    Returns
    -------
    list of matplotlib.axes.Axes or None

    Raises
    ------
    ImportError
        scanpy is not installed.
    InputError, MissingColumnError, InputTypeError
        There is no result; a group is not in it; none has tested genes; no such var column;
        ``n_genes`` below 1; an argument that scanpy does not know.
    """
    draw = import_scanpy("cx.pl.rank_genes_groups").pl.rank_genes_groups
    _require_known(draw, kwargs)
    limit = whole("n_genes", n_genes, 1)
    adata = materialize_rank_genes_groups(
        data,
        key=key,
        groups=_first(data, key) if groups is None else groups,
        n_genes=limit,
        gene_symbols=gene_symbols,
    )
    ranked = adata.uns[key]
    drawn = _with_tested_genes(ranked)
    symbols = None if gene_symbols is None else adata.var[gene_symbols]
    panels = [_panel(ranked, group, symbols) for group in drawn]
    for name, columns in zip((NAMES, SCORES), zip(*panels, strict=True), strict=True):
        ranked[name] = records(columns, drawn)
    n_drawn = len(ranked[NAMES])
    # One gene alone: its score is both ends of the axis.
    with leaving_out(UserWarning, "Attempting to set identical low and high ylims"):
        axes = draw(adata, groups=drawn, n_genes=n_drawn, key=key, show=False, **kwargs)
    for ax in axes:
        ax.set_title(plain_text(ax.get_title("left")))
    for ax in axes[:1] if kwargs.get("sharey", True) else axes:
        # Scores may be negative: the lowest name would stand on the axis.
        low, high = ax.get_ylim()
        ax.set_ylim(low - 0.05 * (high - low), high)
    finished = finish(np.array(axes, dtype=object), show, savepath)
    return None if finished is None else list(finished)


def _first(data: Any, key: str) -> list[str] | None:
    """Return the perturbations that find room in one figure; None for all."""
    groups = find_ranking(data, key).groups
    if len(groups) <= MOST_PANELS:
        return None
    warnings.warn(
        f"the first {MOST_PANELS} of {len(groups):,} perturbations are drawn; choose by groups=",
        CrispyxWarning,
        stacklevel=5,
    )
    return list(groups[:MOST_PANELS])


def _chosen(ranking: Ranking, groups: Iterable[str] | None) -> list[str]:
    if groups is None:
        return list(ranking.groups)
    chosen = list(dict.fromkeys([groups] if isinstance(groups, str) else map(str, groups)))
    absent = [group for group in chosen if group not in set(ranking.groups)]
    if absent or not chosen:
        raise InputError(
            f"groups asks for {shown(absent)}; {ranking.where} holds {shown(ranking.groups)}"
        )
    return chosen


def _ranked(ranking: Ranking, group: str, n_genes: int | None) -> Columns:
    columns = ranking.columns(group)
    require_scores(columns, ranking.where)
    if not ranking.ranked:
        return by_score(columns, n_genes)
    return {name: values[:n_genes] for name, values in columns.items()}


def _var(ranking: Ranking, ranked: list[Columns], gene_symbols: str | None) -> pd.DataFrame:
    """Return the genes and what they are called."""
    import pandas as pd

    table = ranking.genes()
    if gene_symbols is not None and gene_symbols not in table:
        raise MissingColumnError(
            f"{ranking.where} has no var column {gene_symbols!r}; it has {shown(table.columns)}. "
            "Results of crispyx hold one name per gene, chosen by gene_name_column= of the test"
        )
    named = dict.fromkeys(name for columns in ranked for name in columns[NAMES])
    genes = pd.Index(table.index.astype(str))
    if not genes.is_unique or not named.keys() <= set(genes):
        genes = pd.Index(list(named), dtype=object)  # ranked in adata.raw, or under other names
    genes.name = None
    var = pd.DataFrame(index=genes)
    if gene_symbols is not None:
        symbols = table[gene_symbols].astype(object)
        symbols.index = symbols.index.astype(str)
        symbols = symbols[~symbols.index.duplicated()].reindex(genes)
        var[gene_symbols] = symbols.where(symbols.notna(), genes).astype(str)
    return var


def _scanpy_layout(
    ranking: Ranking, groups: list[str], ranked: list[Columns], groupby: str
) -> dict[str, Any]:
    # scanpy writes the reference into its titles and looks for genes in raw if told so.
    params = {"reference": "reference", **ranking.params, "groupby": groupby, "use_raw": False}
    layout: dict[str, Any] = {"params": params}
    for name in COLUMNS:
        if name in ranked[0] and name not in FRACTIONS:
            layout[name] = records([columns[name] for columns in ranked], groups)
    layout |= {name: _by_gene(name, groups, ranked) for name in FRACTIONS if name in ranked[0]}
    return layout


def _by_gene(name: str, groups: list[str], ranked: list[Columns]) -> pd.DataFrame:
    import pandas as pd

    row_of: dict[str, int] = {}
    for columns in ranked:
        for gene in columns[NAMES]:
            row_of.setdefault(gene, len(row_of))
    table = np.full((len(row_of), len(groups)), np.nan, dtype=ranked[0][name].dtype)
    for column, columns in enumerate(ranked):
        table[[row_of[gene] for gene in columns[NAMES]], column] = columns[name]
    return pd.DataFrame(table, index=pd.Index(list(row_of), dtype=object), columns=groups)


def _require_known(draw: Any, kwargs: dict[str, Any]) -> None:
    known = [*inspect.signature(draw).parameters][1:]
    unknown = [name for name in kwargs if name not in (*known, "n_panels_per_row")]
    if unknown:
        raise InputTypeError(
            f"scanpy.pl.rank_genes_groups has no argument {shown(unknown)}; it has "
            f"{', '.join(known)}"
        )


def _with_tested_genes(ranked: dict[str, Any]) -> list[str]:
    groups = ranked[NAMES].dtype.names
    tested = [group for group in groups if np.isfinite(ranked[SCORES][group].astype(float)).any()]
    if not tested:
        raise InputError(f"no gene is tested in {shown(groups)}; there is nothing to draw")
    if len(tested) < len(groups):
        untested = [group for group in groups if group not in set(tested)]
        warnings.warn(
            f"{shown(untested)} without any tested gene: not drawn", CrispyxWarning, stacklevel=5
        )
    return tested


def _panel(
    ranked: dict[str, Any], group: str, symbols: pd.Series | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return texts and heights; an untested gene gets an empty text at a finite height."""
    names, scores = ranked[NAMES][group], ranked[SCORES][group].astype(float)
    if symbols is not None:
        names = symbols[names].to_numpy()
    tested = np.isfinite(scores)
    texts = [plain_text(str(name)) if t else "" for name, t in zip(names, tested, strict=True)]
    return np.array(texts, dtype=object), np.where(tested, scores, scores[tested][-1])
