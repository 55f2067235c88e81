"""How much named sets have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from crispyx.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("count", "jaccard", "both")


@dataclass
class OverlapResult:
    """Overlap of every two sets.

    Attributes
    ----------
    count_matrix : pandas.DataFrame (n_sets, n_sets) int64
        Elements that both sets have.
    jaccard_matrix : pandas.DataFrame (n_sets, n_sets) float64
        Shared elements divided by elements of either set; 0 for two empty sets.
    set_sizes : pandas.Series (n_sets,) int64
        Elements of each set.

    A matrix that was not asked for is empty, with the names of the sets as its index.
    """

    count_matrix: pd.DataFrame
    jaccard_matrix: pd.DataFrame
    set_sizes: pd.Series


def compute_overlap(
    sets_dict: Mapping[str, Iterable[Any]],
    *,
    metric: Literal["count", "jaccard", "both"] = "both",
) -> OverlapResult:
    r"""Count what every two of several named sets have in common.

    .. math::  J(A, B) = |A \cap B| / |A \cup B|

    Parameters
    ----------
    sets_dict : mapping of str to set or list
        Elements by name; repeats in a list count once.
    metric : {"count", "jaccard", "both"}
        Matrices to fill.

    Returns
    -------
    OverlapResult

    Raises
    ------
    ValueError
        No set; another metric.

    Examples
    --------
    >>> found = compute_overlap({"a": {"BRCA1", "TP53", "EGFR"}, "b": ["TP53", "KRAS"]})
    >>> int(found.count_matrix.loc["a", "b"]), float(found.jaccard_matrix.loc["a", "b"])
    (1, 0.25)
    """
    import pandas as pd

    if metric not in METRICS:
        raise InputError(f"metric is {metric!r}; choose one of {METRICS}")
    if not sets_dict:
        raise InputError("sets_dict is empty; give at least one named set")
    names = list(sets_dict)
    sets = [set(sets_dict[name]) for name in names]
    sizes = np.array([len(one) for one in sets], dtype=np.int64)
    shared = np.array([[len(one & other) for other in sets] for one in sets], dtype=np.int64)
    either = sizes[:, None] + sizes[None, :] - shared
    jaccard = shared / np.maximum(either, 1)
    empty = pd.DataFrame(index=names)
    return OverlapResult(
        pd.DataFrame(shared, names, names) if metric != "jaccard" else empty,
        pd.DataFrame(jaccard, names, names) if metric != "count" else empty,
        pd.Series(sizes, names, name="size"),
    )
