"""Result files read back as results."""

from __future__ import annotations

from pathlib import Path

from crispyx._io.result_file import read_result
from crispyx.data import AnnData
from crispyx.de.results import RankGenesGroupsResult, sort_order


def load_result(path: Path) -> RankGenesGroupsResult:
    """Read a t-test or Wilcoxon result file.

    Raises
    ------
    InputError
        The file is none, or is damaged.
    """
    import numpy as np
    import pandas as pd

    tables, names, uns = read_result(path)
    effect, statistics = tables["X"], tables["z_score"]
    return RankGenesGroupsResult(
        genes=pd.Index(names["var"], name=names["var_name"]),
        groups=list(names["obs"]),
        statistics=statistics,
        pvalues=tables["pvalue"],
        pvalues_adj=tables["pvalue_adj"],
        logfoldchanges=tables["logfoldchanges"],
        effect_size=effect,
        u_statistics=tables.get("u_statistic", np.zeros_like(effect)),
        pts=tables["pts"],
        pts_rest=tables["pts_rest"],
        order=sort_order(statistics),
        groupby=str(uns["perturbation_column"]),
        method=str(uns["method"]),
        control_label=str(uns["control_label"]),
        tie_correct=bool(uns.get("tie_correct", False)),
        pvalue_correction=str(uns["pvalue_correction"]),  # type: ignore[arg-type]
        result=AnnData(path),
    )
