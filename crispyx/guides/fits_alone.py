"""Mixtures whose guides are fitted one by one, here or by others."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import numpy as np

from crispyx._jobs.ranges import in_ranges
from crispyx._run.executor import workers_of
from crispyx._stats.depth_mixtures import DepthModel, fit_depth
from crispyx._stats.histogram_mixtures import HistogramModel, fit_histogram
from crispyx._stats.kaichi_mixtures import CountModel, fit_kaichi
from crispyx._stats.mixtures import GuideColumns, GuideFits
from crispyx.guides.batches import Batches
from crispyx.guides.models import BETA_MODELS, HISTOGRAM_MODELS, GuideModel
from crispyx.settings import Engine

RANGES = 64  # of guides: some for each worker, so that none waits long for the last


def is_fitted_alone(model: GuideModel, batches: Batches | None) -> bool:
    """Tell whether the fit of a guide depends on no other guide and no batch."""
    if model.rule in BETA_MODELS:
        return False
    if model.variant == "kaichi":
        return True
    return batches is None and (model.rule in HISTOGRAM_MODELS or not model.priors)


@dataclass(frozen=True)
class GuideScreen:
    """Counts by guide and how they are fitted.

    Attributes
    ----------
    columns : GuideColumns
        Counts.
    depth : numpy.ndarray (n_cells,) int64
        Guide UMIs of each cell.
    model : GuideModel
        One of the mixtures.
    engine : {"compiled", "reference"}
        Which definition runs.
    """

    columns: GuideColumns
    depth: np.ndarray
    model: GuideModel
    engine: Engine


def fit_range(screen: GuideScreen, start: int, stop: int, n_threads: int) -> GuideFits:
    """Fit guides ``start`` to ``stop`` by so many threads."""
    whole, model, engine = screen.columns, screen.model, screen.engine
    first, last = whole.ptr[start], whole.ptr[stop]
    columns = GuideColumns(
        whole.n_cells,
        whole.ptr[start : stop + 1] - first,
        whole.cells[first:last],
        whole.counts[first:last],
    )
    if model.variant == "kaichi":
        rule = cast(CountModel, model.rule)
        return fit_kaichi(columns, screen.depth, rule, engine, n_threads)
    if model.rule in HISTOGRAM_MODELS:
        return fit_histogram(
            columns,
            cast(HistogramModel, model.rule),
            engine,
            n_threads,
            priors=model.priors is not False,
            search=model.search,
        )
    return fit_depth(
        columns,
        screen.depth,
        cast(DepthModel, model.rule),
        engine,
        n_threads,
        exposure=model.exposure or "consistent",
        search=model.search,
    )


@dataclass(frozen=True)
class Elsewhere:
    """Who fits guides, and where files go that they can see.

    Attributes
    ----------
    executor : object
        See :func:`crispyx._run.executor.workers_of`.
    n_jobs : int or None
        Idem.
    folder : pathlib.Path or None
        See :func:`crispyx._jobs.ranges.in_ranges`.
    """

    executor: Any
    n_jobs: int | None
    folder: Path | None

    def fit(self, screen: GuideScreen) -> GuideFits:
        """Fit all guides, ranges of about as many counts at a time."""
        ptr = screen.columns.ptr
        shares = np.linspace(0, ptr[-1], RANGES + 1)[1:-1]
        edges = np.unique([0, *np.searchsorted(ptr, shares), screen.columns.n_guides])
        with workers_of(self.executor, self.n_jobs) as workers:
            parts: list[GuideFits] = in_ranges(
                fit_range, screen, edges.tolist(), workers, folder=self.folder, label="guides"
            )
        joined = {
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(GuideFits)
            if field.name != "names"
        }
        return GuideFits(names=parts[0].names, **joined)
