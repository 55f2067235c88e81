"""Finished units of a result, kept in a work file until all are there.

A unit is a block of genes. Its tile holds one (n_groups, n_genes) array per field, which goes to
its columns of a table in the work file beside the output; that file becomes the result. The
checkpoint says how many tiles are complete. A kill at any moment leaves at most tiles that the
checkpoint does not count, and those are computed again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from crispyx._io.paths import begun_path, work_path
from crispyx._io.tables import create_tables, table_places, write_columns
from crispyx._jobs.checkpoint import Checkpoint
from crispyx._kernels.strips import start_writing


class Rows(Protocol):
    """Tables of a complete pass over the genes."""

    n_groups: int
    n_genes: int

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Return rows ``start`` to ``stop`` of one field, all genes (stop - start, n_genes)."""


class TileStore:
    """Tiles of one result in the order of the genes.

    Parameters
    ----------
    output : pathlib.Path
        Final file; the work file stands beside it.
    fields : mapping of str to numpy.dtype
        Arrays of a tile.
    shape : tuple (n_groups, n_genes)
        Shape of the whole result.
    width : int
        Genes of a unit; the last may be narrower. A resumed run keeps the width it began with.
    checkpoint : Checkpoint
        Where progress is noted.
    """

    def __init__(
        self,
        output: Path,
        fields: Mapping[str, np.dtype],
        shape: tuple[int, int],
        width: int,
        checkpoint: Checkpoint,
    ) -> None:
        self.fields = {name: np.dtype(kind) for name, kind in fields.items()}
        self.n_groups, self.n_genes = shape
        self.width = width
        self.done = 0
        self.work_path = work_path(output)
        self._begun_path = begun_path(output)
        self._checkpoint = checkpoint
        self._file: int | None = None
        self._places: dict[str, int] = {}

    @property
    def n_units(self) -> int:
        """Number of units of the whole result."""
        return -(-self.n_genes // self.width)

    def open(self, *, resume: bool) -> int:
        """Start afresh, or go on after the last complete unit; return the number of units done.

        Raises
        ------
        CheckpointError
            The checkpoint belongs to other parameters or another input.
        """
        state = self._checkpoint.load() if resume else None
        places = None
        if state is not None:
            places = table_places(self.work_path, self.fields, (self.n_groups, self.n_genes))
        if state is not None and places is not None:
            self.width, self.done = state["width"], state["units"]
            self._open(self.work_path, places)
        if self.done == 0:
            self.remove()
        return self.done

    def is_complete(self) -> bool:
        """Tell whether an earlier run left all units.

        Raises
        ------
        CheckpointError
            The checkpoint belongs to other parameters or another input.
        """
        state = self._checkpoint.load()
        if state is None or state["units"] * state["width"] < self.n_genes:
            return False
        return table_places(self.work_path, self.fields, (self.n_groups, self.n_genes)) is not None

    def append(self, tile: Mapping[str, np.ndarray]) -> None:
        """Add the tile of the next unit, and note the progress when that is due."""
        begun = self.work_path
        if self._file is None:
            # The work file appears with its first tile in it.
            begun = self._begun_path
            shape = (self.n_groups, self.n_genes)
            self._open(begun, create_tables(begun, self.fields, shape))
        assert self._file is not None
        for name, kind in self.fields.items():
            columns = np.ascontiguousarray(tile[name], dtype=kind)
            write_columns(self._file, columns, self._first_gene, self._places[name], self.n_genes)
        if begun != self.work_path:
            os.replace(begun, self.work_path)
        self.done += 1
        if self._checkpoint.due(self.done):
            self.save()

    @property
    def _first_gene(self) -> int:
        """First gene of the next unit."""
        return self.done * self.width

    def save(self) -> None:
        """Note the progress."""
        if self._file is not None:
            self._checkpoint.save({"width": self.width, "units": self.done}, self._file)

    def settle(self) -> None:
        """Note that all units are there, unless they take less time than there is between notes."""
        if self._checkpoint.is_late:
            self.save()

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Return groups ``start`` to ``stop`` of one field, all genes (stop - start, n_genes)."""
        assert self._file is not None
        kind = self.fields[name]
        table = np.empty((stop - start, self.n_genes), dtype=kind)
        rest = table.reshape(-1).view(np.uint8).data
        place = self._places[name] + start * self.n_genes * kind.itemsize
        while rest:
            n_read = os.preadv(self._file, [rest], place)
            if n_read == 0:
                raise OSError(f"{str(self.work_path)!r} ends before its tables do")
            rest, place = rest[n_read:], place + n_read
        return table

    def columns(self, name: str, start: int, stop: int) -> np.ndarray:
        """Return genes ``start`` to ``stop`` of one field, all rows (n_rows, stop - start)."""
        assert self._file is not None
        kind = self.fields[name]
        table = np.empty((self.n_groups, stop - start), dtype=kind)
        for row in range(self.n_groups):
            place = self._places[name] + (row * self.n_genes + start) * kind.itemsize
            table[row] = np.frombuffer(os.pread(self._file, table[row].nbytes, place), dtype=kind)
        return table

    def start_writing(self) -> None:
        """Let the disk begin with the tables: no tile will be added."""
        if self._file is not None:
            start_writing(self._file, 0, 0)

    def close(self) -> None:
        """Close the work file; it stays for a later resume."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def remove(self) -> None:
        """Delete the work file and the checkpoint."""
        self.close()
        self._checkpoint.remove()
        self.work_path.unlink(missing_ok=True)
        self._begun_path.unlink(missing_ok=True)

    def remove_unnoted(self) -> None:
        """Delete the work file where no checkpoint counts on it: nothing could go on with it."""
        if not self._checkpoint.path.exists():
            self.remove()

    def _open(self, path: Path, places: dict[str, int]) -> None:
        self._file, self._places = os.open(path, os.O_RDWR), places


class AssembledTiles(TileStore):
    """Tiles that are kept elsewhere and put together in one go: there is no progress to note.

    Parameters
    ----------
    output, fields, shape, checkpoint
        As of a :class:`TileStore`.
    edges : numpy.ndarray (n_units + 1,) int64
        First gene of every unit, and the number of genes.
    """

    def __init__(
        self,
        output: Path,
        fields: Mapping[str, np.dtype],
        shape: tuple[int, int],
        edges: np.ndarray,
        checkpoint: Checkpoint,
    ) -> None:
        super().__init__(output, fields, shape, shape[1], checkpoint)
        self._edges = edges

    @property
    def n_units(self) -> int:
        """Number of units of the whole result."""
        return len(self._edges) - 1

    @property
    def _first_gene(self) -> int:
        return int(self._edges[self.done])

    def save(self) -> None:
        """Note nothing: an interrupted assembly begins again."""


class HeldTile(TileStore):
    """The tile of a result that is one unit, kept in memory: nothing is written twice."""

    def open(self, *, resume: bool) -> int:
        """Start afresh, also beside units that a run with less memory left; return 0.

        Raises
        ------
        CheckpointError
            The checkpoint belongs to other parameters or another input.
        """
        if resume:
            self._checkpoint.load()
        return super().open(resume=False)

    def append(self, tile: Mapping[str, np.ndarray]) -> None:
        """Keep the tile."""
        self._tile = tile
        self.done += 1

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Return groups ``start`` to ``stop`` of one field, all genes (stop - start, n_genes)."""
        return self._tile[name][start:stop]

    def columns(self, name: str, start: int, stop: int) -> np.ndarray:
        """Return genes ``start`` to ``stop`` of one field, all rows (n_rows, stop - start)."""
        return self._tile[name][:, start:stop]
