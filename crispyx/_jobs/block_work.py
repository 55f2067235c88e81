"""What a worker does: compute one block of genes.

It is a function of a folder and a number, called by a local process, a dask worker or a job of a
batch system alike, and may be done twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from crispyx._io.array_files import map_arrays, read_note
from crispyx._io.genes import GeneStream
from crispyx._io.source import MatrixSummary
from crispyx._jobs.block_folder import BlockFolder, PassTiles, Tile
from crispyx._jobs.stage import STAGE, OpenedStage, opened_stage, saved, summary_of
from crispyx._jobs.tiles import Rows
from crispyx._run.fingerprint import require_unchanged
from crispyx._run.latest import OfThread
from crispyx._version import __version__
from crispyx.errors import CheckpointError

MANIFEST = "manifest"


class Work(Protocol):
    """What is computed of a block of genes: a dataclass, so that it can be recorded.

    Attributes
    ----------
    passes : tuple of str
        Names of the passes over the genes, all over the same blocks.
    grouped : bool
        Blocks are given as GroupedGenes, otherwise as CompressedBlock.
    """

    @property
    def passes(self) -> tuple[str, ...]: ...

    @property
    def grouped(self) -> bool: ...

    def with_threads(self, n_threads: int) -> Work:
        """Return the same work by so many threads."""

    def fields(self, number: int) -> Mapping[str, np.dtype]:
        """Return the arrays of a tile of a pass."""

    def barrier(self, number: int, before: Rows) -> Any:
        """Return what every block of pass ``number`` must know of all blocks of the one before."""

    def tile(
        self, number: int, block: Any, before: Tile | None = None, barrier: Any = None
    ) -> Tile:
        """Return the tile of a block in pass ``number``.

        ``before`` is the tile of the same genes in the pass before.
        """


@dataclass(frozen=True)
class Manifest:
    """A computation and its blocks.

    Attributes
    ----------
    edges : numpy.ndarray (n_blocks + 1,) int64
        First gene of every block, and the number of genes.
    work : Work
        What is computed.
    call : object
        What the caller asked for, to write the result with.
    takes_log1p : bool
        Counts are normalized on the way.
    """

    edges: np.ndarray
    work: Work
    call: Any
    takes_log1p: bool

    @property
    def n_blocks(self) -> int:
        """Blocks of one pass."""
        return len(self.edges) - 1

    def numbers(self, number: int) -> range:
        """Return the blocks of a pass; numbers go on from pass to pass."""
        return range(number * self.n_blocks, (number + 1) * self.n_blocks)


def run_block(path: str, key: str, number: int, n_threads: int) -> None:
    """Compute one block, unless it is there.

    Parameters
    ----------
    path : str
        The folder.
    key : str
        Key of the manifest.
    number : int
        Number of the block; those of the second pass follow those of the first.
    n_threads : int
        Threads of the kernels.

    Raises
    ------
    CheckpointError
        The manifest, its version or a block is another's, or blocks of the pass before are missing.
    InputError
        The input was changed.
    """
    folder = BlockFolder(Path(path))
    if folder.has_tile(number, key):
        return
    with opened_stage(path, folder.key(STAGE)) as stage:
        opened = stage.kept((key, n_threads), lambda: _OpenedManifest(folder, key, n_threads))
        manifest, stream = opened.manifest, opened.stream(stage)
        require_unchanged(opened.identity)
        position, unit = divmod(number, manifest.n_blocks)
        before = barrier = None
        if position > 0:
            barrier = cross_barrier(folder, key, manifest, position)
            before = map_arrays(folder.tile(number - manifest.n_blocks))
        start, stop = manifest.edges[unit : unit + 2].tolist()
        blocks: Any = stream.grouped if manifest.work.grouped else stream.blocks
        with closing(blocks(stop - start, start, stop)) as ahead:
            tile = manifest.work.tile(position, next(ahead), before, barrier)
        fields = manifest.work.fields(position)
        kept = {name: np.asarray(tile[name], dtype=kind) for name, kind in fields.items()}
        require_unchanged(opened.identity)  # nobody kept it from being changed by now
        folder.write_tile(number, key, _seen(stream.summary), kept)


def cross_barrier(folder: BlockFolder, key: str, manifest: Manifest, position: int) -> Any:
    """Return what a pass must know of the one before; whoever comes first works it out.

    Raises
    ------
    CheckpointError
        A block of the pass before is missing.
    """
    name = f"barrier_{position}"
    found = folder.load(name)
    if found is not None and folder.identity(name) == {"manifest": key}:
        return found[0]
    before = manifest.numbers(position - 1)
    folder.require_tiles(before, key)
    value = manifest.work.barrier(position, PassTiles(folder, before))
    folder.save(name, {"manifest": key}, value)
    return value


def _seen(summary: MatrixSummary) -> dict[str, Any]:
    return {
        "fractional": summary.fractional,
        "negative": summary.negative,
        "total": float(summary.library_sizes.sum()),
    }


def add_seen(folder: BlockFolder, numbers: range, summary: MatrixSummary) -> None:
    """Add what the blocks of a CSC matrix, looked at while computing, have seen of its values."""
    for number in numbers:
        note = read_note(folder.tile(number))
        assert note is not None  # all tiles are there
        summary.add(summary_of(note, summary.library_sizes))
        # Of which cell does not matter: it is asked whether there is any count at all.
        summary.library_sizes[0] += note["total"]


class _OpenedManifest:
    """A manifest, read once for a stage that is open; streams are each thread's own."""

    def __init__(self, folder: BlockFolder, key: str, n_threads: int) -> None:
        self.identity = folder.identity(MANIFEST) or {}
        if self.identity.get("version") != __version__:
            raise CheckpointError(
                f"the blocks in {str(folder.path)!r} were planned by crispyx "
                f"{self.identity.get('version')} and this is {__version__}; plan again, or run all "
                "blocks with the version that planned them"
            )
        manifest: Manifest = saved(folder, MANIFEST, key)
        self.manifest = replace(manifest, work=manifest.work.with_threads(n_threads))
        self.n_threads = n_threads
        self._stream: OfThread[GeneStream] = OfThread()

    def stream(self, opened: OpenedStage) -> GeneStream:
        """Return this thread's genes."""
        stream, stage = self._stream.get(), opened.stage
        # Of a CSC matrix a stream notes what it has seen: each block begins with nothing.
        if stream is None or stage.n_units == 0:
            stream = GeneStream(
                opened.source(),
                stage.membership,
                n_threads=self.n_threads,
                turned=opened.turned(),
            )
            if self.manifest.takes_log1p:
                stream.take_log1p()
            self._stream.set(stream)
        return stream
