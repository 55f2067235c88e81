"""Blocks of a matrix for several passes: kept in memory, in a scratch file, or read again."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, get_args

import numpy as np

from crispyx._io.disk import reporting_full_disk
from crispyx._io.matrix import READ_VALUES, MatrixSource, MatrixSummary
from crispyx._kernels.layout import CompressedBlock
from crispyx._run.budget import size_text
from crispyx.errors import DiskSpaceError, InputError

CacheMode = Literal["memory", "memmap", "none"]
ALL_VECTORS = 1 << 62


@dataclass(frozen=True)
class BlockBounds:
    """How large a block may be.

    Attributes
    ----------
    max_values : int
        Values; a vector that has more is a block of its own.
    max_major : int
        Vectors of the stored axis.
    """

    max_values: int = READ_VALUES
    max_major: int = ALL_VECTORS


@dataclass(frozen=True)
class _Spooled:
    """Where a block stands in the scratch file."""

    position: int
    n_values: int
    dtype: np.dtype


class ChunkCache:
    """Blocks of one matrix along the axis it is stored by, for any number of passes.

    The first complete pass reads the source; later ones take what ``mode`` says. All modes hand out
    the same arrays.

    Parameters
    ----------
    source : MatrixSource
        The matrix; must stay open.
    mode : {"memory", "memmap", "none"}
        Keep the blocks in memory, in a scratch file that vanishes with the cache, or read the
        source again.
    bounds : BlockBounds
        Size of a block.
    scratch_dir : pathlib.Path or None
        Folder of the scratch file; None takes the system's temporary folder.

    Raises
    ------
    InputError
        Another mode.
    DiskSpaceError
        The scratch file would not fit.
    """

    def __init__(
        self,
        source: MatrixSource,
        mode: CacheMode = "none",
        *,
        bounds: BlockBounds = BlockBounds(),
        scratch_dir: Path | None = None,
    ) -> None:
        if mode not in get_args(CacheMode):
            raise InputError(f"cache_mode is {mode!r}; choose one of {get_args(CacheMode)}")
        self.source = source
        self.mode = mode
        self.bounds = bounds
        self._ranges: list[tuple[int, int]] = []
        self._kept: list[CompressedBlock | _Spooled | None] = []
        self._complete = False
        self._folder = scratch_dir or Path(tempfile.gettempdir())
        self._scratch: BinaryIO | None = None
        if mode == "memmap":
            _require_space(self._folder, source)
            # Nameless from the start: the space is freed however the process ends.
            self._scratch = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115

    def blocks(
        self, use_major: np.ndarray | None = None, summary: MatrixSummary | None = None
    ) -> Iterator[CompressedBlock]:
        """Yield the blocks in order.

        Parameters
        ----------
        use_major : numpy.ndarray (n_major,) bool or None
            Blocks without any of these vectors are skipped once all have been seen.
        summary : MatrixSummary or None
            Updated by a pass over the source.
        """
        if not self._complete:
            yield from self._fill(summary)
            return
        for (start, stop), kept in zip(self._ranges, self._kept, strict=True):
            if use_major is None or use_major[start:stop].any():
                yield self._again(start, stop, kept)

    def close(self) -> None:
        """Let go of the blocks and of the scratch file."""
        self._complete = False
        self._ranges, self._kept = [], []
        if self._scratch is not None:
            with suppress(OSError):  # what a full disk did not take is not needed any more
                self._scratch.close()

    def __enter__(self) -> ChunkCache:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _fill(self, summary: MatrixSummary | None) -> Iterator[CompressedBlock]:
        self._ranges, self._kept = [], []
        if self._scratch is not None:
            self._scratch.seek(0)
        for block in self.source.native_blocks(
            summary, max_values=self.bounds.max_values, max_major=self.bounds.max_major
        ):
            self._ranges.append((block.start, block.stop))
            self._kept.append(self._keep(block))
            yield block
        self._complete = True

    def _keep(self, block: CompressedBlock) -> CompressedBlock | _Spooled | None:
        if self.mode == "memory":
            return block
        if self._scratch is None:
            return None
        position = self._scratch.tell()
        with reporting_full_disk(self._folder, f"the scratch file of {self.source.where}"):
            for part in (block.values, block.minor, block.ptr):
                self._scratch.write(part.data.cast("B") if len(part) else b"")
            self._scratch.flush()
        return _Spooled(position, len(block.values), block.values.dtype)

    def _again(
        self, start: int, stop: int, kept: CompressedBlock | _Spooled | None
    ) -> CompressedBlock:
        if isinstance(kept, CompressedBlock):
            return kept
        if kept is None or self._scratch is None:
            return next(
                self.source.native_blocks(
                    start=start, stop=stop, max_values=ALL_VECTORS, max_major=ALL_VECTORS
                )
            )
        self._scratch.seek(kept.position)
        values, minor, ptr = (
            np.frombuffer(self._scratch.read(count * np.dtype(kind).itemsize), dtype=kind)
            for kind, count in (
                (kept.dtype, kept.n_values),
                (np.int32, kept.n_values),
                (np.int64, stop - start + 1),
            )
        )
        return CompressedBlock(start, stop, values, minor, ptr)


def _require_space(folder: Path, source: MatrixSource) -> None:
    n_stored = source.storage.n_stored
    needed = n_stored * (max(4, source.dtype.itemsize) + 4) + 8 * source.storage.n_major
    if source.layout == "dense":
        return  # only the non-zeros are kept, and their number is not known beforehand
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskSpaceError(
            f"the scratch file of {source.where} needs up to {size_text(needed)} but "
            f"{str(folder)!r} has {size_text(free)} free; set crispyx.settings.scratch_dir to "
            "another disk, or give cache_mode='none'"
        )
