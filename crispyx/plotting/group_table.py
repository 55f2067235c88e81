"""Fold changes and p-values of one perturbation, from a result or a data frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx.errors import InputError
from crispyx.plotting.rankings import LFC, NAMES, P_ADJ, SCORES, Columns, find_ranking, shown

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class GroupTable:
    """One perturbation against the control.

    Attributes
    ----------
    title : str
        Label of the perturbation, empty when unknown.
    genes : numpy.ndarray (n_genes,) str or None
        Gene names.
    logfoldchanges, pvalues : numpy.ndarray (n_genes,) float64
        log2 fold changes and p-values, NaN where untested.
    adjusted : bool
        Whether the p-values are corrected for the number of genes.
    """

    title: str
    genes: np.ndarray | None
    logfoldchanges: np.ndarray
    pvalues: np.ndarray
    adjusted: bool = True


def group_table(data: Any, group: str, key: str) -> GroupTable:
    """Return one perturbation of a result, see :func:`crispyx.plotting.rankings.find_ranking`.

    Raises
    ------
    InputError
        There is no result, or the group is not in it.
    """
    ranking = find_ranking(data, key)
    return table_of(ranking.columns(group), group, ranking.where)


def frame_table(frame: pd.DataFrame, group: str | None) -> GroupTable:
    """Return the table in a data frame with the columns of ``scanpy.get.rank_genes_groups_df``.

    Raises
    ------
    InputError
        A column is missing.
    """
    return table_of(frame_columns(frame), group or "", "de_df")


def frame_columns(frame: pd.DataFrame) -> Columns:
    """Return the columns of a data frame, ``names`` as objects.

    Raises
    ------
    InputError
        It is no data frame.
    """
    if not hasattr(frame, "columns"):
        raise InputError(f"de_df is a {type(frame).__name__}; give a pandas.DataFrame")
    columns = {str(name): frame[name].to_numpy() for name in frame.columns}
    if NAMES in columns:
        columns[NAMES] = np.array([str(name) for name in columns[NAMES]], dtype=object)
    return columns


def table_of(columns: Columns, group: str, where: str) -> GroupTable:
    """Return what a plot of fold changes needs.

    Raises
    ------
    InputError
        A column is missing.
    """
    p = next((name for name in (P_ADJ, "pvals") if name in columns), None)
    if LFC not in columns or p is None:
        raise InputError(
            f"{where} has the columns {shown(columns)}; it needs 'logfoldchanges', and 'pvals_adj' "
            "or 'pvals'"
        )
    return GroupTable(
        group,
        columns.get(NAMES),
        _float(columns[LFC]),
        _float(columns[p]),
        adjusted=p == P_ADJ,
    )


def require_scores(columns: Columns, where: str) -> None:
    """Raise unless genes have names and scores.

    Raises
    ------
    InputError
        A column is missing.
    """
    missing = [name for name in (NAMES, SCORES) if name not in columns]
    if missing:
        raise InputError(
            f"{where} has the columns {shown(columns)}; it lacks {' and '.join(map(repr, missing))}"
        )


def _float(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=np.float64).ravel()
