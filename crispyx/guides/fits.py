"""Fits of the mixtures to guide counts, as a table of one row per guide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from crispyx._stats.batch_effects import fit_batch_effects
from crispyx._stats.batch_fits import fit_beta_batches, fit_histogram_batches
from crispyx._stats.beta_mixtures import BetaFit, BetaModel, fit_beta
from crispyx._stats.depth_mixtures import DepthModel
from crispyx._stats.histogram_mixtures import HistogramModel
from crispyx._stats.kaichi_mixtures import fit_kaichi_beta
from crispyx._stats.mixtures import FALLBACK_UMI, LARGEST_COUNT, GuideColumns, GuideFits, gate
from crispyx.errors import InputError
from crispyx.guides.batches import Batches, effect_table, own_table, screen_table
from crispyx.guides.counts import CalledCounts
from crispyx.guides.fits_alone import Elsewhere, GuideScreen, fit_range, is_fitted_alone
from crispyx.guides.models import BETA_MODELS, HISTOGRAM_MODELS, GuideModel
from crispyx.settings import Engine

if TYPE_CHECKING:
    import pandas as pd

FALLBACK = f"umi_count >= {FALLBACK_UMI}"


@dataclass(frozen=True)
class FittedGuides:
    """What the fits of a screen say.

    Attributes
    ----------
    log_odds : numpy.ndarray (nnz,) float64
        Of the signal, for each count; NaN for a guide without a reliable fit.
    fits : pandas.DataFrame (n_guides, .)
        ``status``, ``converged``, ``n_iter``, ``objective``, ``log_likelihood``,
        ``bic_difference``, ``fallback`` and the parameters.
    batch_fits : pandas.DataFrame or None
        One row for every guide and batch, or for every batch (beta models).
    """

    log_odds: np.ndarray
    fits: pd.DataFrame
    batch_fits: pd.DataFrame | None = None


def fit_guides(
    counts: CalledCounts,
    guides: np.ndarray,
    model: GuideModel,
    engine: Engine,
    n_threads: int,
    batches: Batches | None = None,
    elsewhere: Elsewhere | None = None,
) -> FittedGuides:
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
    batches : Batches or None
        Batch of each cell; None is one batch.
    elsewhere : Elsewhere or None
        Who fits guides that are fitted one by one; None does it here.
    """
    _require_fittable(counts, guides)
    columns, order = _columns(counts)
    if model.rule in BETA_MODELS:
        return _fit_beta(counts, columns, guides, model, engine, batches)
    batch_fits = None
    if is_fitted_alone(model, batches):
        screen = GuideScreen(columns, counts.depth, model, engine)
        if elsewhere is None:
            fits = fit_range(screen, 0, len(guides), n_threads)
        else:
            fits = elsewhere.fit(screen)
    elif model.rule in HISTOGRAM_MODELS:
        assert batches is not None  # guides of one batch are fitted one by one
        fits, batch_fits = _fit_histogram(columns, guides, model, engine, n_threads, batches)
    else:
        fits, batch_fits = _fit_depth(
            columns, counts.depth, guides, model, engine, n_threads, batches
        )
    log_odds = np.empty(len(fits.log_odds))
    log_odds[order] = fits.log_odds
    table = _fit_table(fits, guides)
    if model.variant == "kaichi":
        table["fallback"] = ""
    return FittedGuides(log_odds, table, batch_fits)


def _fit_histogram(
    columns: GuideColumns,
    guides: np.ndarray,
    model: GuideModel,
    engine: Engine,
    n_threads: int,
    batches: Batches,
) -> tuple[GuideFits, pd.DataFrame]:
    rule, priors = cast(HistogramModel, model.rule), model.priors is not False
    found = fit_histogram_batches(
        columns,
        batches.of,
        rule,
        engine,
        n_threads,
        min_cells=batches.min_cells,
        priors=priors,
        search=model.search,
    )
    return found.pooled, own_table(found, columns, batches, guides)


def _fit_depth(
    columns: GuideColumns,
    depth: np.ndarray,
    guides: np.ndarray,
    model: GuideModel,
    engine: Engine,
    n_threads: int,
    batches: Batches | None,
) -> tuple[GuideFits, pd.DataFrame | None]:
    rule, exposure = cast(DepthModel, model.rule), model.exposure or "consistent"
    joined = None if batches is None else batches.joined(depth > 0)
    found = fit_batch_effects(
        columns,
        depth,
        np.zeros(columns.n_cells, dtype=np.int64) if joined is None else joined.of,
        rule,
        engine,
        n_threads,
        exposure=exposure,
        priors=bool(model.priors),
        search=model.search,
    )
    if batches is None or joined is None:
        return found.fits, None
    return found.fits, effect_table(found, batches, joined, guides)


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
    batches: Batches | None,
) -> FittedGuides:
    largest = np.zeros(counts.shape[0], dtype=np.int64)
    np.maximum.at(largest, counts.cells, counts.counts.astype(np.int64))
    rule, depth, batch_fits = cast(BetaModel, model.rule), counts.depth, None
    priors = model.priors is not False
    if model.variant == "kaichi":
        fit = fit_kaichi_beta(largest, depth, rule)
    elif batches is None:
        fit = fit_beta(largest, depth, rule, engine, priors=priors, search=model.search)
    else:
        found = fit_beta_batches(
            largest,
            depth,
            batches.of,
            rule,
            engine,
            min_cells=batches.min_cells,
            priors=priors,
            search=model.search,
        )
        fit, batch_fits = found.pooled, screen_table(found, batches, depth)
    cells = counts.cells
    is_largest = counts.counts == largest[cells]
    if model.variant == "kaichi":  # of guides that share the largest count, the first
        places = np.flatnonzero(is_largest)
        is_largest[:] = False
        is_largest[places[np.unique(cells[places], return_index=True)[1]]] = True
    log_odds = np.where(is_largest, fit.log_odds[cells], -np.inf)
    table = _screen_fit_table(fit, columns, guides)
    if model.variant == "kaichi":
        table["fallback"] = ""
    return FittedGuides(log_odds, table, batch_fits)


def _screen_fit_table(fit: BetaFit, columns: GuideColumns, guides: np.ndarray) -> pd.DataFrame:
    """Return the one fit of all guides for each of them, but for those never seen."""
    import pandas as pd

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
    return pd.DataFrame(table | parameters, index=pd.Index(guides))
