"""What a worker does: turn a part of the matrix around, or compute one block of genes.

Both are functions of a folder and a number, called by a local process, a dask worker or a job of a
batch system alike, and both may be done twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from crispyx._io.array_files import map_arrays, read_note, write_arrays
from crispyx._io.atomic import atomic_path
from crispyx._io.genes import GeneStream, TurnedMatrix
from crispyx._io.segments import MAX_SEGMENT_MAJOR, SegmentStore
from crispyx._io.source import MatrixSource, MatrixSummary, open_source
from crispyx._jobs.block_folder import BlockFolder, PassTiles, Tile
from crispyx._jobs.shared_input import OpenedInput
from crispyx._jobs.tiles import Rows
from crispyx._kernels.layout import Membership
from crispyx._run.fingerprint import difference, require_unchanged
from crispyx._run.latest import Latest, OfThread
from crispyx._version import __version__
from crispyx.errors import CheckpointError, InputError

STAGE, MANIFEST = "stage", "manifest"


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
class Stage:
    """How the matrix is turned around.

    Attributes
    ----------
    data : str or list of str
        The input as :func:`crispyx._io.source.open_source` takes it.
    layer : str or None
        Layer instead of X.
    membership : Membership
        Groups of the cells.
    edges : numpy.ndarray (n_units + 1,) int64
        Parts of the stored axis.
    every_cell : bool
        Cells in no group are turned around, too.
    """

    data: Any
    layer: str | None
    membership: Membership
    edges: np.ndarray
    every_cell: bool

    @property
    def n_units(self) -> int:
        return len(self.edges) - 1

    @property
    def used_cells(self) -> np.ndarray:
        """Cells that are turned around (n_cells,) bool."""
        used = self.membership.used_cells
        return np.ones_like(used) if self.every_cell else used

    @property
    def stretches(self) -> list[tuple[int, int]]:
        """First and last cells of what is read."""
        if self.every_cell:
            return [(0, len(self.membership.ptr) - 1)]
        return self.membership.stretches()


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


def turn_unit(path: str, key: str, unit: int) -> None:
    """Turn one part of the matrix around; of a CSC matrix, look at it only.

    Parameters
    ----------
    path : str
        The folder.
    key : str
        Key of the stage.
    unit : int
        Number of the part.
    """
    folder = BlockFolder(Path(path))
    if _is_turned(folder, key, unit):
        return
    opened = opened_stage(path, key)
    stage, source = opened.stage, opened.source()
    start, stop = stage.edges[unit : unit + 2].tolist()
    summary = source.empty_summary()
    summary.sizes_of_counts_only = True
    if source.layout == "csc":
        for _ in source.native_blocks(summary, start=start, stop=stop):
            pass
        arrays = {"library_sizes": summary.library_sizes}
    else:
        with atomic_path(folder.turned(unit)) as work:
            arrays = _turn(source, stage, (start, stop), summary, work)
        arrays["library_sizes"] = summary.library_sizes[start:stop]
    require_unchanged(opened.identity)
    note = {
        "key": key,
        "fractional": summary.fractional,
        "negative": summary.negative,
        "stored_zeros": summary.stored_zeros,
    }
    write_arrays(folder.turned_note(unit), note, arrays)


def _turn(
    source: MatrixSource,
    stage: Stage,
    part: tuple[int, int],
    summary: MatrixSummary,
    work: Path,
) -> dict[str, np.ndarray]:
    """Write the segments of some cells; return the index of them."""
    used = stage.used_cells
    with closing(SegmentStore(source.shape[1], named=work)) as store:
        for first, last in stage.stretches:
            start, stop = max(first, part[0]), min(last, part[1])
            if start >= stop:
                continue
            for block in source.native_blocks(
                summary, start=start, stop=stop, max_major=MAX_SEGMENT_MAJOR
            ):
                store.append(block, used[block.start : block.stop])
        return store.index()


def turned_matrix(
    folder: BlockFolder, key: str, stage: Stage, source: MatrixSource
) -> TurnedMatrix | None:
    """Return the matrix that all units together are; None where there was nothing to turn.

    Raises
    ------
    CheckpointError
        A unit is missing.
    """
    if stage.n_units == 0:
        return None
    whole = source.empty_summary()
    whole.sizes_of_counts_only = True
    by_genes = source.layout == "csc"
    store = None if by_genes else SegmentStore(source.shape[1])
    for unit in range(stage.n_units):
        if not _is_turned(folder, key, unit):
            raise CheckpointError(f"part {unit} of the turned matrix is missing in {folder.path}")
        note, arrays = read_note(folder.turned_note(unit)), map_arrays(folder.turned_note(unit))
        assert note is not None  # just read
        start, stop = (0, source.shape[0]) if by_genes else stage.edges[unit : unit + 2]
        whole.library_sizes[start:stop] += arrays["library_sizes"]
        whole.add(_summary_of(note, whole.library_sizes))
        if store is not None:
            store.add_file(folder.turned(unit), arrays)
    whole.complete = by_genes or stage.stretches == [(0, source.shape[0])]
    return TurnedMatrix(whole, store)


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
    opened = _manifests.get((path, key, n_threads), lambda: _OpenedManifest(folder, key, n_threads))
    manifest, stream = opened.manifest, opened.stream()
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
        summary.add(_summary_of(note, summary.library_sizes))
        # Of which cell does not matter: it is asked whether there is any count at all.
        summary.library_sizes[0] += note["total"]


def _summary_of(note: Mapping[str, Any], library_sizes: np.ndarray) -> MatrixSummary:
    fractional, negative = (
        None if note[name] is None else tuple(note[name]) for name in ("fractional", "negative")
    )
    return MatrixSummary(library_sizes, fractional, negative, bool(note.get("stored_zeros")))


def _is_turned(folder: BlockFolder, key: str, unit: int) -> bool:
    note = read_note(folder.turned_note(unit))
    return note is not None and note["key"] == key


def _saved(folder: BlockFolder, name: str, key: str) -> Any:
    found = folder.load(name)
    if found is None or found[1] != key:
        raise CheckpointError(
            f"{str(folder.path)!r} holds another {name} than the {key} this block belongs to"
        )
    return found[0]


def _opened_input(folder: BlockFolder, stage: Stage) -> MatrixSource:
    source = open_source(stage.data, stage.layer)
    expected, found = (folder.identity(STAGE) or {}).get("input"), source.identity()
    if found != expected:
        source.close()
        raise InputError(
            f"{source.where} is not any more what the blocks in {str(folder.path)!r} were planned "
            f"for: {difference({'input': expected}, {'input': found})}; plan again"
        )
    return source


class OpenedStage:
    """A stage with its input, opened once by each thread of a process."""

    def __init__(self, folder: BlockFolder, key: str) -> None:
        self.folder, self.key = folder, key
        self.stage: Stage = _saved(folder, STAGE, key)
        self.identity = folder.identity(STAGE) or {}
        self._input = OpenedInput(partial(_opened_input, folder, self.stage))

    def source(self) -> MatrixSource:
        """Return this thread's input."""
        return self._input.source()

    def turned(self) -> TurnedMatrix | None:
        """Return the turned matrix."""
        return turned_matrix(self.folder, self.key, self.stage, self.source())

    def close(self) -> None:
        """Close the input, wherever it was opened."""
        self._input.close()


class _OpenedManifest:
    """A manifest, read once in a process; streams are each thread's own."""

    def __init__(self, folder: BlockFolder, key: str, n_threads: int) -> None:
        self.identity = folder.identity(MANIFEST) or {}
        if self.identity.get("version") != __version__:
            raise CheckpointError(
                f"the blocks in {str(folder.path)!r} were planned by crispyx "
                f"{self.identity.get('version')} and this is {__version__}; plan again, or run all "
                "blocks with the version that planned them"
            )
        manifest: Manifest = _saved(folder, MANIFEST, key)
        self.manifest = replace(manifest, work=manifest.work.with_threads(n_threads))
        self.n_threads = n_threads
        self._opened = opened_stage(str(folder.path), folder.key(STAGE))
        self._stream: OfThread[GeneStream] = OfThread()

    def stream(self) -> GeneStream:
        """Return this thread's genes."""
        stream, stage = self._stream.get(), self._opened.stage
        # Of a CSC matrix a stream notes what it has seen: each block begins with nothing.
        if stream is None or stage.n_units == 0:
            stream = GeneStream(
                self._opened.source(),
                stage.membership,
                n_threads=self.n_threads,
                turned=self._opened.turned(),
            )
            if self.manifest.takes_log1p:
                stream.take_log1p()
            self._stream.set(stream)
        return stream

    def close(self) -> None:
        """Leave the input to the stage."""


_stages: Latest[OpenedStage] = Latest()
_manifests: Latest[_OpenedManifest] = Latest()


def opened_stage(path: str, key: str) -> OpenedStage:
    """Return a stage, kept open until another is asked for."""
    return _stages.get((path, key), lambda: OpenedStage(BlockFolder(Path(path)), key))


def close_input() -> None:
    """Close what blocks computed in this process have opened."""
    _manifests.close()
    _stages.close()
