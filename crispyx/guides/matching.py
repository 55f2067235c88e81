"""Calls matched to the cells of an expression data set by barcode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.annotations import plain_column
from crispyx.errors import InputError
from crispyx.guides.held import Calls

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 3
SUFFIX = "-1"  # of Cell Ranger's only lane
CONSTRUCT_COLUMNS = ("construct", "guide_class")
ONE = ("single", "pair")


def positions_of(barcodes: np.ndarray, calls: Calls, where: str) -> tuple[np.ndarray, str]:
    """Return where the calls of every cell are, and what was left out to find them.

    Barcodes are compared as they are. Only when none agrees, a suffix ``-1`` that one side has and
    the other has not is left out.

    Parameters
    ----------
    barcodes : numpy.ndarray (n_cells,) str
        Cells of the expression data, unique.
    calls : Calls
        Calls of some or all of them.
    where : str
        The expression data, for messages.

    Returns
    -------
    position : numpy.ndarray (n_cells,) int64
        Row among the calls, -1 for none.
    suffix : str
        ``"-1"``, or empty.

    Raises
    ------
    InputError
        No barcode in common.
    """
    import pandas as pd

    position = pd.Index(calls.barcodes).get_indexer(pd.Index(barcodes))
    if (position >= 0).any():
        return position, ""
    ours, theirs = (
        pd.Index([name.removesuffix(SUFFIX) for name in names])
        for names in (barcodes, calls.barcodes)
    )
    if ours.is_unique and theirs.is_unique:
        position = theirs.get_indexer(ours)
    if not (position >= 0).any():
        raise InputError(_nothing_in_common(barcodes, calls, where))
    return position, SUFFIX


def match_cells(
    barcodes: np.ndarray,
    calls: Calls,
    target_of: dict[str, str] | None,
    names: tuple[str, str],
    position: np.ndarray,
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the columns to add for every cell, and how many cells went which way.

    Parameters
    ----------
    barcodes : numpy.ndarray (n_cells,) str
        Cells of the expression data, unique.
    calls : Calls
        Calls of some or all of them.
    target_of : dict or None
        Perturbation of every guide; None takes the constructs that the calls hold.
    names : tuple (perturbation_column, guide_column)
        Names of the two label columns.
    position : numpy.ndarray (n_cells,) int64
        Of :func:`positions_of`.

    Raises
    ------
    InputError
        A call of a guide the calls do not list.
    """
    import pandas as pd

    matched = position >= 0
    multi = matched & calls.table["is_multi_infected"].to_numpy(bool)[position]
    none = matched & calls.table["is_unassigned"].to_numpy(bool)[position]
    several = multi
    if target_of is None:
        classes = plain_column(calls.table["guide_class"])[position]
        several = matched & ~none & ~np.isin(classes.astype(str), ONE)
    one = matched & ~several & ~none
    guide = _labels(calls, "guide_id", position, one)
    if target_of is None:
        perturbation = _labels(calls, "target", position, one)
    else:
        _require_listed(guide, one, target_of, barcodes, calls)
        perturbation = np.array([target_of.get(name) for name in guide], dtype=object)
    umi = _taken(calls.table["umi_count"], position, np.uint32)
    umi[~one] = pd.NA
    added = pd.DataFrame(
        {
            names[0]: pd.Categorical(perturbation),
            names[1]: pd.Categorical(guide),
            "guide_umi": umi,
            "n_guides_detected": _taken(calls.table["n_guides_detected"], position, np.uint8),
            "is_multi_infected": multi,
        },
        index=pd.Index(barcodes),
    )
    if target_of is None:
        for name in CONSTRUCT_COLUMNS:
            added[name] = pd.Categorical(_labels(calls, name, position, matched))
    n_matched = int(matched.sum())
    return added, {
        "n_cells": len(barcodes),
        "n_matched": n_matched,
        "n_one_guide": int(one.sum()),
        "n_several_guides": int(several.sum()),
        "n_no_guide": int(none.sum()),
        "n_not_in_calls": len(barcodes) - n_matched,
        "n_only_in_calls": len(calls.barcodes) - n_matched,
    }


def _labels(calls: Calls, name: str, position: np.ndarray, use: np.ndarray) -> np.ndarray:
    """Return a column of the calls for the cells in use, None elsewhere."""
    labels = np.full(len(position), None, dtype=object)
    labels[use] = plain_column(calls.table[name])[position[use]]
    return labels


def carried_perturbations(
    calls: Calls, target_of: dict[str, str], position: np.ndarray
) -> tuple[Any, np.ndarray]:
    """Return every perturbation of every cell, one or several.

    Parameters
    ----------
    calls, target_of, position
        As in :func:`match_cells`.

    Returns
    -------
    carried : scipy.sparse.csr_matrix (n_cells, n_perturbations) uint8
        1 where a cell has a guide of the perturbation; cells without calls have none.
    names : numpy.ndarray (n_perturbations,) str
        In order of first appearance among the guides.
    """
    from scipy import sparse

    names = list(dict.fromkeys(target_of[guide] for guide in calls.guides))
    column = {name: at for at, name in enumerate(names)}
    target = np.array([column[target_of[guide]] for guide in calls.guides])
    assigned = sparse.csr_matrix(calls.assigned())
    matched = np.flatnonzero(position >= 0)
    found = assigned[position[matched]].tocoo()
    kept = found.data != 0
    carried = sparse.csr_matrix(
        (
            np.ones(int(kept.sum()), dtype=np.uint8),
            (matched[found.row[kept]], target[found.col[kept]]),
        ),
        shape=(len(position), len(names)),
    )
    carried.sum_duplicates()
    carried.data[:] = 1
    return carried, np.array(names, dtype=object)


def carried_constructs(calls: Calls, position: np.ndarray) -> tuple[Any, np.ndarray]:
    """Return the targets of every construct of every cell; see :func:`carried_perturbations`."""
    from scipy import sparse

    carried, targets = calls.constructs()
    names = list(dict.fromkeys(targets))
    column = {name: at for at, name in enumerate(names)}
    of_target = sparse.csr_matrix(
        (
            np.ones(len(targets), dtype=np.uint8),
            (np.arange(len(targets)), [column[target] for target in targets]),
        ),
        shape=(len(targets), len(names)),
    )
    matched = np.flatnonzero(position >= 0)
    found = (sparse.csr_matrix(carried)[position[matched]] @ of_target).tocoo()
    ones = np.ones(found.nnz, dtype=np.uint8)
    joined = sparse.csr_matrix(
        (ones, (matched[found.row], found.col)), shape=(len(position), len(names))
    )
    return joined, np.array(names, dtype=object)


def _taken(column: pd.Series, position: np.ndarray, smallest: type) -> Any:
    """Return nullable unsigned integers, missing where position is -1, wide enough for them."""
    values = column.astype("UInt64").array.take(position, allow_fill=True)
    largest = int(column.max()) if column.notna().any() else 0
    kind = np.result_type(smallest, np.min_scalar_type(largest))
    return values.astype(f"UInt{8 * kind.itemsize}")


def _require_listed(
    guide: np.ndarray,
    one: np.ndarray,
    target_of: dict[str, str],
    barcodes: np.ndarray,
    calls: Calls,
) -> None:
    for cell in np.flatnonzero(one):
        if guide[cell] not in target_of:
            raise InputError(
                f"{calls.where}: the guide_id of cell {barcodes[cell]!r} is {guide[cell]!r}, which "
                "is not among the guides in var; give what crispyx.guides.assign returned as calls"
            )


def _nothing_in_common(barcodes: np.ndarray, calls: Calls, where: str) -> str:
    ours, theirs = (
        ", ".join(repr(name) for name in names[:SHOWN]) for names in (barcodes, calls.barcodes)
    )
    return (
        f"no barcode of {where} ({ours}, ...) is in {calls.where} ({theirs}, ...). Cell Ranger "
        "ends barcodes with a suffix such as '-1' and pipelines put lanes in front: write both "
        "alike, for example adata.obs_names = adata.obs_names.str.removesuffix('-1')"
    )
