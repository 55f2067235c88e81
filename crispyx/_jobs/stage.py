"""The matrix by genes, as workers are given it: made in parts, kept in a folder, opened by all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from crispyx._io.array_files import map_arrays, read_note, write_arrays
from crispyx._io.atomic import atomic_path
from crispyx._io.genes import TurnedMatrix
from crispyx._io.segments import MAX_SEGMENT_MAJOR, SegmentStore
from crispyx._io.source import MatrixSource, MatrixSummary, open_source, without_lock
from crispyx._jobs.block_folder import BlockFolder
from crispyx._jobs.shared_input import OpenedInput
from crispyx._kernels.layout import Membership
from crispyx._run.fingerprint import difference, require_unchanged, to_json
from crispyx._run.latest import Latest
from crispyx._version import __version__
from crispyx.errors import CheckpointError, InputError

STAGE = "stage"

T = TypeVar("T")


@dataclass(frozen=True)
class Stage:
    """How the matrix is turned around, and where.

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
    turned : str
        Folder of the parts.
    contents : str
        What tells these parts from others, see :func:`contents_of`.
    """

    data: Any
    layer: str | None
    membership: Membership
    edges: np.ndarray
    every_cell: bool
    turned: str
    contents: str

    @property
    def n_units(self) -> int:
        return len(self.edges) - 1

    @property
    def used_cells(self) -> np.ndarray:
        """Cells that are turned around (n_cells,) bool."""
        return _used_cells(self.membership, self.every_cell)

    @property
    def stretches(self) -> list[tuple[int, int]]:
        """First and last cells of what is read."""
        return _stretches(self.membership, self.every_cell)

    def values(self, unit: int) -> Path:
        """Return the file of values of a part."""
        return Path(self.turned) / f"{unit:05d}.values"

    def note(self, unit: int) -> Path:
        """Return the file that says what is in it."""
        return Path(self.turned) / f"{unit:05d}.note"

    def missing(self) -> list[int]:
        """Return the parts that are not there."""
        return [unit for unit in range(self.n_units) if not self.has(unit)]

    def has(self, unit: int) -> bool:
        """Tell whether a part is there."""
        note = read_note(self.note(unit))
        return note is not None and note["contents"] == self.contents


def contents_of(
    source: MatrixSource, membership: Membership, edges: np.ndarray, every_cell: bool
) -> str:
    """Return what identifies the parts: the input, its cells that are used, and how it is cut.

    Tests whose groups hold the same cells have the same parts, whatever the groups are.
    """
    told = {
        "version": __version__,
        "input": source.identity(),
        "edges": edges,
        "stretches": _stretches(membership, every_cell),
    }
    digest = hashlib.sha256(to_json(told).encode())
    digest.update(np.packbits(_used_cells(membership, every_cell)).data)
    return digest.hexdigest()[:16]


def _used_cells(membership: Membership, every_cell: bool) -> np.ndarray:
    used = membership.used_cells
    return np.ones_like(used) if every_cell else used


def _stretches(membership: Membership, every_cell: bool) -> list[tuple[int, int]]:
    return [(0, len(membership.ptr) - 1)] if every_cell else membership.stretches()


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
    with opened_stage(path, key) as opened:
        stage = opened.stage
        if stage.has(unit):
            return
        source = opened.source()
        start, stop = stage.edges[unit : unit + 2].tolist()
        summary = source.empty_summary()
        summary.sizes_of_counts_only = True
        if source.layout == "csc":
            for _ in source.native_blocks(summary, start=start, stop=stop):
                pass
            arrays = {"library_sizes": summary.library_sizes}
        else:
            with atomic_path(stage.values(unit)) as work:
                arrays = _turn(source, stage, (start, stop), summary, work)
            arrays["library_sizes"] = summary.library_sizes[start:stop]
        require_unchanged(opened.identity)
        note = {
            "contents": stage.contents,
            "fractional": summary.fractional,
            "negative": summary.negative,
            "stored_zeros": summary.stored_zeros,
        }
        write_arrays(stage.note(unit), note, arrays)


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


def turned_matrix(stage: Stage, source: MatrixSource) -> TurnedMatrix | None:
    """Return the matrix that all parts together are; None where there was nothing to turn.

    Raises
    ------
    CheckpointError
        A part is missing.
    """
    if stage.n_units == 0:
        return None
    whole = source.empty_summary()
    whole.sizes_of_counts_only = True
    by_genes = source.layout == "csc"
    store = None if by_genes else SegmentStore(source.shape[1])
    for unit in range(stage.n_units):
        if not stage.has(unit):
            raise CheckpointError(f"part {unit} of the turned matrix is missing in {stage.turned}")
        note, arrays = read_note(stage.note(unit)), map_arrays(stage.note(unit))
        assert note is not None  # just read
        start, stop = (0, source.shape[0]) if by_genes else stage.edges[unit : unit + 2]
        whole.library_sizes[start:stop] += arrays["library_sizes"]
        whole.add(summary_of(note, whole.library_sizes))
        if store is not None:
            store.add_file(stage.values(unit), arrays)
    whole.complete = by_genes or stage.stretches == [(0, source.shape[0])]
    return TurnedMatrix(whole, store)


def summary_of(note: Mapping[str, Any], library_sizes: np.ndarray) -> MatrixSummary:
    """Return what a note says of the values that were seen."""
    fractional, negative = (
        None if note[name] is None else tuple(note[name]) for name in ("fractional", "negative")
    )
    return MatrixSummary(library_sizes, fractional, negative, bool(note.get("stored_zeros")))


def saved(folder: BlockFolder, name: str, key: str) -> Any:
    """Return what a folder holds under a name and a key.

    Raises
    ------
    CheckpointError
        It is another one, or none.
    """
    found = folder.load(name)
    if found is None or found[1] != key:
        raise CheckpointError(
            f"{str(folder.path)!r} holds another {name} than the {key} this block belongs to"
        )
    return found[0]


class OpenedStage:
    """A stage with its input, opened once by each thread of a process."""

    def __init__(self, folder: BlockFolder, key: str) -> None:
        self.stage: Stage = saved(folder, STAGE, key)
        self.identity = folder.identity(STAGE) or {}
        self._input = OpenedInput(partial(_opened_input, folder, self.stage, self.identity))
        self._kept: dict[Hashable, Any] = {}

    def source(self) -> MatrixSource:
        """Return this thread's input."""
        return self._input.source()

    def turned(self) -> TurnedMatrix | None:
        """Return the turned matrix, which all threads share: its files are opened once."""
        return self.kept("turned", lambda: turned_matrix(self.stage, self.source()))

    def kept(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what belongs to ``key``, made once and kept as long as the stage is open."""
        if key not in self._kept:
            self._kept.setdefault(key, make())
        return cast(T, self._kept[key])

    def close(self) -> None:
        """Close the input, wherever it was opened, and what reads it."""
        self._kept.clear()
        self._input.close()


def _opened_input(folder: BlockFolder, stage: Stage, identity: Mapping[str, Any]) -> MatrixSource:
    with without_lock():  # who asked for the work has one
        source = open_source(stage.data, stage.layer)
    expected, found = identity.get("input"), source.identity()
    if found != expected:
        source.close()
        raise InputError(
            f"{source.where} is not any more what the blocks in {str(folder.path)!r} were planned "
            f"for: {difference({'input': expected}, {'input': found})}; plan again"
        )
    return source


_stages: Latest[OpenedStage] = Latest()


@contextmanager
def opened_stage(path: str, key: str) -> Iterator[OpenedStage]:
    """Yield a stage, which stays open until another is asked for."""
    with _stages.using((path, key), lambda: OpenedStage(BlockFolder(Path(path)), key)) as opened:
        yield opened


def close_stages() -> None:
    """Close what this process has opened to turn parts around or to compute blocks."""
    _stages.close()
