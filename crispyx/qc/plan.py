"""How quality control reads the matrix, given a memory budget: never what it finds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from crispyx._io.chunk_cache import ALL_VECTORS, BlockBounds, CacheMode, ChunkCache
from crispyx._io.compressed import CompressedStorage
from crispyx._io.matrix import STREAM_VALUES
from crispyx._io.source import MatrixSource
from crispyx._io.stored_array import is_compressed
from crispyx._run.budget import require, working_memory
from crispyx.qc.counts import block_bounds
from crispyx.settings import Engine, settings

BYTES_PER_READ = 40  # a value being read: stored, converted, checked, selected
BYTES_PER_CELL = 128  # label, counts, masks, library size
BYTES_PER_GENE = 40
SMALL = 200_000_000  # bytes; above, reading again costs no more than filling memory


@dataclass(frozen=True)
class Passes:
    """How the matrix is passed over.

    Attributes
    ----------
    cache : {"memory", "memmap", "none"}
        What later passes read.
    bounds : BlockBounds
        Size of a block.
    scratch_dir : pathlib.Path or None
        Folder of the scratch file.
    """

    cache: CacheMode
    bounds: BlockBounds
    scratch_dir: Path | None

    def open(self, source: MatrixSource) -> ChunkCache:
        """Return the blocks of a matrix, to be passed over this way."""
        return ChunkCache(source, self.cache, bounds=self.bounds, scratch_dir=self.scratch_dir)


def plan_passes(
    source: MatrixSource,
    cache_mode: CacheMode,
    *,
    chunk_size: int | None,
    memory_limit_gb: float | None,
    force_streaming: bool,
    output: Path | None,
    engine: Engine,
) -> Passes:
    """Choose a strategy.

    A small matrix is read once and kept in memory. A larger CSC matrix is streamed by columns, once
    for each pass; a larger CSR or dense one by rows, with the cache the caller chose. The scratch
    file of "memmap" is not written where the source itself is as good as one.

    Parameters
    ----------
    source : MatrixSource
        The matrix.
    cache_mode : {"memory", "memmap", "none"}
        Cache of a matrix streamed by rows.
    chunk_size : int or None
        Vectors of a block at most; None lets the budget decide.
    memory_limit_gb : float or None
        See :func:`crispyx._run.budget.working_memory`.
    force_streaming : bool
        Never keep the matrix in memory for being small.
    output : pathlib.Path or None
        Its folder takes the scratch file unless ``settings.scratch_dir`` is set.
    engine : {"compiled", "reference"}
        The reference needs smaller blocks.

    Raises
    ------
    MemoryBudgetError
        Not even one vector at a time fits.
    """
    n_cells, n_genes = source.shape
    storage = source.storage
    bounds = block_bounds(source, chunk_size or ALL_VECTORS, engine)
    budget = working_memory(memory_limit_gb)
    longest = storage.n_minor
    if isinstance(storage, CompressedStorage):
        longest = int(np.diff(storage.indptr).max())
    fixed = BYTES_PER_CELL * n_cells + BYTES_PER_GENE * n_genes
    require(fixed + BYTES_PER_READ * longest, budget, f"{source.where}: quality control")
    left = budget - fixed
    max_values = max(longest, min(STREAM_VALUES, left // (2 * BYTES_PER_READ)))
    kept = storage.n_stored * (max(4, source.dtype.itemsize) + 4) + 8 * storage.n_major
    small = kept <= SMALL and kept + BYTES_PER_READ * max_values <= left
    if small and not force_streaming:
        cache: CacheMode = "memory"
    elif source.layout == "csc" or (cache_mode == "memmap" and _is_its_own_cache(source)):
        cache = "none"
    else:
        cache = cache_mode
    scratch = settings.scratch_dir or (output.parent if output else None)
    return Passes(cache, replace(bounds, max_values=max_values), scratch)


def _is_its_own_cache(source: MatrixSource) -> bool:
    storage = source.storage
    return (
        isinstance(storage, CompressedStorage)
        and storage.dtype.kind == "f"
        and not (is_compressed(storage.data) or is_compressed(storage.indices))
    )
