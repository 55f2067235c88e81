"""The unit of work that is being computed, kept so that an interruption does not lose all of it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crispyx._io.atomic import atomic_path
from crispyx._run.fingerprint import difference, to_json
from crispyx.errors import CheckpointError

SECONDS = 10.0  # between two saves: a unit's arrays are written whole each time


class PartialUnit:
    """The file ``.<output>.part``: arrays of one unit and how far they have come.

    It is written anew and renamed at each save, and so agrees with itself at any moment.

    Parameters
    ----------
    output : pathlib.Path
        Final file of the operation.
    fingerprint : mapping
        Identity of the computation.
    seconds : float
        Least time between two saves.
    """

    def __init__(
        self, output: Path, fingerprint: Mapping[str, Any], seconds: float = SECONDS
    ) -> None:
        self.path = output.with_name(f".{output.name}.part")
        self._fingerprint = json.loads(to_json(fingerprint))
        self._seconds = seconds
        self._saved = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._saved >= self._seconds

    def save(self, state: Mapping[str, Any], array: np.ndarray) -> None:
        """Replace what is kept."""
        with atomic_path(self.path) as work, open(work, "wb") as file:
            file.write(json.dumps([self._fingerprint, dict(state)]).encode() + b"\n")
            file.write(array.data)
        self._saved = time.monotonic()

    def load(self, array: np.ndarray) -> dict[str, Any] | None:
        """Fill ``array`` with what is kept and return the state; None when there is none of it.

        Raises
        ------
        CheckpointError
            It belongs to other parameters or another input.
        """
        try:
            with open(self.path, "rb") as file:
                before, state = json.loads(file.readline())
                kept = file.read(array.nbytes + 1)
        except (FileNotFoundError, ValueError, TypeError):
            return None
        if before != self._fingerprint:
            raise CheckpointError(
                f"{str(self.path)!r} belongs to another run: "
                f"{difference(before, self._fingerprint)}; call again with the same input and "
                "parameters, or with resume=False to start afresh"
            )
        if len(kept) != array.nbytes:
            return None
        array[...] = np.frombuffer(kept, dtype=array.dtype).reshape(array.shape)
        return state

    def remove(self) -> None:
        """Forget it."""
        self.path.unlink(missing_ok=True)
