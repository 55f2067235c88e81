"""Guide counts read, checked and called in one pass."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import cast

import numpy as np

from crispyx._io.segments import MAX_SEGMENT_MAJOR
from crispyx._io.source import MatrixSource
from crispyx._kernels.layout import CompressedBlock
from crispyx._stats.guide_rules import Rule, assigned_flags
from crispyx.errors import InputError
from crispyx.guides.models import GuideModel
from crispyx.settings import Engine

LARGEST_UINT32 = np.iinfo(np.uint32).max


@dataclass(frozen=True)
class CalledCounts:
    """The non-zero guide counts of a screen, cell after cell, and which of them are calls.

    Attributes
    ----------
    shape : tuple (n_cells, n_guides)
        Shape of the matrix.
    ptr : numpy.ndarray (n_cells + 1,) int64
        Where each cell starts.
    guides : numpy.ndarray (nnz,) int32
        Column of each count.
    counts : numpy.ndarray (nnz,) uint32, or uint64 when a count needs it
        UMIs, all above 0.
    assigned : numpy.ndarray (nnz,) bool
        The count is a call.
    detected : numpy.ndarray (nnz,) bool
        The guide passes the rule, whether or not the cell gets it: the guides that share the
        largest count under ``max``, elsewhere the same as ``assigned``.
    confidence : numpy.ndarray (nnz,) float64 or None
        Confidence of each count if it is a call; None when every call has confidence 1.
    """

    shape: tuple[int, int]
    ptr: np.ndarray
    guides: np.ndarray
    counts: np.ndarray
    assigned: np.ndarray
    detected: np.ndarray
    confidence: np.ndarray | None = None

    @property
    def depth(self) -> np.ndarray:
        """Guide UMIs of each cell (n_cells,) int64."""
        before = np.concatenate([[0], np.cumsum(self.counts, dtype=np.int64)])
        return np.diff(before[self.ptr])

    def checksum(self) -> str:
        """Return the SHA-256 of shape and counts, the same for every layout of the same counts."""
        cells = self.cells
        order = np.lexsort((self.guides, cells))
        digest = hashlib.sha256()
        for values in (np.array(self.shape), cells[order], self.guides[order], self.counts[order]):
            digest.update(values.astype("<u8").tobytes())
        return digest.hexdigest()

    @property
    def cells(self) -> np.ndarray:
        """Row of each count (nnz,) int64."""
        return np.repeat(np.arange(self.shape[0]), np.diff(self.ptr))


def require_unique_names(barcodes: np.ndarray, guides: np.ndarray, where: str) -> None:
    """Raise unless barcodes and guide names are unique.

    Raises
    ------
    InputError
        Names the first repeated name and its places.
    """
    for names, what, place, way_out in (
        (barcodes, "barcode", "row", "make them unique, for example with a prefix for each lane"),
        (guides, "guide", "column", "rename or merge the guides"),
    ):
        first: dict[str, int] = {}
        for position, name in enumerate(names):
            if first.setdefault(name, position) != position:
                raise InputError(
                    f"{where}: {what} {name!r} stands in {place}s {first[name]} and {position}; "
                    f"{way_out}"
                )


def call_counts(
    source: MatrixSource,
    model: GuideModel | None,
    engine: Engine,
    n_threads: int,
    *,
    max_rows: int = MAX_SEGMENT_MAJOR,
) -> CalledCounts:
    """Stream the counts, check every one of them and call guides.

    Parameters
    ----------
    source : MatrixSource
        Cells x guides.
    model : GuideModel or None
        One of the rules ``umi``, ``max`` and ``ratio``; None calls nothing.
    engine : {"compiled", "reference"}
        Which definition runs.
    n_threads : int
        Threads of the kernels.
    max_rows : int
        Largest number of cells of one block.

    Raises
    ------
    InputError
        A count that is negative, fractional, infinite or NaN; the message names cell and guide.
    """
    summary = source.empty_summary()
    n_guides = source.shape[1]
    lengths, parts = [], []
    for block in source.row_blocks(summary, max_rows=max_rows):
        source.require_counts(summary, "guide assignment")
        assigned, detected = _flags(block, n_guides, model, engine, n_threads)
        stored = block.values > 0
        before = np.concatenate([[0], np.cumsum(stored)])
        lengths.append(np.diff(before[block.ptr]))
        columns = (block.minor, _as_unsigned(block), assigned, detected)
        parts.append([column[stored] for column in columns])
    guides, counts, assigned, detected = map(np.concatenate, zip(*parts, strict=True))
    ptr = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    return CalledCounts(source.shape, ptr, guides, counts, assigned, detected)


def _flags(
    block: CompressedBlock,
    n_guides: int,
    model: GuideModel | None,
    engine: Engine,
    n_threads: int,
) -> tuple[np.ndarray, np.ndarray]:
    if model is None:
        none = np.zeros(len(block.values), dtype=bool)
        return none, none
    rule, threshold = cast(Rule, model.rule), model.threshold
    assigned = assigned_flags(block, n_guides, rule, threshold, engine, n_threads).astype(bool)
    if rule != "max":
        return assigned, assigned
    largest = assigned_flags(block, n_guides, "ratio", 0.0, engine, n_threads).astype(bool)
    return assigned, largest & (block.values >= threshold)


def _as_unsigned(block: CompressedBlock) -> np.ndarray:
    wide = block.values.max(initial=0) > LARGEST_UINT32
    return block.values.astype(np.uint64 if wide else np.uint32)
