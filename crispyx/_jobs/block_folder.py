"""The folder of a computation whose blocks are computed one by one, by anybody who can read it.

``stage.note`` says how the matrix was turned around, and where; ``manifest.note`` says what is
computed and in which blocks; ``tiles/`` holds the blocks that are complete, ``barrier_N.note`` what
the blocks of a pass must know of all blocks before. Everything is JSON and plain arrays, and
appears only when complete. Whatever is there twice is the same twice.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crispyx._io.array_files import map_arrays, read_note, write_arrays
from crispyx._run.fingerprint import difference
from crispyx._run.records import from_record, to_record
from crispyx.errors import CheckpointError

Tile = Mapping[str, np.ndarray]
SHOWN = 20  # numbers of missing blocks in a message


class BlockFolder:
    """What stands where.

    Parameters
    ----------
    path : pathlib.Path
        The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self, *, afresh: bool) -> None:
        """Make the folder, and empty it first when ``afresh``."""
        if afresh:
            self.remove()
        (self.path / "tiles").mkdir(parents=True, exist_ok=True)

    def remove(self) -> None:
        """Delete everything."""
        shutil.rmtree(self.path, ignore_errors=True)

    def tile(self, number: int) -> Path:
        """Return the file of one block."""
        return self.path / "tiles" / f"{number:06d}.tile"

    def save(self, name: str, identity: Mapping[str, Any], value: Any) -> str:
        """Write a value of dataclasses and arrays under a name; return its key."""
        arrays: dict[str, np.ndarray] = {}
        record = to_record(value, arrays)
        text = json.dumps([identity, record], sort_keys=True)
        digest = hashlib.sha256(text.encode())
        for array in arrays.values():
            digest.update(np.ascontiguousarray(array).data)
        key = digest.hexdigest()[:16]
        note = {"identity": dict(identity), "key": key, "record": record}
        write_arrays(self._named(name), note, arrays)
        return key

    def load(self, name: str) -> tuple[Any, str] | None:
        """Return what :meth:`save` wrote and its key; None when it is not there."""
        note = read_note(self._named(name))
        if note is None:
            return None
        return from_record(note["record"], map_arrays(self._named(name))), note["key"]

    def key(self, name: str) -> str:
        """Return the key of what was saved under a name.

        Raises
        ------
        CheckpointError
            It is not there.
        """
        note = read_note(self._named(name))
        if note is None:
            raise CheckpointError(
                f"{str(self.path)!r} has no complete {name} of blocks; make it with "
                "`crispyx de plan`, or give the folder it made"
            )
        return str(note["key"])

    def identity(self, name: str) -> dict[str, Any] | None:
        """Return the fingerprint under which something was saved."""
        note = read_note(self._named(name))
        return None if note is None else note["identity"]

    def require_identity(self, name: str, identity: Mapping[str, Any]) -> bool:
        """Tell whether something was saved under a name; it must belong to this computation.

        Raises
        ------
        CheckpointError
            It belongs to another one.
        """
        found = self.identity(name)
        if found is None:
            return False
        if found != identity:
            raise CheckpointError(
                f"{str(self.path)!r} belongs to another run: {difference(found, identity)}; call "
                "again with the same input and parameters, or with resume=False to start afresh"
            )
        return True

    def write_tile(self, number: int, key: str, facts: Mapping[str, Any], tile: Tile) -> None:
        """Keep a block."""
        write_arrays(self.tile(number), {"key": key, "block": number, **facts}, tile)

    def read_tile(self, number: int) -> Tile:
        """Return a block that is there."""
        return map_arrays(self.tile(number))

    def has_tile(self, number: int, key: str) -> bool:
        """Tell whether a block is there.

        Raises
        ------
        CheckpointError
            A block of another manifest stands there.
        """
        note = read_note(self.tile(number))
        if note is None:
            return False
        if (note.get("key"), note.get("block")) != (key, number):
            raise CheckpointError(
                f"block {number} in {str(self.tile(number))!r} belongs to another manifest "
                f"({note.get('key')}, block {note.get('block')}; this one is {key}); delete the "
                "file and run the block again"
            )
        return True

    def missing(self, numbers: range, key: str) -> list[int]:
        """Return the blocks that are not there yet.

        Raises
        ------
        CheckpointError
            A block of another manifest stands there.
        """
        return [number for number in numbers if not self.has_tile(number, key)]

    def require_tiles(self, numbers: range, key: str) -> None:
        """Raise CheckpointError unless all blocks are there."""
        missing = self.missing(numbers, key)
        if missing:
            more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
            raise CheckpointError(
                f"{len(missing)} of {len(numbers)} blocks are missing in {str(self.path)!r}: "
                f"{', '.join(map(str, missing[:SHOWN]))}{more}; run `crispyx de run-block "
                f"{self.path} --block {missing[0]}`, and so on"
            )

    def _named(self, name: str) -> Path:
        return self.path / f"{name}.note"


class PassTiles:
    """The tiles of one complete pass, as the tables they are cut from.

    Parameters
    ----------
    folder : BlockFolder
        Where they are.
    numbers : range
        Blocks in the order of the genes.
    """

    def __init__(self, folder: BlockFolder, numbers: range) -> None:
        self._tiles = [folder.read_tile(number) for number in numbers]
        some = [next(iter(tile.values())) for tile in self._tiles]
        self.n_groups, self.n_genes = len(some[0]), sum(array.shape[1] for array in some)

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Return rows ``start`` to ``stop`` of one field, all genes (stop - start, n_genes)."""
        return np.concatenate([tile[name][start:stop] for tile in self._tiles], axis=1)
