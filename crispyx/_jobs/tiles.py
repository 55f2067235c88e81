"""Finished units of a result, kept in a work file until all are there.

A unit is a block of genes. Its tile holds one (n_groups, n_genes) array per field. Tiles are
appended to a raw file beside the output, and ``<output>.progress.json`` says how many are complete
and what they belong to; a kill at any moment leaves at most one unfinished tile, which is dropped.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crispyx._run.fingerprint import difference, to_json
from crispyx.errors import CheckpointError


class TileStore:
    """Tiles of one result in the order of the genes.

    Parameters
    ----------
    output : pathlib.Path
        Final file; the work files stand beside it.
    fields : mapping of str to numpy.dtype
        Arrays of a tile.
    shape : tuple (n_groups, n_genes)
        Shape of the whole result.
    width : int
        Genes of a unit; the last may be narrower. A resumed run keeps the width it began with.
    fingerprint : mapping
        Identity of the computation.
    interval : int
        Units between two checkpoints.
    """

    def __init__(
        self,
        output: Path,
        fields: Mapping[str, np.dtype],
        shape: tuple[int, int],
        width: int,
        fingerprint: Mapping[str, Any],
        interval: int,
    ) -> None:
        self.fields = {name: np.dtype(kind) for name, kind in fields.items()}
        self.n_groups, self.n_genes = shape
        self.width = width
        self.done = 0
        self._interval = interval
        self._checksums: list[int] = []
        self._fingerprint = json.loads(to_json(fingerprint))
        self.work_path = output.with_name(f".{output.name}.work")
        self.progress_path = output.with_name(f"{output.name}.progress.json")
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
        if resume and self.progress_path.exists() and self.work_path.exists():
            self._restore()
        self._file = open(self.work_path, "r+b" if self.done else "w+b")  # noqa: SIM115
        self._file.truncate(self._offset(self.done))
        self._file.seek(0, os.SEEK_END)
        return self.done

    def append(self, tile: Mapping[str, np.ndarray]) -> None:
        """Add the tile of the next unit; every ``interval`` units the progress is saved."""
        checksum = 0
        for name, kind in self.fields.items():
            data = np.ascontiguousarray(tile[name], dtype=kind).data.cast("B")
            checksum = zlib.crc32(data, checksum)
            self._file.write(data)
        self._checksums.append(checksum)
        self.done += 1
        if self.done % self._interval == 0 or self.done == self.n_units:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Save how far the work has come."""
        self._file.flush()
        record = {
            "fingerprint": self._fingerprint,
            "width": self.width,
            "checksums": self._checksums,
        }
        draft = self.progress_path.with_name(f".{self.progress_path.name}.tmp")
        draft.write_text(json.dumps(record), encoding="utf-8")
        os.replace(draft, self.progress_path)

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Return groups ``start`` to ``stop`` of one field, all genes (stop - start, n_genes)."""
        self._file.flush()
        kind = self.fields[name]
        table = np.empty((stop - start, self.n_genes), dtype=kind)
        before = sum(k.itemsize for k in list(self.fields.values())[: list(self.fields).index(name)])
        for unit in range(self.n_units):
            begin = unit * self.width
            width = min(self.width, self.n_genes - begin)
            position = (
                self._offset(unit)
                + before * self.n_groups * width
                + start * width * kind.itemsize
            )
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
        self.work_path.unlink(missing_ok=True)
        self.progress_path.unlink(missing_ok=True)

    def _offset(self, unit: int) -> int:
        genes = min(unit * self.width, self.n_genes)
        return genes * self.n_groups * sum(kind.itemsize for kind in self.fields.values())

    def _restore(self) -> None:
        try:
            record = json.loads(self.progress_path.read_text(encoding="utf-8"))
        except ValueError:
            return  # a checkpoint that a power failure cut short: start afresh
        if record["fingerprint"] != self._fingerprint:
            raise CheckpointError(
                f"{str(self.progress_path)!r} belongs to another run: "
                f"{difference(record['fingerprint'], self._fingerprint)}; call again with the same "
                "input and parameters, or with resume=False to start afresh"
            )
        self.width = record["width"]
        with open(self.work_path, "rb") as file:
            for unit, expected in enumerate(record["checksums"]):
                size = self._offset(unit + 1) - self._offset(unit)
                if zlib.crc32(file.read(size)) != expected:
                    break
                self._checksums.append(expected)
        self.done = len(self._checksums)
