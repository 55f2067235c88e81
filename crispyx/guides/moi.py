"""Multiplicity of infection, and how cells split by the number of their guides."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._stats.multiplicity import (
    estimate_multiplicity,
    expected_cells,
    share_infected_repeatedly,
)
from crispyx.errors import CrispyxWarning, InputError
from crispyx.guides.held import Calls, read_calls
from crispyx.settings import settings

if TYPE_CHECKING:
    import pandas as pd

CLASSES = ("none", "single", "pair", "multiplet")


@dataclass(frozen=True)
class Multiplicity:
    """Guides per cell and the multiplicity of infection they speak of; what :func:`moi` returns.

    Attributes
    ----------
    moi : float
        Mean number of infections of a cell before selection. Infinite when more cells are without
        a guide than any number explains.
    standard_error : float
        Of ``moi``; NaN where the estimate stands at the border of what is possible.
    capture : float
        Probability to see a guide (a construct) that is in the cell.
    n_cells : int
        Cells.
    counts : pandas.Series
        Guides per cell (index ``n_guides``) -> cells.
    expected : pandas.Series
        Cells that the estimate expects (float64, same index); NaN without a finite one.
    shares : pandas.Series
        Share of cells of each class, ``none``, ``single``, ``pair``, ``multiplet``. Without
        constructs a pair is a cell with exactly two guides.
    expected_multiplets : float
        Cells with more than one infection that the estimate expects, seen or not.
    """

    moi: float
    standard_error: float
    capture: float
    n_cells: int
    counts: pd.Series
    expected: pd.Series
    shares: pd.Series
    expected_multiplets: float


def moi(calls: Any, *, capture: float | None = None) -> Multiplicity:
    r"""Estimate the multiplicity of infection from the number of guides called in every cell.

    A cell is infected a Poisson number of times, cells without infection do not survive selection,
    and every infection is seen with the same probability p, the capture:

    .. math::

        P(k) = \sum_{n \ge \max(k, 1)} \frac{e^{-\lambda} \lambda^n / n!}{1 - e^{-\lambda}}
        \binom{n}{k} p^k (1 - p)^{n - k}

    :math:`\lambda` and p are those of largest likelihood. With constructs
    (:func:`crispyx.guides.constructs`) they are counted in the place of guides: both guides of a
    dual-guide vector are one infection.

    Parameters
    ----------
    calls : anndata.AnnData, pyarrow.RecordBatch, pyarrow.Table, pandas.DataFrame or path
        What :func:`crispyx.guides.assign` or :func:`crispyx.guides.decide` returned, or a file of
        it that lists every cell.
    capture : float in (0, 1], optional
        Known capture: for calls of some guides of a library, or cells that were not selected for
        carrying a guide, which the numbers alone cannot tell from cells whose guide was missed.

    Returns
    -------
    Multiplicity

    Raises
    ------
    InputError
        No cell has a guide; ``capture`` out of range, or 1 although cells are without a guide; a
        table that lists only cells with a call.

    Warns
    -----
    CrispyxWarning
        More cells are without a guide than any multiplicity explains.

    Notes
    -----
    Source: Dixit et al., Cell 167, 2016, 1853-1866. Reference: ``reference.multiplicity``.
    """
    import pandas as pd

    found = read_calls(calls)
    n_guides = _guides_per_cell(found)
    histogram = np.bincount(n_guides)
    _check(capture, histogram, found.where)
    estimate = estimate_multiplicity(histogram, capture, settings.engine)
    counts = pd.Series(
        histogram, index=pd.RangeIndex(len(histogram), name="n_guides"), name="n_cells"
    )
    expected, multiplets = np.full(len(histogram), np.nan), math.nan
    if math.isfinite(estimate.moi) and estimate.moi > 0:
        expected = expected_cells(len(n_guides), estimate.moi, estimate.capture, len(histogram) - 1)
        multiplets = len(n_guides) * share_infected_repeatedly(estimate.moi)
    elif math.isinf(estimate.moi):
        warnings.warn(
            f"{histogram[0]} of {len(n_guides)} cells of {found.where} are without a guide, more "
            "than any multiplicity explains if all were selected for carrying one; give capture= "
            "to estimate with a known probability of seeing a guide",
            CrispyxWarning,
            stacklevel=2,
        )
    return Multiplicity(
        estimate.moi,
        estimate.standard_error,
        estimate.capture,
        len(n_guides),
        counts,
        pd.Series(expected, index=counts.index, name="expected"),
        _shares(found, n_guides),
        multiplets,
    )


def _guides_per_cell(calls: Calls) -> np.ndarray:
    if calls.pairs is not None:
        raise InputError(
            f"{calls.where} lists only cells with a call; give the AnnData of "
            "crispyx.guides.assign, its .h5ad, or a table of one row per cell"
        )
    if calls.has_constructs and not calls.is_table:
        carried, _ = calls.constructs()
        return np.asarray((carried != 0).sum(axis=1)).ravel().astype(np.int64)
    if not calls.is_table:
        return np.asarray((calls.assigned() != 0).sum(axis=1)).ravel().astype(np.int64)
    number = calls.table["n_guides_detected"].to_numpy(np.int64)
    # A rule may detect guides in a cell that it leaves without a call.
    return np.where(calls.table["is_unassigned"].to_numpy(bool), 0, number)


def _shares(calls: Calls, n_guides: np.ndarray) -> pd.Series:
    import pandas as pd

    if calls.has_constructs:
        classes = calls.table["guide_class"].astype(object)
    else:
        classes = pd.Series(np.array(CLASSES)[np.minimum(n_guides, len(CLASSES) - 1)])
    counted = classes.value_counts().reindex(CLASSES, fill_value=0)
    shares = (counted / len(n_guides)).rename("share")
    shares.index.name = "guide_class"
    return shares


def _check(capture: Any, histogram: np.ndarray, where: str) -> None:
    if len(histogram) < 2:
        raise InputError(f"no cell of {where} has a guide; there is no multiplicity to estimate")
    if capture is None:
        return
    number = isinstance(capture, int | float | np.number) and not isinstance(capture, bool)
    if not (number and 0 < capture <= 1):
        raise InputError(f"capture is {capture!r}; give a number above 0 and up to 1, or None")
    if capture == 1 and histogram[0]:
        raise InputError(
            f"capture=1 says that every guide is seen, but {histogram[0]} cells of {where} have "
            "none; give a smaller capture, or leave these cells out"
        )
