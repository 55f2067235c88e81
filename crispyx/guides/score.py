"""Fits and posteriors kept apart from the decision."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._run.threads import resolve_threads
from crispyx._version import __version__
from crispyx.errors import InputError, MissingFileError
from crispyx.guides.arrow_files import arrow_kind, read_arrow, write_arrow
from crispyx.guides.counts import (
    CalledCounts,
    call_counts,
    require_unique_names,
)
from crispyx.guides.fits import fit_guides, warn_about_fits
from crispyx.guides.inputs import GUIDE_FEATURES, open_guides
from crispyx.guides.models import MIXTURES, GuideModel, resolve_model
from crispyx.settings import settings

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import scipy.sparse as sp

METADATA = b"crispyx_guide_scores"
FORMAT = 1


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
        speaks for two; NaN with the engine ``"reference"``), ``fallback`` (the rule that calls the
        guide in place of its fit, or empty) and the parameters.
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

    def save(self, path: str | Path) -> Path:
        """Write to one file: Parquet (``.parquet``) or Arrow IPC (``.arrow``).

        One row a cell: ``cell_barcode``, and as lists over its guides ``guide`` (position),
        ``umi_count`` and ``log_odds``. Guides, fits and model stand in the schema's metadata.

        Parameters
        ----------
        path : path
            A file that exists is replaced.

        Raises
        ------
        InputError
            Another suffix.
        """
        path = Path(path)
        arrow_kind(path)
        write_arrow(self._table(), path)
        return path

    @classmethod
    def load(cls, path: str | Path) -> ScoreResult:
        """Read what :meth:`save` wrote.

        Raises
        ------
        MissingFileError
            No such file.
        InputError
            Another suffix, or a file of another kind.
        """
        path = Path(path)
        arrow_kind(path)
        if not path.is_file():
            raise MissingFileError(f"{path}: no such file; write it with ScoreResult.save")
        table = read_arrow(path)
        metadata = (table.schema.metadata or {}).get(METADATA)
        if metadata is None:
            raise InputError(f"{path}: holds no guide scores; write them with ScoreResult.save")
        return _from_table(table, json.loads(metadata), path)

    def _table(self) -> pa.Table:
        import pyarrow as pa

        offsets = pa.array(self._scored.ptr.astype(np.int64))
        columns = {
            "guide": pa.array(self._scored.guides.astype(np.int32)),
            "umi_count": pa.array(self._scored.counts),
            "log_odds": pa.array(self._log_odds),
        }
        lists = {
            name: pa.LargeListArray.from_arrays(offsets, values) for name, values in columns.items()
        }
        fits = self.fits.reset_index(names="guide_id")
        fits["status"] = fits["status"].astype(str)
        described = {
            "format": FORMAT,
            "model": self.model,
            "model_params": self.model_params,
            "version": self.version,
            "fits": _as_text(pa.Table.from_pandas(fits, preserve_index=False)),
        }
        barcodes = pa.array(self.barcodes, type=pa.large_string())
        table = pa.table({"cell_barcode": barcodes} | lists)
        return table.replace_schema_metadata({METADATA: json.dumps(described)})

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
    feature_type: str = GUIDE_FEATURES,
    modality: str | None = None,
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
    exposure, priors, feature_type, modality
        See :func:`assign`.

    Returns
    -------
    ScoreResult
        For :func:`decide`.

    Raises
    ------
    InputError
        A model without posteriors; counts that :func:`assign` refuses.

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
    rule = resolve_model(model, exposure=exposure, priors=priors)
    n_threads = resolve_threads(n_jobs)
    with open_guides(path, layer, feature_type=feature_type, modality=modality) as source:
        barcodes, guides = source.obs.index, source.var.index
        require_unique_names(barcodes, guides, source.where)
        counts = call_counts(source, None, settings.engine, n_threads)
        scores = score_counts(counts, rule, barcodes, guides, n_threads)
        warn_about_fits(scores.fits, source.where)
    return scores


def score_counts(
    counts: CalledCounts,
    rule: GuideModel,
    barcodes: np.ndarray,
    guides: np.ndarray,
    n_threads: int,
) -> ScoreResult:
    """Fit counts that are read and checked already."""
    log_odds, fits = fit_guides(counts, guides, rule, settings.engine, n_threads)
    return ScoreResult(
        rule.rule, rule.fit_parameters, barcodes, guides, fits, __version__, counts, log_odds
    )


def _from_table(table: pa.Table, described: dict[str, Any], path: Path) -> ScoreResult:
    import pandas as pd

    if described.get("format") != FORMAT:
        raise InputError(
            f"{path}: guide scores of format {described.get('format')!r}, this version reads "
            f"{FORMAT}; score again"
        )
    fits = _from_text(described["fits"]).to_pandas().set_index("guide_id")
    fits.index.name = None
    fits["status"] = pd.Categorical(fits["status"])
    columns = [table[name].combine_chunks() for name in ("guide", "umi_count", "log_odds")]
    ptr = columns[0].offsets.to_numpy().astype(np.int64)
    guide, counts, log_odds = (column.flatten().to_numpy() for column in columns)
    none = np.zeros(len(guide), dtype=bool)
    shape = (len(ptr) - 1, len(fits))
    scored = CalledCounts(shape, ptr - ptr[0], guide, counts, none, none)
    barcodes = np.array(table["cell_barcode"].to_pylist(), dtype=object)
    return ScoreResult(
        described["model"],
        described["model_params"],
        barcodes,
        fits.index.to_numpy(),
        fits,
        described["version"],
        scored,
        log_odds,
    )


def _as_text(table: pa.Table) -> str:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return base64.b64encode(sink.getvalue().to_pybytes()).decode("ascii")


def _from_text(text: str) -> pa.Table:
    import pyarrow as pa

    return pa.ipc.open_stream(base64.b64decode(text)).read_all()
