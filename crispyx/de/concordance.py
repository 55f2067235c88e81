"""Whether the guides of one target agree."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from crispyx.de.results import RankGenesGroupsResult
from crispyx.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def guide_concordance(
    result: RankGenesGroupsResult,
    guide_to_target: Mapping[str, str],
    *,
    alpha: float = 0.05,
    per: Literal["pair", "target"] = "pair",
) -> pd.DataFrame:
    """Compare the effects of the guides of each target, pair by pair.

    Two guides of one target that do the same agree in the direction and the order of their fold
    changes and share significant genes. What one guide does alone is likely off target, and a guide
    that does nothing is likely inactive.

    Parameters
    ----------
    result : RankGenesGroupsResult
        Result of a test with ``groupby`` the obs column of guides.
    guide_to_target : mapping of str to str
        Target of each guide; guides of the result that are missing in it are left out.
    alpha : float
        Genes with an adjusted p below it count as significant.
    per : {"pair", "target"}
        One row per pair of guides of one target, or per target.

    Returns
    -------
    pandas.DataFrame
        Per pair, in the order of the result: ``target``,
        ``guide_1``, ``guide_2``; ``n_genes`` tested in both; ``spearman``, the rank correlation of
        their fold changes; ``n_significant_1``, ``n_significant_2``, ``n_shared`` significant
        genes; ``jaccard`` of these; ``sign_agreement``, the fraction of genes significant in at
        least one of both whose statistics have the same sign; ``pvalue_shared``, the
        hypergeometric probability of sharing as many or more by chance. Per target (the index):
        ``n_guides``; medians over its pairs of ``spearman``, ``jaccard`` and ``sign_agreement``;
        ``n_significant_any``, ``n_significant_two`` and ``n_significant_all``, the genes
        significant in one, two and all of its guides or more. NaN where a quantity has no value.
        Targets with one guide have no row.

    Raises
    ------
    InputError
        No target has two guides in the result; ``alpha`` outside (0, 1]; another ``per``.
    """
    import pandas as pd

    if not 0 < alpha <= 1:
        raise InputError(f"alpha is {alpha!r}; give a number above 0 and up to 1")
    if per not in ("pair", "target"):
        raise InputError(f"per is {per!r}; choose 'pair' or 'target'")
    rows_of: dict[str, list[int]] = {}
    for row, guide in enumerate(result.groups):
        if guide in guide_to_target:
            rows_of.setdefault(str(guide_to_target[guide]), []).append(row)
    pairs = [(t, a, b) for t, rows in rows_of.items() for a, b in combinations(rows, 2)]
    if not pairs:
        raise InputError(
            "no target has two guides in the result: guide_to_target maps "
            f"{sum(map(len, rows_of.values()))} of its {len(result.groups)} groups to "
            f"{len(rows_of)} targets; groups begin with {list(result.groups[:3])}"
        )
    tables = [
        {
            "target": target,
            "guide_1": result.groups[first],
            "guide_2": result.groups[second],
            **_agreement(result, first, second, alpha),
        }
        for target, first, second in pairs
    ]
    of_pairs = pd.DataFrame(tables)
    if per == "pair":
        return of_pairs
    of_pairs = of_pairs.groupby("target", sort=False)
    medians = of_pairs[["spearman", "jaccard", "sign_agreement"]].median()
    counts = {target: _guides_per_gene(result, rows_of[target], alpha) for target in medians.index}
    return pd.DataFrame(counts).T.join(medians).rename_axis("target")


def _guides_per_gene(
    result: RankGenesGroupsResult, rows: list[int], alpha: float
) -> dict[str, int]:
    n_significant = (result.pvalues_adj[rows] < alpha).sum(axis=0)
    least = {"any": 1, "two": 2, "all": len(rows)}
    found = {f"n_significant_{k}": int(np.sum(n_significant >= n)) for k, n in least.items()}
    return {"n_guides": len(rows), **found}


def _agreement(
    result: RankGenesGroupsResult, first: int, second: int, alpha: float
) -> dict[str, Any]:
    pair = [first, second]
    statistics, adjusted = result.statistics[pair], result.pvalues_adj[pair]
    changes = result.logfoldchanges[pair]
    tested = np.isfinite(statistics).all(axis=0)
    significant = (adjusted < alpha) & tested
    n_first, n_second = (int(n) for n in significant.sum(axis=1))
    shared, either = int(significant.all(axis=0).sum()), significant.any(axis=0)
    signs = np.sign(statistics[:, either])
    n_either = int(either.sum())
    return {
        "n_genes": int(tested.sum()),
        "spearman": _spearman(*changes[:, tested & np.isfinite(changes).all(axis=0)]),
        "n_significant_1": n_first,
        "n_significant_2": n_second,
        "n_shared": shared,
        "jaccard": shared / n_either if n_either else np.nan,
        "sign_agreement": float(np.mean(signs[0] == signs[1])) if n_either else np.nan,
        "pvalue_shared": _overlap_pvalue(int(tested.sum()), n_first, n_second, shared),
    }


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Return the correlation of midranks, NaN where one side does not vary."""
    from scipy.stats import rankdata

    ranks = [rankdata(values) for values in (first, second)]
    if len(first) < 2 or any(np.ptp(rank) == 0 for rank in ranks):
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def _overlap_pvalue(n_genes: int, n_first: int, n_second: int, n_shared: int) -> float:
    """Return the chance that sets of these sizes share as many genes or more."""
    from scipy.stats import hypergeom

    if n_genes == 0:
        return float("nan")
    return float(hypergeom.sf(n_shared - 1, n_genes, n_first, n_second))
