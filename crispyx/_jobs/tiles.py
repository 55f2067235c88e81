"""Finished units of a result, kept in a work file until all are there.

A unit is a block of genes. Its tile holds one (n_groups, n_genes) array per field. Tiles are
appended to a raw file beside the output; the checkpoint says how many are complete. A kill at any
moment leaves at most tiles that the checkpoint does not count, and those are computed again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crispyx._jobs.checkpoint import Checkpoint


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
        self.work_path = output.with_name(f".{output.name}.work")
        self._checkpoint = checkpoint
        self._file: Any = None

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
        if state is not None and self.work_path.exists():
            self.width, self.done = state["width"], state["units"]
            if self.work_path.stat().st_size < self._offset(self.done):
                self.done = 0
        if self.done == 0:
            self._checkpoint.remove()
        self._file = open(self.work_path, "r+b" if self.done else "w+b")  # noqa: SIM115
        self._file.truncate(self._offset(self.done))
        self._file.seek(0, os.SEEK_END)
        return self.done

    def append(self, tile: Mapping[str, np.ndarray]) -> None:
        """Add the tile of the next unit, and note the progress when that is due."""
        for name, kind in self.fields.items():
            self._file.write(np.ascontiguousarray(tile[name], dtype=kind).data)
        self.done += 1
        if self._checkpoint.due(self.done):
            self.save()

    def save(self) -> None:
        """Note the progress."""
        self._file.flush()
        state = {"width": self.width, "units": self.done}
        self._checkpoint.save(state, self._file.fileno())

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Return groups ``start`` to ``stop`` of one field, all genes (stop - start, n_genes)."""
        self._file.flush()
        kind = self.fields[name]
        table = np.empty((stop - start, self.n_genes), dtype=kind)
        names = list(self.fields)
        before = sum(self.fields[other].itemsize for other in names[: names.index(name)])
        for unit in range(self.n_units):
            begin = unit * self.width
            width = min(self.width, self.n_genes - begin)
            position = self._offset(unit) + width * (before * self.n_groups + start * kind.itemsize)
            piece = os.pread(self._file.fileno(), (stop - start) * width * kind.itemsize, position)
            table[:, begin : begin + width] = np.frombuffer(piece, dtype=kind).reshape(-1, width)
        return table

    def close(self) -> None:
        """Close the work file; it stays for a later resume."""
        if self._file is not None:
            self._file.close()

    def remove(self) -> None:
        """Delete the work file and the checkpoint."""
        self.close()
        self._checkpoint.remove()
        self.work_path.unlink(missing_ok=True)

    def _offset(self, unit: int) -> int:
        genes = min(unit * self.width, self.n_genes)
        return genes * self.n_groups * sum(kind.itemsize for kind in self.fields.values())


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
