"""The other axis of a matrix, in one pass over the axis it is stored by.

Blocks of rows are turned around one by one into *segments*: for every column the values of the
block's rows, with the row as an offset of 16 bits. A block of columns is then the concatenation of
one slice per segment. Six or ten bytes per non-zero are held, in memory or in a scratch file; the
two give the same arrays. Rows and columns stand here for the major and the minor axis of either
layout.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from crispyx._kernels import compressed as kernel
from crispyx._kernels.layout import CompressedBlock, Pieces

MAX_SEGMENT_MAJOR = 1 << 16


@dataclass(frozen=True)
class _Segment:
    """One segment: its places in ``values`` and ``offsets``, which segments may share.

    With a scratch file these two are (position, dtype) in it.
    """

    first_major: int
    ptr: np.ndarray
    values: np.ndarray | tuple[int, np.dtype]
    offsets: np.ndarray | tuple[int, np.dtype]


class SegmentStore:
    """Segments of one matrix, appended in major order.

    Parameters
    ----------
    n_minor : int
        Length of the axis to be read.
    scratch_dir : pathlib.Path or None
        Folder of the scratch file; None keeps the segments in memory.
    """

    def __init__(self, n_minor: int, scratch_dir: Path | None = None) -> None:
        self.n_minor = n_minor
        self._segments: list[_Segment] = []
        self._scratch: BinaryIO | None = None
        if scratch_dir is not None:
            # Nameless from the start: the space is freed however the process ends.
            self._scratch = tempfile.TemporaryFile(dir=scratch_dir)  # noqa: SIM115

    @property
    def n_values(self) -> int:
        """Number of values kept so far."""
        return sum(int(segment.ptr[-1] - segment.ptr[0]) for segment in self._segments)

    def append(
        self, block: CompressedBlock, use_major: np.ndarray | None = None, n_threads: int = 1
    ) -> None:
        """Turn a block of at most 65,536 major vectors around and keep it.

        Parameters
        ----------
        block : CompressedBlock
            The next vectors.
        use_major : numpy.ndarray (block.n_major,) bool or None
            Vectors to keep.
        n_threads : int
            Segments that are made of it, each by a thread of its own.
        """
        if use_major is None:
            use_major = np.ones(block.n_major, dtype=bool)
        shares = np.linspace(0, block.ptr[-1], n_threads + 1)[1:-1]
        edges = np.unique([0, *np.searchsorted(block.ptr, shares), block.n_major])
        ptr = np.empty((len(edges) - 1, self.n_minor + 1), dtype=np.int64)
        place = block.values, block.minor, block.ptr, use_major.view(np.uint8), edges, ptr
        n_kept = kernel.count_segments(*place, n_threads)
        values = np.empty(n_kept, dtype=block.values.dtype)
        offsets = np.empty(n_kept, dtype=np.uint16)
        kernel.fill_segments(*place, values, offsets, n_threads)
        kept = self._keep(values), self._keep(offsets)
        for first, pointers in zip(edges[:-1], ptr, strict=True):
            self._segments.append(_Segment(block.start + int(first), pointers, *kept))

    def pieces(self, start: int, stop: int) -> Pieces:
        """Return minor vectors ``start`` to ``stop`` as one piece per segment."""
        dtype = self._common_dtype()
        values, major = [], []
        ptr = np.empty((len(self._segments), stop - start + 1), dtype=np.int64)
        for pointers, segment in zip(ptr, self._segments, strict=True):
            begin, end = int(segment.ptr[start]), int(segment.ptr[stop])
            pointers[:] = segment.ptr[start : stop + 1] - begin
            values.append(self._slice(segment.values, begin, end).astype(dtype, copy=False))
            major.append(self._slice(segment.offsets, begin, end))
        first = np.array([segment.first_major for segment in self._segments], dtype=np.int64)
        return Pieces(start, stop, values, major, ptr, first)

    def block(self, start: int, stop: int) -> CompressedBlock:
        """Return minor vectors ``start`` to ``stop``; their ``minor`` is the major position."""
        counts = np.zeros(stop - start, dtype=np.int64)
        for segment in self._segments:
            counts += np.diff(segment.ptr[start : stop + 1])
        dtype = self._common_dtype()
        ptr = np.concatenate([[0], np.cumsum(counts)])
        values = np.empty(ptr[-1], dtype=dtype)
        major = np.empty(ptr[-1], dtype=np.int32)
        fill = ptr[:-1].copy()
        for segment in self._segments:
            begin, end = int(segment.ptr[start]), int(segment.ptr[stop])
            if begin == end:
                continue
            kernel.append_slice(
                self._slice(segment.values, begin, end).astype(dtype, copy=False),
                self._slice(segment.offsets, begin, end),
                segment.ptr[start : stop + 1] - begin,
                segment.first_major,
                fill,
                values,
                major,
            )
        return CompressedBlock(start, stop, values, major, ptr)

    def close(self) -> None:
        """Let go of the segments and the scratch file."""
        self._segments.clear()
        if self._scratch is not None:
            self._scratch.close()

    def _common_dtype(self) -> np.dtype:
        kinds = {_dtype(segment.values) for segment in self._segments}
        return np.result_type(np.float32, *kinds)

    def _keep(self, array: np.ndarray) -> np.ndarray | tuple[int, np.dtype]:
        if self._scratch is None:
            return array
        position = self._scratch.seek(0, 2)
        array.tofile(self._scratch)
        self._scratch.flush()
        return position, array.dtype

    def _slice(self, kept: np.ndarray | tuple[int, np.dtype], begin: int, end: int) -> np.ndarray:
        if isinstance(kept, np.ndarray):
            return kept[begin:end]
        assert self._scratch is not None  # kept there by _keep
        position, dtype = kept
        self._scratch.seek(position + begin * dtype.itemsize)
        return np.fromfile(self._scratch, dtype=dtype, count=end - begin)


def _dtype(kept: np.ndarray | tuple[int, np.dtype]) -> np.dtype:
    return kept.dtype if isinstance(kept, np.ndarray) else kept[1]
