"""Tables of one row per cell and one row per guide, from called counts."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from crispyx.errors import CrispyxWarning
from crispyx.guides.counts import CalledCounts
from crispyx.guides.models import GuideModel

if TYPE_CHECKING:
    import pandas as pd

BARCODE = "cell_barcode"
NOT_ASSIGNED = -1


def top_calls(called: CalledCounts) -> np.ndarray:
    """Return, for every cell, the position of its call with the most UMIs, the first one on ties.

    Parameters
    ----------
    called : CalledCounts
        Counts and calls.

    Returns
    -------
    numpy.ndarray (n_cells,) int64
        Position among the counts; -1 for a cell without a call.
    """
    calls = np.flatnonzero(called.assigned)
    cells = called.cells[calls]
    most = np.zeros(called.shape[0], dtype=called.counts.dtype)
    np.maximum.at(most, cells, called.counts[calls])
    calls = calls[called.counts[calls] == most[cells]]
    cells, first = np.unique(called.cells[calls], return_index=True)
    top = np.full(called.shape[0], NOT_ASSIGNED, dtype=np.int64)
    top[cells] = calls[first]
    return top


def cell_table(
    called: CalledCounts, model: GuideModel | None, barcodes: np.ndarray, guides: np.ndarray
) -> pd.DataFrame:
    """Return the call of every cell (n_cells rows).

    Parameters
    ----------
    called : CalledCounts
        Counts and calls.
    model : GuideModel or None
        Rule that made them; None for a consensus of several.
    barcodes : numpy.ndarray (n_cells,) str
        Index of the table.
    guides : numpy.ndarray (n_guides,) str
        Guide names.
    """
    import pandas as pd

    n_cells = called.shape[0]
    top = top_calls(called)
    unassigned = top == NOT_ASSIGNED
    have = ~unassigned
    column = np.full(n_cells, NOT_ASSIGNED)
    column[have] = called.guides[top[have]]
    umi = np.zeros(n_cells, dtype=called.counts.dtype)
    umi[have] = called.counts[top[have]]
    n_calls = np.bincount(called.cells[called.assigned], minlength=n_cells)
    n_detected = np.bincount(called.cells[called.detected], minlength=n_cells)
    guide = pd.Categorical.from_codes(column, categories=guides).remove_unused_categories()
    return pd.DataFrame(
        {
            "guide_id": guide,
            "guide_identity": guide.copy(),
            "umi_count": pd.arrays.IntegerArray(umi, unassigned.copy()),
            "assignment_confidence": _confidence(called, model, top, have),
            "is_unassigned": unassigned,
            "is_multi_infected": n_calls > 1,
            "n_guides_detected": n_detected.astype(_count_type(n_detected)),
        },
        index=pd.Index(barcodes, name=BARCODE),
    )


def _confidence(
    called: CalledCounts, model: GuideModel | None, top: np.ndarray, have: np.ndarray
) -> np.ndarray:
    confidence = np.full(len(top), np.nan)
    if model is not None and model.rule == "ratio":
        confidence[have] = called.counts[top[have]] / called.depth[have]
    elif called.confidence is not None:
        confidence[have] = called.confidence[top[have]]
    else:
        confidence[have] = 1
    return confidence.astype(np.float32)


def _count_type(values: np.ndarray) -> np.dtype:
    return np.min_scalar_type(int(values.max(initial=0)))


def guide_table(called: CalledCounts, guides: np.ndarray) -> pd.DataFrame:
    """Return the number of cells and the status of every guide (n_guides rows)."""
    import pandas as pd

    n_guides = called.shape[1]
    n_assigned = np.bincount(called.guides[called.assigned], minlength=n_guides)
    n_counts = np.bincount(called.guides, minlength=n_guides)
    status = pd.Categorical(np.where(n_counts > 0, "ok", "no_counts"))
    return pd.DataFrame({"n_cells_assigned": n_assigned, "status": status}, index=pd.Index(guides))


def warn_without_counts(table: pd.DataFrame, where: str) -> None:
    """Warn once when guides were seen in no cell."""
    silent = table.index[table["status"] == "no_counts"]
    if len(silent):
        shown = ", ".join(repr(guide) for guide in silent[:3])
        more = f" and {len(silent) - 3} more" if len(silent) > 3 else ""
        warnings.warn(
            f"{len(silent)} of {len(table)} guides have no UMI in any cell of {where} and are "
            f"assigned to none: {shown}{more}; see var column 'status'",
            CrispyxWarning,
            stacklevel=3,
        )


def with_input_columns(
    table: pd.DataFrame, given: pd.DataFrame, axis: str, reserved: tuple[str, ...] = ()
) -> pd.DataFrame:
    """Return ``table`` with the input's columns after its own.

    An input column of a name that ``table`` uses is left out, with a warning.
    """
    import pandas as pd

    given = given.set_axis(table.index, axis=0)
    taken = [name for name in given.columns if name in table.columns or name in reserved]
    if taken:
        warnings.warn(
            f"{axis} columns of the input are replaced by those of the guide calls: "
            f"{', '.join(map(repr, taken))}",
            CrispyxWarning,
            stacklevel=3,
        )
    return pd.concat([table, given.drop(columns=taken)], axis=1)
