"""Results of differential expression, one perturbation at a time, from wherever they are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.elements import element_names, read_element, read_table
from crispyx._io.paths import resolve_data_path
from crispyx._io.result_file import ResultFile
from crispyx.de import RankGenesGroupsResult
from crispyx.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

Columns = dict[str, np.ndarray]

KEY = "rank_genes_groups"
NAMES, SCORES, LFC, P_ADJ = "names", "scores", "logfoldchanges", "pvals_adj"
# scanpy's name of a column: (layer of a result file, attribute of a result)
TABLES = {
    SCORES: ("z_score", "statistics"),
    LFC: ("logfoldchanges", "logfoldchanges"),
    "pvals": ("pvalue", "pvalues"),
    P_ADJ: ("pvalue_adj", "pvalues_adj"),
    "pts": ("pts", "pts"),
    "pts_rest": ("pts_rest", "pts_rest"),
}
# Of the rank-sum test only.
RANK_TABLES = {"auc": ("X", "effect_size"), "u_stat": ("u_statistic", "u_statistics")}
COLUMNS = (NAMES, *TABLES, *RANK_TABLES)
# scanpy's name of a parameter: (entry of uns in a result file, attribute of a result)
PARAMS = {
    "groupby": ("perturbation_column", "groupby"),
    "reference": ("control_label", "control_label"),
    "method": ("method", "method"),
    "corr_method": ("pvalue_correction", "pvalue_correction"),
}
SHOWN = 10
BLOCK = 4_000_000  # values of a table read at once
# Of tests with a standard error of the fold change.
ERRORS = {"lfcse": "standard_error"}


@dataclass(frozen=True)
class Ranking:
    """All perturbations of a result; the numbers of one are read when asked for.

    Attributes
    ----------
    where : str
        What holds the result, for messages.
    groups : tuple of str
        Perturbations.
    params : mapping
        What is known of ``groupby``, ``reference``, ``method`` and ``corr_method``.
    ranked : bool
        Genes come in an order of their own (scanpy's), not in that of the tables.
    genes : callable
        Reads the table of the genes, a pandas.DataFrame.
    read : callable
        Reads the columns of the perturbation at a position.
    file : ResultFile or None
        The result file, where there is one.
    """

    where: str
    groups: tuple[str, ...]
    params: Mapping[str, Any]
    ranked: bool
    genes: Callable[[], pd.DataFrame]
    read: Callable[[int], Columns]
    file: ResultFile | None = None

    def gene_names(self) -> np.ndarray:
        """Return the genes (n_genes,) str objects, in the order of :meth:`profiles`."""
        if self.file is not None:
            return self.file.genes
        return np.array([str(name) for name in self.read(0)[NAMES]], dtype=object)

    def known(self, names: Sequence[str]) -> list[str]:
        """Return those of the columns that there are."""
        if self.file is not None:
            return [name for name in names if _layer_of(name) in self.file]
        columns = self.read(0)
        return [name for name in names if name in columns]

    def profiles(self, names: Sequence[str]) -> Iterator[list[np.ndarray]]:
        """Yield columns of one perturbation after the other, (n_genes,) float64 each.

        A result file is read in runs of rows. Where genes are ranked, they are put into the order
        of the first perturbation.

        Raises
        ------
        InputError
            A column is missing.
        """
        if self.file is not None:
            layers = [_layer_of(name) for name in names]
            n_rows = max(1, BLOCK // len(self.file.genes))
            for _, tables in self.file.blocks(layers, n_rows):
                for k in range(len(tables[0])):
                    yield [np.asarray(table[k], dtype=np.float64) for table in tables]
            return
        place = {name: position for position, name in enumerate(self.gene_names())}
        for position in range(len(self.groups)):
            columns = self.read(position)
            missing = [name for name in names if name not in columns]
            if missing:
                raise InputError(f"{self.where} lacks {missing[0]!r}; it has {shown(columns)}")
            order = [place[str(name)] for name in columns[NAMES]]
            tables = []
            for name in names:
                table = np.full(len(place), np.nan)
                table[order] = columns[name]
                tables.append(table)
            yield tables

    def columns(self, group: str) -> Columns:
        """Return the columns of one perturbation, those of :data:`COLUMNS` that there are.

        Raises
        ------
        InputError
            No such perturbation.
        """
        if group not in self.groups:
            raise InputError(
                f"group {group!r} is not in {self.where}, which holds {shown(self.groups)}"
            )
        return self.read(self.groups.index(group))


def find_ranking(data: Any, key: str) -> Ranking:
    """Find the result in whatever holds it.

    Parameters
    ----------
    data : RankGenesGroupsResult, path, crispyx.AnnData or anndata.AnnData
        A result, a result file, or anything with scanpy's ``uns[key]``.
    key : str
        Key of scanpy's results in uns. Where there are tables of crispyx, they are read instead
        under the usual key ``"rank_genes_groups"``.

    Raises
    ------
    InputError
        There is no result.
    """
    if isinstance(data, RankGenesGroupsResult):
        return _of_result(data)
    if getattr(data, "isbacked", True) is False:
        return _in_memory(data, key)
    path = resolve_data_path(data)
    if key == KEY and {"logfoldchanges", "pvalue_adj"} <= set(element_names(path, "layers")):
        return _in_result_file(path)
    if hasattr(data, "isbacked") and not isinstance(getattr(data, "path", None), Path):
        # A backed anndata.AnnData keeps uns in memory, where it may be ahead of the file.
        return _scanpys(data.uns, key, str(path), lambda: data.var)
    uns = {key: read_element(path, f"uns/{key}")} if key in element_names(path, "uns") else {}
    return _scanpys(uns, key, str(path), lambda: read_table(path, "var"))


def by_score(columns: Columns, n_genes: int | None = None) -> Columns:
    """Return columns sorted by falling absolute score, NaN last, cut after ``n_genes``."""
    order = np.argsort(-np.abs(columns[SCORES].astype(np.float64)), kind="stable")[:n_genes]
    return {name: values[order] for name, values in columns.items()}


def shown(labels: Iterable[Any]) -> str:
    """Return the first labels as text for a message."""
    names = [str(label) for label in labels]
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return (", ".join(repr(name) for name in names[:SHOWN]) or "nothing") + rest


def _of_result(result: RankGenesGroupsResult) -> Ranking:
    import pandas as pd

    names = np.asarray(result.genes, dtype=object)
    tables = TABLES | (RANK_TABLES if result.method == "wilcoxon" else {})

    def read(row: int) -> Columns:
        # A result of a file reads one row of each table.
        return {NAMES: names} | {
            name: np.asarray(result._row(table, row)) for name, (_, table) in tables.items()
        }

    return Ranking(
        where="the result",
        groups=tuple(result.groups),
        params={name: getattr(result, attribute) for name, (_, attribute) in PARAMS.items()},
        ranked=False,
        genes=lambda: pd.DataFrame(index=pd.Index(result.genes)),
        read=read,
    )


def _in_result_file(path: Path) -> Ranking:
    file = ResultFile(path)
    layers = _layers(lambda name: name in file)
    return Ranking(
        where=str(path),
        groups=tuple(file.groups),
        params={name: file.notes[k] for name, (k, _) in PARAMS.items() if k in file.notes},
        ranked=False,
        genes=lambda: read_table(path, "var"),
        read=lambda row: (
            {NAMES: file.genes} | {name: file.table(layer, row) for name, layer in layers.items()}
        ),
        file=file,
    )


def _in_memory(adata: Any, key: str) -> Ranking:
    where = "the AnnData in memory"
    if key != KEY or not {"logfoldchanges", "pvalue_adj"} <= set(adata.layers):
        return _scanpys(adata.uns, key, where, lambda: adata.var)
    layers = _layers(lambda name: name == "X" or name in adata.layers)
    names = adata.var_names.to_numpy(dtype=object)

    def read(row: int) -> Columns:
        rows = {
            name: adata.X[row] if layer == "X" else adata.layers[layer][row]
            for name, layer in layers.items()
        }
        return {NAMES: names} | {name: np.asarray(values).ravel() for name, values in rows.items()}

    return Ranking(
        where=where,
        groups=tuple(map(str, adata.obs_names)),
        params={name: adata.uns[k] for name, (k, _) in PARAMS.items() if k in adata.uns},
        ranked=False,
        genes=lambda: adata.var,
        read=read,
    )


def _layer_of(name: str) -> str:
    return ERRORS[name] if name in ERRORS else TABLES[name][0]


def _layers(has: Callable[[str], bool]) -> dict[str, str]:
    tables = TABLES | (RANK_TABLES if has("u_statistic") else {})
    layers = {name: layer for name, (layer, _) in tables.items()} | ERRORS
    return {name: layer for name, layer in layers.items() if has(layer)}


def _scanpys(
    uns: Mapping[str, Any], key: str, where: str, genes: Callable[[], pd.DataFrame]
) -> Ranking:
    if key not in uns:
        raise InputError(
            f"{where} holds no differential expression: neither the layers 'logfoldchanges' and "
            f"'pvalue_adj' nor uns[{key!r}]; run cx.tl.rank_genes_groups first, or give key="
        )
    ranked = uns[key]
    fields = getattr(ranked.get(NAMES), "dtype", np.dtype(object)).names
    if not fields:
        raise InputError(f"{where}: uns[{key!r}] is no ranking of genes: it has no table 'names'")

    def read(position: int) -> Columns:
        group = fields[position]
        names = np.array([_text(name) for name in ranked[NAMES][group]], dtype=object)
        columns = {NAMES: names}
        for name in COLUMNS[1:]:
            if name in ranked:
                columns[name] = _scanpy_column(ranked[name], group, names)
        return columns

    params = dict(ranked.get("params", {}))
    return Ranking(
        where=f"{where}, uns[{key!r}]",
        groups=tuple(map(_text, fields)),
        params={name: _text(params[name]) for name in PARAMS if params.get(name) is not None},
        ranked=True,
        genes=genes,
        read=read,
    )


def _scanpy_column(table: Any, group: str, names: np.ndarray) -> np.ndarray:
    if hasattr(table, "reindex"):  # scanpy keeps fractions by gene, not by rank
        return table[group].reindex(names).to_numpy()
    return np.asarray(table[group])


def _text(label: Any) -> str:
    return label.decode() if isinstance(label, bytes) else str(label)
