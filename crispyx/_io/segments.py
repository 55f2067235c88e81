"""The other axis of a matrix, in one pass over the axis it is stored by.

Blocks of rows are turned around one by one into *segments*: for every column the values of the
block's rows, with the row as an offset of 16 bits. A block of columns is then the concatenation of
one slice per segment. Six or ten bytes per non-zero are held, in memory or in a scratch file; the
two give the same arrays. Rows and columns stand here for the major and the minor axis of either
layout.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from crispyx._kernels import compressed as kernel
from crispyx._kernels.layout import CompressedBlock, Pieces
from crispyx._run.budget import working_memory
from crispyx.settings import settings

MAX_SEGMENT_MAJOR = 1 << 16
BYTES_PER_TURNED = 10  # at most: value (8) and offset (2) of one non-zero
Kept = np.ndarray | tuple[int, int, np.dtype]


def scratch_folder(n_values: int, folder: Path | None) -> Path | None:
    """Return where so many values are turned around; None where memory holds them.

    ``folder`` is taken where no scratch folder is set; None does it in memory then.
    """
    if BYTES_PER_TURNED * n_values <= working_memory() // 2:
        return None
    return settings.scratch_dir or folder


@dataclass(frozen=True)
class _Segment:
    """One segment: its places in ``values`` and ``offsets``, which segments may share.

    With a scratch file these two are (descriptor, position, dtype).
    """

    first_major: int
    ptr: np.ndarray
    values: Kept
    offsets: Kept


class SegmentStore:
    """Segments of one matrix, appended in major order.

    Parameters
    ----------
    n_minor : int
        Length of the axis to be read.
    scratch_dir : pathlib.Path or None
        Folder of the scratch file; None keeps the segments in memory.
    named : pathlib.Path or None
        A scratch file that others are to read, see :meth:`index`.
    """

    def __init__(
        self, n_minor: int, scratch_dir: Path | None = None, *, named: Path | None = None
    ) -> None:
        self.n_minor = n_minor
        self._segments: list[_Segment] = []
        self._files: list[int] = []
        self._closing = weakref.finalize(self, _close, self._files)
        self._scratch: BinaryIO | None = None
        if named is not None:
            self._scratch = open(named, "w+b")  # noqa: SIM115
        elif scratch_dir is not None:
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

    def index(self) -> dict[str, np.ndarray]:
        """Return what :meth:`add_file` must be told of the segments in the named file."""
        places, kinds = [], []
        for segment in self._segments:
            assert not isinstance(segment.values, np.ndarray)  # in the file
            assert not isinstance(segment.offsets, np.ndarray)
            places.append((segment.values[1], segment.offsets[1]))
            kinds.append(segment.values[2].str)
        ptr = [segment.ptr for segment in self._segments]
        return {
            "first_major": np.array([s.first_major for s in self._segments], dtype=np.int64),
            "ptr": np.array(ptr, dtype=np.int64).reshape(len(ptr), self.n_minor + 1),
            "places": np.array(places, dtype=np.int64).reshape(len(ptr), 2),
            "kinds": np.array(kinds, dtype="S3"),
        }

    def add_file(self, path: Path, index: Mapping[str, np.ndarray]) -> None:
        """Add the segments of a named file after those there are."""
        file = os.open(path, os.O_RDONLY)
        self._files.append(file)
        offsets = np.dtype(np.uint16)
        for first, ptr, (at, beside), kind in zip(
            index["first_major"].tolist(),
            index["ptr"],
            index["places"].tolist(),
            index["kinds"].tolist(),
            strict=True,
        ):
            values = file, at, np.dtype(kind.decode())
            self._segments.append(_Segment(first, ptr, values, (file, beside, offsets)))

    def n_values_of_minor(self) -> np.ndarray:
        """Return the number of values of every minor vector (n_minor,) int64."""
        counts = np.zeros(self.n_minor, dtype=np.int64)
        for segment in self._segments:
            counts += np.diff(segment.ptr)
        return counts

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
        """Let go of the segments and their files."""
        self._segments.clear()
        self._closing()
        if self._scratch is not None:
            self._scratch.close()

    def _common_dtype(self) -> np.dtype:
        kinds = {_dtype(segment.values) for segment in self._segments}
        return np.result_type(np.float32, *kinds)

    def _keep(self, array: np.ndarray) -> Kept:
        if self._scratch is None:
            return array
        position = self._scratch.seek(0, 2)
        array.tofile(self._scratch)
        self._scratch.flush()
        return self._scratch.fileno(), position, array.dtype

    @staticmethod
    def _slice(kept: Kept, begin: int, end: int) -> np.ndarray:
        if isinstance(kept, np.ndarray):
            return kept[begin:end]
        file, position, dtype = kept
        array = np.empty(end - begin, dtype=dtype)
        rest, place = array.view(np.uint8).data, position + begin * dtype.itemsize
        while rest:
            n_read = os.preadv(file, [rest], place)
            if n_read == 0:
                raise OSError("a scratch file ends before its values do")
            rest, place = rest[n_read:], place + n_read
        return array


def _close(files: list[int]) -> None:
    while files:
        os.close(files.pop())


def _dtype(kept: Kept) -> np.dtype:
    return kept.dtype if isinstance(kept, np.ndarray) else kept[2]
