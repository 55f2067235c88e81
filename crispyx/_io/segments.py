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
from crispyx._kernels.layout import CompressedBlock

MAX_SEGMENT_MAJOR = 1 << 16


@dataclass(frozen=True)
class _Segment:
    """One segment; with a scratch file ``values`` and ``offsets`` are (position, dtype) in it."""

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
        return sum(int(segment.ptr[-1]) for segment in self._segments)

    def append(self, block: CompressedBlock, use_major: np.ndarray | None = None) -> None:
        """Turn a block of at most 65,536 major vectors around and keep it.

        Parameters
        ----------
        block : CompressedBlock
            The next vectors.
        use_major : numpy.ndarray (block.n_major,) bool or None
            Vectors to keep.
        """
        if use_major is None:
            use_major = np.ones(block.n_major, dtype=bool)
        ptr = np.empty(self.n_minor + 1, dtype=np.int64)
        values = np.empty_like(block.values)
        offsets = np.empty(len(values), dtype=np.uint16)
        kernel.scatter_segment(
            block.values, block.minor, block.ptr, use_major.view(np.uint8), ptr, values, offsets
        )
        kept = int(ptr[-1])
        self._segments.append(
            _Segment(block.start, ptr, self._keep(values[:kept]), self._keep(offsets[:kept]))
        )

    def block(self, start: int, stop: int) -> CompressedBlock:
        """Return minor vectors ``start`` to ``stop``; their ``minor`` is the major position."""
        counts = np.zeros(stop - start, dtype=np.int64)
        dtype = np.dtype(np.float32)
        for segment in self._segments:
            counts += np.diff(segment.ptr[start : stop + 1])
            dtype = np.promote_types(dtype, _dtype(segment.values))
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

    def _keep(self, array: np.ndarray) -> np.ndarray | tuple[int, np.dtype]:
        if self._scratch is None:
            return (
                array.copy() if array.base is not None and len(array) < len(array.base) else array
            )
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
