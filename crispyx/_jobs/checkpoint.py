"""How far a long operation has come, so that it can go on after an interruption."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crispyx._io.atomic import write_text
from crispyx._run.fingerprint import difference, require_unchanged, to_json
from crispyx.errors import CheckpointError, InputError

# Between two checkpoints, when the caller leaves the interval open: each waits for the disk.
MIN_SECONDS = 10.0


class Checkpoint:
    """The file ``<output>.progress.json``: what is being computed, and what is complete of it.

    Parameters
    ----------
    output : pathlib.Path
        Final file of the operation.
    fingerprint : mapping
        Identity of the computation.
    n_units : int
        Units of work in all.
    interval : int or None
        Units between two checkpoints. None takes 1 below 100 units, 10 below 1,000 and 50 above,
        and no more than one checkpoint in ten seconds.
    """

    def __init__(
        self, output: Path, fingerprint: Mapping[str, Any], n_units: int, interval: int | None
    ) -> None:
        if interval is not None and interval < 1:
            raise InputError(f"checkpoint_interval is {interval}; give a whole number >= 1 or None")
        self.path = output.with_name(f"{output.name}.progress.json")
        self._fingerprint = json.loads(to_json(fingerprint))
        self._automatic = interval is None
        self._interval = interval or (1 if n_units < 100 else 10 if n_units < 1000 else 50)
        self._saved = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """Return the state an earlier run saved; None when there is none that can be read.

        Raises
        ------
        CheckpointError
            It belongs to other parameters or another input.
        """
        try:
            record = json.loads(self.path.read_text(encoding="utf-8"))
            before, state = record["fingerprint"], record["state"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        if before != self._fingerprint:
            raise CheckpointError(
                f"{str(self.path)!r} belongs to another run: "
                f"{difference(before, self._fingerprint)}; call again with the same input and "
                "parameters, or with resume=False to start afresh"
            )
        return state

    def require_same_input(self) -> None:
        """Raise InputError when the input was changed while it was read."""
        require_unchanged(self._fingerprint)

    @property
    def is_late(self) -> bool:
        """Whether the caller chose the interval, or enough time went by since the last save."""
        return not self._automatic or time.monotonic() - self._saved >= MIN_SECONDS

    def due(self, n_done: int) -> bool:
        """Tell whether it is time to save after ``n_done`` units."""
        return n_done % self._interval == 0 and self.is_late

    def save(self, state: Mapping[str, Any], work_file: int) -> None:
        """Make the work file (descriptor) durable, then the note that counts on it."""
        os.fsync(work_file)
        write_text(self.path, json.dumps({"fingerprint": self._fingerprint, "state": dict(state)}))
        self._saved = time.monotonic()

    def remove(self) -> None:
        """Forget the progress."""
        self.path.unlink(missing_ok=True)
