"""What the calls add to the table of fits, and the warning about guides without a fit."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, cast

import numpy as np

from crispyx._stats.beta_mixtures import BetaModel, last_crossing
from crispyx._stats.histogram_mixtures import HistogramModel, first_counts
from crispyx._stats.mixtures import FALLBACK_UMI
from crispyx.errors import CrispyxWarning
from crispyx.guides.counts import CalledCounts
from crispyx.guides.fits import FALLBACK
from crispyx.guides.models import BETA_MODELS, HISTOGRAM_MODELS, GuideModel

if TYPE_CHECKING:
    import pandas as pd


def with_calls(fits: pd.DataFrame, called: CalledCounts, model: GuideModel) -> pd.DataFrame:
    """Return ``fits`` with what the calls add to it.

    ``n_cells_assigned``; ``threshold``, the smallest count that is a call (``poisson_gauss``,
    ``gauss``: of all whole numbers, depth models: of the calls made), or, with a beta model, the
    proportion a call must exceed; ``mean_posterior`` and ``expected_fdr`` of the calls with a
    posterior, NaN when there are none.
    """
    import pandas as pd

    n_guides = called.shape[1]
    calls = np.flatnonzero(called.assigned)
    guide = called.guides[calls]
    n = np.bincount(guide, minlength=n_guides)
    confidence = np.full(len(calls), 1.0)
    if called.confidence is not None:
        confidence = called.confidence[calls]
    known = np.isfinite(confidence)
    n_known = np.bincount(guide[known], minlength=n_guides)
    total = np.bincount(guide[known], weights=confidence[known], minlength=n_guides)
    mean = np.divide(total, n_known, out=np.full(n_guides, np.nan), where=n_known > 0)
    calling = {
        "threshold": _thresholds(fits, called, calls, model),
        "mean_posterior": mean,
        "expected_fdr": 1 - mean,
    }
    return pd.concat(
        [
            pd.DataFrame({"n_cells_assigned": n}, index=fits.index),
            fits[["status"]],
            pd.DataFrame(calling, index=fits.index),
            fits.drop(columns=["status"]),
        ],
        axis=1,
    )


def _thresholds(
    fits: pd.DataFrame, called: CalledCounts, calls: np.ndarray, model: GuideModel
) -> np.ndarray:
    if model.rule in BETA_MODELS:
        return _proportion_thresholds(fits, model)
    smallest = np.full(called.shape[1], np.inf)
    np.minimum.at(smallest, called.guides[calls], called.counts[calls].astype(np.float64))
    smallest[np.isinf(smallest)] = np.nan
    if model.rule in HISTOGRAM_MODELS:
        first = first_counts(cast(HistogramModel, model.rule), fits, model.threshold, smallest)
        smallest = np.where(np.isnan(first), smallest, first)
    smallest[(fits["fallback"] != "").to_numpy()] = FALLBACK_UMI
    return np.maximum(smallest, model.min_umi or 0)


def _proportion_thresholds(fits: pd.DataFrame, model: GuideModel) -> np.ndarray:
    fitted = np.flatnonzero(fits["status"] == "ok")
    thresholds = np.full(len(fits), np.nan)
    if len(fitted):
        parameters = fits.iloc[fitted[0]].to_dict()
        rule = cast(BetaModel, model.rule)
        thresholds[:] = last_crossing(rule, parameters, model.threshold, grid=model.cut == "grid")
    return thresholds


def grid_threshold(model: str, fits: pd.DataFrame) -> float:
    """Return the proportion above which crispat calls, NaN without a fit."""
    fitted = np.flatnonzero(fits["status"] == "ok")
    if not len(fitted):
        return np.nan
    parameters = fits.iloc[fitted[0]].to_dict()
    return last_crossing(cast(BetaModel, model), parameters, 0.5, grid=True)


def warn_about_fits(table: pd.DataFrame, where: str) -> None:
    """Warn once when guides have no reliable fit."""
    wrong = table[table["status"] != "ok"]
    if not len(wrong):
        return
    kinds = wrong["status"].astype(str).value_counts()
    counted = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
    shown = ", ".join(repr(guide) for guide in wrong.index[:3])
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    warnings.warn(
        f"{len(wrong)} of {len(table)} guides of {where} have no reliable fit ({counted}) and are "
        f"called where {FALLBACK}: {shown}{more}; see column 'status' of the fit table",
        CrispyxWarning,
        stacklevel=3,
    )
