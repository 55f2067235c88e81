"""Fits and posteriors kept apart from the decision."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.source import MatrixSource
from crispyx._run.executor import chosen_executor
from crispyx._run.threads import resolve_threads
from crispyx._version import __version__
from crispyx.errors import InputError
from crispyx.guides.batches import Batches, read_batches
from crispyx.guides.counts import (
    CalledCounts,
    call_counts,
    require_unique_names,
)
from crispyx.guides.fit_calls import warn_about_fits
from crispyx.guides.fits import fit_guides
from crispyx.guides.fits_alone import Elsewhere
from crispyx.guides.inputs import GUIDE_FEATURES, open_guides
from crispyx.guides.models import MIXTURES, GuideModel, resolve_model
from crispyx.guides.score_files import read_scores, scores_as_table, write_scores
from crispyx.settings import settings

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import scipy.sparse as sp


@dataclass(frozen=True)
class ScoreResult:
    """How much each count speaks for its guide being in the cell; what :func:`score` returns.

    Attributes
    ----------
    model : str
        Name of the mixture.
    model_params : dict
        Parameters of its fit.
    barcodes : numpy.ndarray (n_cells,) str
        Cells.
    guides : numpy.ndarray (n_guides,) str
        Guides.
    fits : pandas.DataFrame (n_guides, .)
        ``status``, ``converged``, ``n_iter`` (steps over all starts), ``objective``,
        ``log_likelihood``, ``bic_difference`` (of one component minus that of the fit: above 0
        speaks for two), ``fallback`` (the rule that calls the guide in place of its fit, or empty)
        and the parameters. With batches they are those of the fit of all cells together.
    batch_fits : pandas.DataFrame or None
        None with one batch. Depth models, one row for every guide and batch: ``guide``, ``batch``,
        ``fit`` (``"own"``, or ``"joined"`` for the small batches that share one effect),
        ``effect`` of the batch on both log rates (log-odds of ``binomial``), and the two. Other
        models: ``guide`` (but for beta models, whose fits are of all guides), ``batch``,
        ``n_cells`` (with the guide; beta models: with any), ``fit`` (``"own"``, or ``"pooled"``
        where the fit of all cells serves) and the parameters that serve.
    version : str
        Version of crispyx that fitted.
    """

    model: str
    model_params: dict[str, Any]
    barcodes: np.ndarray
    guides: np.ndarray
    fits: pd.DataFrame
    version: str
    _scored: CalledCounts
    _log_odds: np.ndarray
    batch_fits: pd.DataFrame | None = None

    @property
    def n_cells(self) -> int:
        """Number of cells, those without a guide included."""
        return self._scored.shape[0]

    @property
    def n_guides(self) -> int:
        """Number of guides, those without a count included."""
        return self._scored.shape[1]

    @property
    def counts(self) -> sp.csr_matrix:
        """UMIs (n_cells, n_guides) CSR uint32, uint64 when a count needs it."""
        return self._csr(self._scored.counts)

    @property
    def log_odds(self) -> sp.csr_matrix:
        """Log-odds of the signal (n_cells, n_guides) CSR float64, natural log.

        One entry for every count above 0. NaN for a guide with a ``fallback``; minus infinity, with
        the beta models, for a guide that is not the largest of its cell. Never falling with the
        count: where the mixture's own log-odds fall again, the highest one so far stands.
        """
        return self._csr(self._log_odds)

    @property
    def posterior(self) -> sp.csr_matrix:
        """Probability of the signal (n_cells, n_guides) CSR float64; see :attr:`log_odds`."""
        return self._csr(self._posterior)

    @cached_property
    def _posterior(self) -> np.ndarray:
        from scipy.special import expit

        posterior: np.ndarray = expit(self._log_odds)
        return posterior

    def _csr(self, values: np.ndarray) -> sp.csr_matrix:
        import scipy.sparse as sp

        return sp.csr_matrix((values, self._scored.guides, self._scored.ptr), self._scored.shape)

    def to_arrow(self) -> pa.Table:
        """Return one row a cell: ``cell_barcode``, and lists over the guides it has counts of.

        The lists ``guide`` (position in :attr:`guides`, int32), ``umi_count`` and ``log_odds``
        share their memory with this object; nothing but the barcodes is copied. Guides, fits and
        model stand in the schema's metadata.
        """
        return scores_as_table(self)

    def save(self, path: str | Path) -> Path:
        """Write :meth:`to_arrow` to one file: Parquet (``.parquet``) or Arrow IPC (``.arrow``).

        Parameters
        ----------
        path : path
            A file that exists is replaced.

        Raises
        ------
        InputError
            Another suffix.
        """
        return write_scores(self.to_arrow(), Path(path))

    @classmethod
    def load(cls, path: str | Path) -> ScoreResult:
        """Read what :meth:`save` wrote; the counts of an Arrow file stay in the file.

        Raises
        ------
        MissingFileError
            No such file.
        InputError
            Another suffix, or a file of another kind.
        """
        return cls(**read_scores(Path(path)))

    def __repr__(self) -> str:
        return (
            f"ScoreResult({self.model!r}, {self.n_cells} cells x {self.n_guides} guides, "
            f"{len(self._log_odds)} counts)"
        )


def score(
    path: Any,
    model: str = "poisson_gauss",
    *,
    n_jobs: int | None = None,
    layer: str | None = None,
    exposure: str | None = None,
    priors: bool | None = None,
    n_starts: int | None = None,
    tolerance: float | None = None,
    max_iterations: int | None = None,
    batch_key: str | None = None,
    min_cells_per_batch: int | None = None,
    variant: str | None = None,
    feature_type: str = GUIDE_FEATURES,
    modality: str | None = None,
    executor: Any = None,
) -> ScoreResult:
    """Fit a mixture to every guide and keep the posteriors, so that calls can be decided at will.

    Parameters
    ----------
    path
        Cells x guides UMI counts, see :func:`assign`.
    model : str
        A mixture: ``poisson_gauss``, ``gauss``, ``poisson``, ``neg_binomial``, ``binomial``,
        ``beta2`` or ``beta3``; see :func:`assign`.
    n_jobs : int, optional
        Threads; see :func:`assign`.
    layer : str, optional
        Layer that holds the counts; None takes X.
    exposure, priors, n_starts, tolerance, max_iterations, batch_key, min_cells_per_batch, variant
        See :func:`assign`.
    feature_type, modality
        See :func:`assign`.
    executor : {"threads", "processes"}, Executor, dask.distributed.Client, optional
        What fits the guides of the mixtures that fit them one by one (not the beta models, batches
        or ``priors`` of depth models, which run here); see :func:`crispyx.de.wilcoxon_test`.

    Returns
    -------
    ScoreResult
        For :func:`decide`.

    Raises
    ------
    InputError
        A model without posteriors; parameters and counts that :func:`assign` refuses.
    MissingColumnError
        obs has no column ``batch_key``.

    Warns
    -----
    CrispyxWarning
        Guides without a reliable fit.
    """
    if model in ("umi", "max", "ratio", "quantiles"):
        raise InputError(
            f"model {model!r} has no posteriors to score; choose one of "
            f"{', '.join(map(repr, MIXTURES))}, or call cx.gd.assign(..., model={model!r})"
        )
    rule = resolve_model(
        model,
        exposure=exposure,
        priors=priors,
        n_starts=n_starts,
        tolerance=tolerance,
        max_iterations=max_iterations,
        batch_key=batch_key,
        min_cells_per_batch=min_cells_per_batch,
        variant=variant,
    )
    n_threads = resolve_threads(n_jobs)
    with open_guides(path, layer, feature_type=feature_type, modality=modality) as source:
        barcodes, guides = source.obs.index, source.var.index
        require_unique_names(barcodes, guides, source.where)
        batches = read_batches(source, rule.batch_key, rule.min_cells_per_batch)
        counts = call_counts(source, None, settings.engine, n_threads)
        scores = score_counts(
            counts,
            rule,
            barcodes,
            guides,
            n_threads,
            batches,
            elsewhere_of(source, executor, n_jobs),
        )
        warn_about_fits(scores.fits, source.where)
    return scores


def elsewhere_of(source: MatrixSource, executor: Any, n_jobs: int | None) -> Elsewhere | None:
    """Return who fits the guides of a data set, None for the threads of this process."""
    executor = chosen_executor(executor)
    if executor is None:
        return None
    return Elsewhere(executor, n_jobs, source.path.parent if source.path else None)


def score_counts(
    counts: CalledCounts,
    rule: GuideModel,
    barcodes: np.ndarray,
    guides: np.ndarray,
    n_threads: int,
    batches: Batches | None,
    elsewhere: Elsewhere | None = None,
) -> ScoreResult:
    """Fit counts that are read and checked already."""
    fitted = fit_guides(counts, guides, rule, settings.engine, n_threads, batches, elsewhere)
    return ScoreResult(
        rule.rule,
        rule.fit_parameters,
        barcodes,
        guides,
        fitted.fits,
        __version__,
        counts,
        fitted.log_odds,
        fitted.batch_fits,
    )
