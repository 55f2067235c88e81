"""Calls matched to the cells of an expression data set by barcode."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from crispyx._io.annotations import as_text, plain_column
from crispyx._io.elements import element_names, read_element, read_table
from crispyx._io.paths import resolve_data_path
from crispyx.errors import InputError, MissingColumnError
from crispyx.guides.counts import require_unique_names

if TYPE_CHECKING:
    import pandas as pd

NEEDED = ("guide_id", "umi_count", "is_unassigned", "is_multi_infected", "n_guides_detected")
SHOWN = 3


@dataclass(frozen=True)
class Calls:
    """The calls of every cell.

    Attributes
    ----------
    table : pandas.DataFrame
        obs of what ``assign`` returned.
    barcodes : numpy.ndarray (n_cells,) str
        Its index, unique.
    guides : numpy.ndarray (n_guides,) str
        All guides, called or not.
    model : str
        Assignment model; ``"unknown"`` when the calls do not say.
    path : pathlib.Path or None
        Their file; None for calls in memory.
    where : str
        File, for messages.
    adata : anndata.AnnData or None
        The calls in memory, if they are.
    """

    COLUMNS: ClassVar[tuple[str, ...]] = ("guide_umi", "n_guides_detected", "is_multi_infected")

    table: pd.DataFrame
    barcodes: np.ndarray
    guides: np.ndarray
    model: str
    path: Path | None
    where: str
    adata: Any

    def assigned(self) -> Any:
        """Return the layer of calls, cells x guides."""
        if self.adata is not None:
            return self.adata.layers["assigned"]
        assert self.path is not None  # not in memory
        return read_element(self.path, "layers/assigned")


def read_calls(calls: Any) -> Calls:
    """Return the calls held by a file or an AnnData.

    Raises
    ------
    MissingColumnError
        Not what ``assign`` returns.
    InputError
        A barcode or guide that stands twice.
    """
    if getattr(calls, "isbacked", None) is False:
        path, where, adata = None, "the calls in memory", calls
        table, guides, noted = calls.obs, calls.var_names, calls.uns.get("crispyx_guides", {})
    else:
        path, adata = resolve_data_path(calls), None
        where = str(path)
        table, guides = read_table(path, "obs"), read_table(path, "var").index
        has_note = "crispyx_guides" in element_names(path, "uns")
        noted = read_element(path, "uns/crispyx_guides") if has_note else {}
    missing = [name for name in NEEDED if name not in table.columns]
    if missing:
        raise MissingColumnError(
            f"obs of {where} has no {', '.join(map(repr, missing))}; give what "
            "crispyx.guides.assign returned as calls"
        )
    barcodes, guide_names = (as_text(np.asarray(names)) for names in (table.index, guides))
    require_unique_names(barcodes, guide_names, where)
    return Calls(
        table, barcodes, guide_names, str(noted.get("model", "unknown")), path, where, adata
    )


def match_cells(
    barcodes: np.ndarray,
    calls: Calls,
    target_of: dict[str, str],
    names: tuple[str, str],
    where: str,
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the columns to add for every cell, and how many cells went which way.

    Parameters
    ----------
    barcodes : numpy.ndarray (n_cells,) str
        Cells of the expression data, unique.
    calls : Calls
        Calls of some or all of them.
    target_of : dict
        Perturbation of every guide.
    names : tuple (perturbation_column, guide_column)
        Names of the two label columns.
    where : str
        The expression data, for messages.

    Raises
    ------
    InputError
        No barcode in common; a call of a guide the calls do not list.
    """
    import pandas as pd

    position = pd.Index(calls.barcodes).get_indexer(pd.Index(barcodes))
    matched = position >= 0
    if not matched.any():
        raise InputError(_nothing_in_common(barcodes, calls, where))
    several = matched & calls.table["is_multi_infected"].to_numpy(bool)[position]
    none = matched & calls.table["is_unassigned"].to_numpy(bool)[position]
    one = matched & ~several & ~none
    guide = np.full(len(barcodes), None, dtype=object)
    guide[one] = plain_column(calls.table["guide_id"])[position[one]]
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
            "is_multi_infected": several,
        },
        index=pd.Index(barcodes),
    )
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


def carried_perturbations(
    barcodes: np.ndarray, calls: Calls, target_of: dict[str, str]
) -> tuple[Any, np.ndarray]:
    """Return every perturbation of every cell, one or several.

    Parameters
    ----------
    barcodes, calls, target_of
        As in :func:`match_cells`.

    Returns
    -------
    carried : scipy.sparse.csr_matrix (n_cells, n_perturbations) uint8
        1 where a cell has a guide of the perturbation; cells without calls have none.
    names : numpy.ndarray (n_perturbations,) str
        In order of first appearance among the guides.
    """
    import pandas as pd
    from scipy import sparse

    names = list(dict.fromkeys(target_of[guide] for guide in calls.guides))
    column = {name: at for at, name in enumerate(names)}
    assigned = sparse.csr_matrix(calls.assigned()).tocoo()
    position = pd.Index(barcodes).get_indexer(pd.Index(calls.barcodes))
    target = np.array([column[target_of[guide]] for guide in calls.guides])
    kept = (position[assigned.row] >= 0) & (assigned.data != 0)
    carried = sparse.csr_matrix(
        (
            np.ones(int(kept.sum()), dtype=np.uint8),
            (position[assigned.row[kept]], target[assigned.col[kept]]),
        ),
        shape=(len(barcodes), len(names)),
    )
    carried.sum_duplicates()
    carried.data[:] = 1
    return carried, np.array(names, dtype=object)


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
