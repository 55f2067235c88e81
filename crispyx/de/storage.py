"""Result files read back as results, table by table when asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from crispyx._io.result_file import ResultFile
from crispyx.data import AnnData
from crispyx.de.results import RankGenesGroupsResult, sort_order

TABLES = {
    "statistics": "z_score",
    "pvalues": "pvalue",
    "pvalues_adj": "pvalue_adj",
    "logfoldchanges": "logfoldchanges",
    "effect_size": "X",
    "u_statistics": "u_statistic",
    "pts": "pts",
    "pts_rest": "pts_rest",
}


class StoredResult(RankGenesGroupsResult):
    """A result whose tables are read from its file when first used.

    One perturbation, ``result[label]``, reads one row of each table.
    """

    def __init__(self, path: Path) -> None:
        import pandas as pd

        file = ResultFile(path)
        self._file = file
        self.genes = pd.Index(file.genes, name=file.gene_axis_name)
        self.groups = list(file.groups)
        self.groupby = str(file.notes["perturbation_column"])
        self.method = str(file.notes["method"])
        self.control_label = str(file.notes["control_label"])
        self.tie_correct = bool(file.notes.get("tie_correct", False))
        self.pvalue_correction = str(file.notes["pvalue_correction"])  # type: ignore[assignment]
        scope = str(file.notes.get("pvalue_correction_scope", "perturbation"))
        self.pvalue_correction_scope = scope  # type: ignore[assignment]
        self.alternative = str(file.notes.get("alternative", "two-sided"))  # type: ignore[assignment]
        self.result = AnnData(path)
        self.__post_init__()

    def __getattr__(self, name: str) -> Any:
        if name == "order":
            table = sort_order(self.statistics)
        elif name in TABLES:
            table = self._read(name)
        else:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        setattr(self, name, table)
        return table

    @property
    def log_pvalues(self) -> np.ndarray:
        """Natural logs of ``pvalues``, see :class:`RankGenesGroupsResult`."""
        return self._file.table("log_pvalue") if "log_pvalue" in self._file else super().log_pvalues

    @property
    def degrees_of_freedom(self) -> np.ndarray | None:  # type: ignore[override]
        """Those of a t-test, see :class:`RankGenesGroupsResult`."""
        name = "degrees_of_freedom"
        return self._file.table(name) if name in self._file else None

    def _row(self, name: str, row: int) -> np.ndarray:
        if name in self.__dict__:
            return super()._row(name, row)
        return self._read(name, row)

    def _read(self, name: str, row: int | None = None) -> np.ndarray:
        if TABLES[name] not in self._file:  # U is defined for ranks only
            return np.zeros_like(self._read("effect_size", row))
        return self._file.table(TABLES[name], row)


def load_result(path: str | Path) -> RankGenesGroupsResult:
    """Open the result file of :func:`t_test`, :func:`wilcoxon_test` or :func:`nb_glm_test`.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    RankGenesGroupsResult
        Its tables are read from the file when first used.

    Raises
    ------
    InputError
        The file is no such result, or is damaged.
    """
    return StoredResult(Path(path))
