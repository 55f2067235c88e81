"""Fits of the mixtures to guide counts, and the table of one row per guide that tells of them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, cast

import numpy as np

from crispyx._stats.beta_mixtures import BetaModel, fit_beta, last_crossing
from crispyx._stats.depth_mixtures import DepthModel, fit_depth
from crispyx._stats.histogram_mixtures import HistogramModel, first_counts, fit_histogram
from crispyx._stats.mixtures import FALLBACK_UMI, LARGEST_COUNT, GuideColumns, GuideFits, gate
from crispyx.errors import CrispyxWarning, InputError
from crispyx.guides.counts import CalledCounts
from crispyx.guides.models import BETA_MODELS, HISTOGRAM_MODELS, GuideModel
from crispyx.settings import Engine

if TYPE_CHECKING:
    import pandas as pd

FALLBACK = f"umi_count >= {FALLBACK_UMI}"


def fit_guides(
    counts: CalledCounts, guides: np.ndarray, model: GuideModel, engine: Engine, n_threads: int
) -> tuple[np.ndarray, pd.DataFrame]:
    """Fit a mixture to every guide.

    Parameters
    ----------
    counts : CalledCounts
        Counts of the screen.
    guides : numpy.ndarray (n_guides,) str
        Guide names, the index of the table.
    model : GuideModel
        One of the mixtures.
    engine : {"compiled", "reference"}
        Which definition runs.
    n_threads : int
        Threads of the kernels.

    Returns
    -------
    log_odds : numpy.ndarray (nnz,) float64
        Of the signal, for each count; NaN for a guide without a reliable fit.
    fits : pandas.DataFrame (n_guides, .)
        ``status``, ``converged``, ``n_iter``, ``objective``, ``log_likelihood``,
        ``bic_difference``, ``fallback`` and the parameters.
    """
    _require_fittable(counts, guides)
    columns, order = _columns(counts)
    if model.rule in BETA_MODELS:
        return _fit_beta(counts, columns, guides, model, engine)
    if model.rule in HISTOGRAM_MODELS:
        fits = fit_histogram(
            columns,
            cast(HistogramModel, model.rule),
            engine,
            n_threads,
            priors=model.priors is not False,
        )
    else:
        fits = fit_depth(
            columns,
            counts.depth,
            cast(DepthModel, model.rule),
            engine,
            n_threads,
            exposure=model.exposure or "consistent",
        )
    log_odds = np.empty(len(fits.log_odds))
    log_odds[order] = fits.log_odds
    return log_odds, _fit_table(fits, guides)


def _require_fittable(counts: CalledCounts, guides: np.ndarray) -> None:
    too_large = np.flatnonzero(counts.counts > LARGEST_COUNT)
    if len(too_large):
        first = too_large[0]
        raise InputError(
            f"guide {guides[counts.guides[first]]!r} has {counts.counts[first]} UMIs in cell "
            f"{counts.cells[first]}; mixtures are fitted to counts up to 2**40: correct the count, "
            "or use model='umi'"
        )


def _columns(counts: CalledCounts) -> tuple[GuideColumns, np.ndarray]:
    """Return counts by guide and the place of each among the counts by cell."""
    import scipy.sparse as sp

    places = sp.csr_matrix(
        (np.arange(len(counts.counts)), counts.guides, counts.ptr), shape=counts.shape
    ).tocsc()
    ptr = places.indptr.astype(np.int64)
    values = counts.counts[places.data].astype(np.int64)
    return GuideColumns(counts.shape[0], ptr, places.indices, values), places.data


def _fit_table(fits: GuideFits, guides: np.ndarray) -> pd.DataFrame:
    import pandas as pd

    table = {
        "status": pd.Categorical(fits.status),
        "converged": fits.converged,
        "n_iter": fits.n_iterations,
        "objective": fits.objective,
        "log_likelihood": fits.log_likelihood,
        "bic_difference": fits.bic_difference,
        "fallback": _fallback(fits.status),
    }
    parameters = dict(zip(fits.names, fits.parameters.T, strict=True))
    return pd.DataFrame(table | parameters, index=pd.Index(guides))


def _fallback(status: np.ndarray) -> np.ndarray:
    return np.where((status == "ok") | (status == "no_counts"), "", FALLBACK).astype(object)


def _fit_beta(
    counts: CalledCounts,
    columns: GuideColumns,
    guides: np.ndarray,
    model: GuideModel,
    engine: Engine,
) -> tuple[np.ndarray, pd.DataFrame]:
    import pandas as pd

    largest = np.zeros(counts.shape[0], dtype=np.int64)
    np.maximum.at(largest, counts.cells, counts.counts.astype(np.int64))
    fit = fit_beta(
        largest, counts.depth, cast(BetaModel, model.rule), engine, priors=model.priors is not False
    )
    cells = counts.cells
    log_odds = np.where(counts.counts == largest[cells], fit.log_odds[cells], -np.inf)
    # One fit serves all guides: its status is theirs, but for those never seen.
    status = np.where(gate(columns) == "no_counts", "no_counts", fit.status)
    n_guides = len(guides)
    table = {
        "status": pd.Categorical(status),
        "converged": np.full(n_guides, fit.status not in ("not_converged", "no_counts")),
        "n_iter": np.full(n_guides, fit.n_iterations),
        "objective": np.full(n_guides, fit.objective),
        "log_likelihood": np.full(n_guides, fit.log_likelihood),
        "bic_difference": np.full(n_guides, fit.bic_difference),
        "fallback": _fallback(status),
    }
    parameters = {name: np.full(n_guides, value) for name, value in fit.parameters.items()}
    return log_odds, pd.DataFrame(table | parameters, index=pd.Index(guides))


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
    return smallest


def _proportion_thresholds(fits: pd.DataFrame, model: GuideModel) -> np.ndarray:
    fitted = np.flatnonzero(fits["status"] == "ok")
    thresholds = np.full(len(fits), np.nan)
    if len(fitted):
        parameters = fits.iloc[fitted[0]].to_dict()
        thresholds[:] = last_crossing(cast(BetaModel, model.rule), parameters, model.threshold)
    return thresholds


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
