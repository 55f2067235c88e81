"""Fold changes and p-values of one perturbation, from wherever a result is kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.dense import DenseStorage
from crispyx._io.elements import element_names, read_element
from crispyx._io.paths import resolve_data_path
from crispyx._io.source import open_source
from crispyx.de import RankGenesGroupsResult
from crispyx.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

LFC, P_ADJ = "logfoldchanges", "pvalue_adj"
SHOWN = 10


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
    """Return one perturbation of a result.

    Parameters
    ----------
    data : RankGenesGroupsResult, path, crispyx.AnnData or anndata.AnnData
        A result, a result file, or anything with scanpy's ``uns[key]``.
    group : str
        Label of the perturbation.
    key : str
        Key of scanpy's results in uns; read where there are no tables of crispyx.

    Raises
    ------
    InputError
        There is no result, or the group is not in it.
    """
    if isinstance(data, RankGenesGroupsResult):
        row = _position(group, data.groups, "the result")
        genes = np.asarray(data.genes, dtype=object)
        return GroupTable(
            group, genes, _float(data.logfoldchanges[row]), _float(data.pvalues_adj[row])
        )
    if getattr(data, "isbacked", True) is False:
        return _in_memory(data, group, key)
    return _in_file(resolve_data_path(data), group, key)


def frame_table(frame: pd.DataFrame, group: str | None) -> GroupTable:
    """Return the table in a data frame with the columns of ``scanpy.get.rank_genes_groups_df``.

    Raises
    ------
    InputError
        A column is missing.
    """
    found = [name for name in ("pvals_adj", "pvals") if name in frame]
    if "logfoldchanges" not in frame or not found:
        raise InputError(
            f"de_df has the columns {_shown(frame.columns)}; it needs 'logfoldchanges', and "
            "'pvals_adj' or 'pvals'"
        )
    genes = frame["names"].to_numpy(dtype=object) if "names" in frame else None
    return GroupTable(
        group or "",
        genes,
        _float(frame["logfoldchanges"]),
        _float(frame[found[0]]),
        adjusted=found[0] == "pvals_adj",
    )


def _in_file(path: Path, group: str, key: str) -> GroupTable:
    if {LFC, P_ADJ} <= set(element_names(path, "layers")):
        with open_source(path, LFC) as source:
            row = _position(group, source.obs.index, str(path))
            genes = source.var.index
        return GroupTable(group, genes, _row(path, LFC, row), _row(path, P_ADJ, row))
    if key not in element_names(path, "uns"):
        raise _no_result(str(path), key)
    return _scanpy_table(read_element(path, f"uns/{key}"), group, str(path))


def _row(path: Path, layer: str, row: int) -> np.ndarray:
    with open_source(path, layer) as source:
        if not isinstance(source.storage, DenseStorage):
            raise InputError(f"{source.where} is a sparse matrix; results are stored dense")
        return _float(source.storage.array[row])


def _in_memory(adata: Any, group: str, key: str) -> GroupTable:
    where = "the AnnData in memory"
    if LFC in adata.layers and P_ADJ in adata.layers:
        row = _position(group, adata.obs_names, where)
        genes = adata.var_names.to_numpy(dtype=object)
        return GroupTable(
            group, genes, _float(adata.layers[LFC][row]), _float(adata.layers[P_ADJ][row])
        )
    if key not in adata.uns:
        raise _no_result(where, key)
    return _scanpy_table(adata.uns[key], group, where)


def _scanpy_table(ranked: Any, group: str, where: str) -> GroupTable:
    names = ranked["names"]
    _position(group, names.dtype.names or (), f"{where}, uns")
    if "logfoldchanges" not in ranked:
        raise InputError(f"{where}: the ranking has no 'logfoldchanges'; rank against a reference")
    return GroupTable(
        group,
        np.array([_text(name) for name in names[group]], dtype=object),
        _float(ranked["logfoldchanges"][group]),
        _float(ranked["pvals_adj"][group]),
    )


def _position(group: str, known: Iterable[Any], where: str) -> int:
    labels = [_text(label) for label in known]
    if group not in labels:
        raise InputError(f"group {group!r} is not in {where}, which holds {_shown(labels)}")
    return labels.index(group)


def _no_result(where: str, key: str) -> InputError:
    return InputError(
        f"{where} holds no differential expression: neither the layers {LFC!r} and {P_ADJ!r} nor "
        f"uns[{key!r}]; run cx.tl.rank_genes_groups first, or give key="
    )


def _float(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=np.float64).ravel()


def _text(label: Any) -> str:
    return label.decode() if isinstance(label, bytes) else str(label)


def _shown(labels: Iterable[Any]) -> str:
    names = [str(label) for label in labels]
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return (", ".join(repr(name) for name in names[:SHOWN]) or "nothing") + rest
