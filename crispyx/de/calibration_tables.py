"""Tables of p-values where nothing has an effect, and the result that holds them.

``reference.calibration`` says what each quantity is.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.record import read_record
from crispyx._stats.calibration import inflation, quantiles, ranks_of, share_below
from crispyx.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

EDGES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, np.inf)
BINS = ("< .01", ".01-.03", ".03-.1", ".1-.3", ".3-1", "> 1")
ALL_GENES = "all"
LEVELS = (0.05, 0.01, 0.001)
TOO_MANY = {0.05: 0.06, 0.001: 0.002}  # shares that a test which keeps its level stays below
N_QUANTILES = 160
KIND = "calibration"
TABLES = ("bins", "quantiles", "depth", "depth_effect", "groups")


@dataclass(frozen=True)
class CalibrationResult:
    """What tests say about groups of control cells, where every null hypothesis is true.

    Attributes
    ----------
    bins : pandas.DataFrame
        A row for each ``kind`` ("splits", "guides", "depth"), ``method`` and ``mean_count`` (bin of
        the mean count of the gene in the control; "all" for all genes): ``tests``; for each level
        .05, .01 and .001 ``share_05``, the share of p below it, with its exact 99 % binomial
        interval ``low_05``, ``high_05``, and so on; ``inflation``.
    quantiles : pandas.DataFrame
        For quantile-quantile plots, by ``kind`` and ``method``: ``expected`` and ``observed``
        p-values, and the 99 % interval ``low``, ``high`` of that order statistic of as many
        independent uniform values.
    depth : pandas.DataFrame
        A row for each perturbation: ``n_cells``, ``median_count`` of its cells, ``ratio`` to the
        control's median, and ``shift``: "shallower", "deeper" or "".
    depth_effect : pandas.DataFrame
        For perturbations with a shift that was imitated, and each method: ``ratio`` and the columns
        of ``bins``.
    groups : pandas.DataFrame
        Pseudo-perturbations that were tested: ``kind``, ``split``, ``perturbation`` (whose size,
        batches or depth it has, or the guide), ``n_cells``, and ``kept`` and ``control_kept``, the
        shares of its own and of the other cells' molecules that thinning left.
    parameters : dict
        What was asked.
    result_path : pathlib.Path
        File of the result.
    """

    bins: pd.DataFrame
    quantiles: pd.DataFrame
    depth: pd.DataFrame
    depth_effect: pd.DataFrame
    groups: pd.DataFrame
    parameters: dict[str, Any]
    result_path: Path

    @property
    def methods(self) -> list[str]:
        """Methods, in the order they were asked for."""
        return list(dict.fromkeys(self.bins["method"]))

    def of_all_genes(self, kind: str = "splits") -> pd.DataFrame:
        """Return the rows of ``bins`` over all genes, by method."""
        chosen = (self.bins["kind"] == kind) & (self.bins["mean_count"] == ALL_GENES)
        return self.bins[chosen].set_index("method")

    def summary(self) -> str:
        """Return what was found, in words."""
        lines = []
        for kind, what in (
            ("splits", "control cells against control cells"),
            ("guides", "control guides against the other control guides"),
        ):
            for method, row in self.of_all_genes(kind).iterrows():
                verdict = _verdict(row)
                lines.append(
                    f"{method}, {what}: {row['share_05']:.3f} of {int(row['tests']):,} p-values "
                    f"are below .05 and {row['share_001']:.4f} below .001; {verdict}."
                )
        tolerance = self.parameters["max_depth_shift"]
        for shift in ("shallower", "deeper"):
            labels = list(self.depth.loc[self.depth["shift"] == shift, "perturbation"])
            if labels:
                more = f" and {len(labels) - 5} more" if len(labels) > 5 else ""
                lines.append(
                    f"{len(labels)} of {len(self.depth)} perturbations are {shift} than the "
                    f"control by more than {tolerance:.0%}: {', '.join(labels[:5])}{more}."
                )
        if not (self.depth["shift"] != "").any():
            lines.append(
                f"No perturbation differs from the control in depth by more than {tolerance:.0%}."
            )
        for method, row in self.of_all_genes("depth").iterrows():
            lines.append(
                f"{method}, at the depth of such perturbations and without any effect: "
                f"{row['share_05']:.3f} below .05, {row['share_001']:.4f} below .001; "
                f"{_verdict(row)}."
            )
        return "\n".join(lines)


def _verdict(row: pd.Series) -> str:
    above = [
        f"{level:g}" for level, most in TOO_MANY.items() if row[f"low_{level_name(level)}"] > most
    ]
    if above:
        return f"far too many at {' and '.join(above)}"
    if row["high_05"] < 0.04:
        return "fewer than the level, so that it is careful at the cost of power"
    return "about as many as there should be, or fewer"


def level_name(level: float) -> str:
    """Return a level as column names have it: .05 is "05"."""
    return f"{level:g}".removeprefix("0.")


def shares_of(pvalues: np.ndarray) -> dict[str, Any]:
    """Return the columns of ``CalibrationResult.bins`` of p-values without NaN."""
    n = len(pvalues)
    row: dict[str, Any] = {"tests": n}
    for level in LEVELS:
        found, name = share_below(pvalues, level), level_name(level)
        row |= dict(zip((f"share_{name}", f"low_{name}", f"high_{name}"), found, strict=True))
    return {**row, "inflation": inflation(pvalues)}


def quantiles_of(pvalues: np.ndarray) -> dict[str, np.ndarray]:
    """Return observed against expected p-values at ranks that are dense where p is small."""
    columns = quantiles(pvalues, ranks_of(len(pvalues), N_QUANTILES))
    return dict(zip(("expected", "observed", "low", "high"), columns, strict=True))


def load_calibration(path: str | os.PathLike[str]) -> CalibrationResult:
    """Read what :func:`crispyx.de.calibration` wrote.

    Parameters
    ----------
    path : path
        Its file.

    Returns
    -------
    CalibrationResult
        The tables.

    Raises
    ------
    InputError
        The file is no such result.
    """
    from crispyx._io.elements import read_element

    file = Path(path).expanduser()
    record = read_record(file)
    if record is None or record["kind"] != KIND:
        raise InputError(
            f"{str(file)!r} is no result of cx.tl.calibration; run it, or name its file"
        )
    tables = {}
    for name in TABLES:
        table = read_element(file, f"uns/{KIND}/{name}").reset_index(drop=True)
        for column in table.columns[table.dtypes == "category"]:
            table[column] = table[column].astype(object)
        tables[name] = table
    return CalibrationResult(**tables, parameters=record["parameters"], result_path=file)
