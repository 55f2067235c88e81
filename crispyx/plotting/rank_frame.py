"""The ranking of one perturbation as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crispyx.data.arguments import whole
from crispyx.plotting.group_table import require_scores
from crispyx.plotting.rankings import COLUMNS, KEY, by_score, find_ranking

if TYPE_CHECKING:
    import pandas as pd


def rank_genes_groups_df(
    data: Any, group: str, *, key: str = KEY, n_genes: int | None = None
) -> pd.DataFrame:
    """Return the genes of one perturbation by falling absolute score, untested ones last.

    Only the rows of this perturbation are read; of a file with a matrix, nothing of the matrix is.

    Parameters
    ----------
    data : RankGenesGroupsResult, str, pathlib.Path, crispyx.AnnData or anndata.AnnData
        A result, its file, or data with scanpy's ``uns[key]``, on disk or in memory.
    group : str
        Label of the perturbation.
    key : str
        Key of scanpy's results in uns. Under the usual key, the tables of crispyx are read where
        ``data`` has them.
    n_genes : int or None
        Return this many genes; None returns all.

    Returns
    -------
    pandas.DataFrame (n_genes, 8 to 10)
        ``names``, ``scores`` (test statistic), ``logfoldchanges`` (log2), ``pvals``,
        ``pvals_adj``, ``pts`` and ``pts_rest`` (fractions of cells that express the gene), of the
        rank-sum test also ``auc`` (U / (n1 n0) - 1/2) and ``u_stat``, and ``group``. A ranking of
        scanpy's that lacks a column gives a table without it.

    Raises
    ------
    InputError
        There is no result, the group is not in it, or ``n_genes`` is below 1.
    """
    import pandas as pd

    limit = None if n_genes is None else whole("n_genes", n_genes, 1)
    ranking = find_ranking(data, key)
    columns = ranking.columns(str(group))
    require_scores(columns, ranking.where)
    ranked = by_score(columns, limit)
    frame = pd.DataFrame({name: ranked[name] for name in COLUMNS if name in ranked})
    return frame.assign(group=str(group))
