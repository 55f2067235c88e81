"""Calls from scores."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._stats.mixtures import FALLBACK_UMI
from crispyx.errors import InputError
from crispyx.guides.calls import BARCODE, cell_table
from crispyx.guides.counts import CalledCounts
from crispyx.guides.fit_calls import grid_threshold
from crispyx.guides.models import resolve_model
from crispyx.guides.score import ScoreResult

if TYPE_CHECKING:
    import pyarrow as pa


def decide(
    scores: ScoreResult,
    min_confidence: float = 0.9,
    *,
    min_umi: int | None = None,
    max_guides: int | None = None,
    margin: float | None = None,
    expected_fdr: float | None = None,
) -> pa.RecordBatch:
    r"""Call guides where the posterior is above a threshold; nothing is fitted again.

    With :math:`r` the posterior, a guide is detected in a cell when :math:`r >` ``min_confidence``
    (``umi_count`` >= 5 where the guide has no reliable fit) and its count is at least ``min_umi``.

    Parameters
    ----------
    scores : ScoreResult
        Of :func:`score`.
    min_confidence : float in [0, 1]
        Posterior that a call must exceed.
    min_umi : int >= 1, UMI, optional
        Smallest count of a call.
    max_guides : int >= 1, optional
        Cells with more detected guides are left unassigned.
    margin : float in [0, 1], optional
        Cells are left unassigned unless the posterior of every detected guide is at least that much
        above that of every other guide of the cell.
    expected_fdr : float in [0, 1], optional
        Only the most certain calls are kept, as many as the mean of :math:`1 - r` over them stays
        at or below it; calls with equal posteriors are kept or left together. Calls without a
        posterior do not enter.

    Returns
    -------
    pyarrow.RecordBatch, one row per cell
        ``cell_barcode`` (string); ``guide_id`` (string), ``umi_count`` (uint32, uint64 when a count
        needs it) and ``assignment_confidence`` (float32, the posterior, null as well for a call
        without one), null when unassigned: of the call with the most UMIs, the first one on ties;
        ``is_unassigned``, ``is_multi_infected`` (bool); ``n_guides_detected`` (uint8, uint16 when
        needed): detected guides, also of cells left unassigned.

    Raises
    ------
    InputError
        ``scores`` are no scores; a value out of range.
    """
    import pyarrow as pa

    called = call_scores(
        scores,
        min_confidence,
        min_umi=min_umi,
        max_guides=max_guides,
        margin=margin,
        expected_fdr=expected_fdr,
    )
    table = cell_table(called, resolve_model(scores.model), scores.barcodes, scores.guides)
    guide, umi = table["guide_id"].cat, table["umi_count"].array
    confidence = table["assignment_confidence"].to_numpy()
    names = pa.array(guide.categories, type=pa.string())
    codes = guide.codes.to_numpy()
    columns = {
        BARCODE: pa.array(scores.barcodes, type=pa.string()),
        "guide_id": names.take(pa.array(codes, mask=codes < 0)),
        "umi_count": _nullable(umi.to_numpy(umi.dtype.numpy_dtype, na_value=0), umi.isna()),
        "assignment_confidence": _nullable(confidence, np.isnan(confidence)),
    }
    for name in ("is_unassigned", "is_multi_infected", "n_guides_detected"):
        columns[name] = pa.array(table[name].to_numpy())
    return pa.RecordBatch.from_pydict(columns)


def _nullable(values: np.ndarray, missing: np.ndarray) -> pa.Array:
    """Return an Arrow array that shares the memory of ``values``."""
    import pyarrow as pa

    known = pa.array(~missing).buffers()[1]  # one bit a value, as Arrow marks what is there
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [known, pa.py_buffer(values)])


def call_scores(
    scores: ScoreResult,
    min_confidence: float,
    *,
    min_umi: int | None = None,
    max_guides: int | None = None,
    margin: float | None = None,
    expected_fdr: float | None = None,
) -> CalledCounts:
    """Return the scored counts with their calls; see :func:`decide`."""
    if not isinstance(scores, ScoreResult):
        raise InputError(f"scores is a {type(scores).__name__}; give what cx.gd.score returned")
    _check(min_confidence, min_umi, max_guides, margin, expected_fdr)
    counts, posterior = scores._scored, scores._posterior
    least = scores.model_params.get("variant") == "kaichi"
    with np.errstate(invalid="ignore"):
        detected = posterior >= min_confidence if least else posterior > min_confidence
    detected |= np.isnan(posterior) & (counts.counts >= FALLBACK_UMI)
    if min_umi is not None:
        detected &= counts.counts >= min_umi
    if expected_fdr is not None:
        detected &= _within_fdr(posterior, detected, expected_fdr)
    cells = counts.cells
    kept = np.ones(scores.n_cells, dtype=bool)
    if max_guides is not None:
        kept &= np.bincount(cells[detected], minlength=scores.n_cells) <= max_guides
    if margin is not None:
        kept &= _margins(posterior, detected, cells, scores.n_cells) >= margin
    return replace(counts, assigned=detected & kept[cells], detected=detected, confidence=posterior)


def call_by_grid(scores: ScoreResult) -> CalledCounts:
    """Return the counts of a beta model with the calls of crispat's grid; see ``cut`` of assign."""
    counts, posterior = scores._scored, scores._posterior
    detected = np.isnan(posterior) & (counts.counts >= FALLBACK_UMI)
    threshold = grid_threshold(scores.model, scores.fits)
    is_largest = scores._log_odds > -np.inf
    proportions = counts.counts / counts.depth[counts.cells]
    detected |= is_largest & (proportions > threshold)
    return replace(counts, assigned=detected, detected=detected, confidence=posterior)


def without_small_counts(called: CalledCounts, min_umi: int) -> CalledCounts:
    """Return the calls and detections whose count is at least ``min_umi``."""
    enough = called.counts >= min_umi
    return replace(called, assigned=called.assigned & enough, detected=called.detected & enough)


def _within_fdr(posterior: np.ndarray, detected: np.ndarray, expected_fdr: float) -> np.ndarray:
    """Return the counts that stay (nnz,) bool; those without a posterior do."""
    known = detected & np.isfinite(posterior)
    values, n = np.unique(-posterior[known], return_counts=True)
    rate = np.cumsum((1 + values) * n) / np.maximum(np.cumsum(n), 1)
    passing = np.flatnonzero(rate <= expected_fdr)
    lowest = -values[passing[-1]] if len(passing) else np.inf
    return np.isnan(posterior) | (posterior >= lowest)


def _margins(
    posterior: np.ndarray, detected: np.ndarray, cells: np.ndarray, n_cells: int
) -> np.ndarray:
    """Return the smallest posterior of a cell's detected guides minus the largest of the others."""
    low, high = np.ones(n_cells), np.zeros(n_cells)
    known = np.isfinite(posterior)
    inside, outside = known & detected, known & ~detected
    np.minimum.at(low, cells[inside], posterior[inside])
    np.maximum.at(high, cells[outside], posterior[outside])
    return low - high


def _check(
    min_confidence: Any, min_umi: Any, max_guides: Any, margin: Any, expected_fdr: Any
) -> None:
    shares = {"min_confidence": min_confidence, "margin": margin, "expected_fdr": expected_fdr}
    for name, value in shares.items():
        optional = value is None and name != "min_confidence"
        number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        if not optional and not (number and 0 <= value <= 1):
            raise InputError(f"{name} is {value!r}; give a number from 0 to 1")
    for name, value in {"min_umi": min_umi, "max_guides": max_guides}.items():
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        if value is not None and not (whole and value >= 1):
            raise InputError(f"{name} is {value!r}; give a whole number >= 1")
