"""Whether a file under an output's name is the same result, an older one, or somebody else's."""

from __future__ import annotations

import glob
import json
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from crispyx._io.atomic import remove_orphans
from crispyx._io.paths import begun_path, work_path
from crispyx._io.record import read_record
from crispyx._jobs.checkpoint import Checkpoint
from crispyx._jobs.partial import PartialUnit
from crispyx._run.fingerprint import difference, to_json
from crispyx._run.lock import lock_path, writer_lock
from crispyx.errors import CheckpointError, CrispyxWarning, OutputBusyError, OutputExistsError


def can_reuse(output: Path, fingerprint: Mapping[str, Any], *, force: bool) -> bool:
    """Tell whether ``output`` holds this very result.

    Parameters
    ----------
    output : pathlib.Path
        Where the result would go.
    fingerprint : mapping
        Identity of the result asked for.
    force : bool
        Compute again and replace whatever is there.

    Returns
    -------
    bool
        True to reload the file; False to compute. A result of the same input with other parameters
        is replaced, with a warning that says what changed.

    Raises
    ------
    OutputExistsError
        The file is the result of another input or operation, or none of crispyx.
    """
    if force or not output.exists():
        return False
    found = read_record(output)
    ways_out = (
        "give data_name=, output_dir= or output_path= to keep both, or force=True to replace it"
    )
    if found is None:
        raise OutputExistsError(
            f"{str(output)!r} exists and is not a complete crispyx result; {ways_out}"
        )
    if found == json.loads(to_json(fingerprint)):
        _remove_leftovers(output, fingerprint)
        return True
    before, after = found["input"], fingerprint["input"]
    same_input = before.get("path") is not None and before.get("path") == after.get("path")
    if not same_input or found["kind"] != fingerprint["kind"]:
        raise OutputExistsError(
            f"{str(output)!r} holds the {found['kind']} result of {_named(before)}, not the "
            f"{fingerprint['kind']} result of {_named(after)}; {ways_out}"
        )
    warnings.warn(
        f"{str(output)!r} is computed again: {difference(found, json.loads(to_json(fingerprint)))}",
        CrispyxWarning,
        stacklevel=4,
    )
    return False


def _remove_leftovers(output: Path, fingerprint: Mapping[str, Any]) -> None:
    """Remove what a run left that was killed between the last rename and its clean-up.

    What belongs to an interrupted run with other parameters stays: it may be resumed.
    """
    unit = PartialUnit(output, fingerprint)
    # Not ours to insist on: the result is complete and may stand in a folder of somebody else.
    with suppress(OSError):
        remove_orphans(output)
    stores = [output, *_parts(output)]
    checkpoints = [Checkpoint(store, fingerprint, 1, None) for store in stores]
    drafts = [path for store in stores for path in (work_path(store), begun_path(store))]
    left = (unit.path, lock_path(output), *drafts, *(known.path for known in checkpoints))
    if not any(path.exists() for path in left):
        return
    with suppress(OutputBusyError, OSError), writer_lock(output):
        with suppress(CheckpointError):
            unit.load(np.empty(0))
            unit.remove()
        for store, checkpoint in zip(stores, checkpoints, strict=True):
            with suppress(CheckpointError):
                checkpoint.load()
                checkpoint.remove()
                work_path(store).unlink(missing_ok=True)
                begun_path(store).unlink(missing_ok=True)


def _parts(output: Path) -> list[Path]:
    """Return the names under which earlier passes of a result may have left their tiles."""
    folder, name = output.parent, glob.escape(output.name)
    found = [path.name.removesuffix(".progress.json") for path in folder.glob(f"{name}.*.json")]
    for suffix in (".work", ".work.begun"):
        hidden = folder.glob(f".{name}.*{suffix}")
        found += [path.name.removesuffix(suffix)[1:] for path in hidden]
    return [output.with_name(part) for part in dict.fromkeys(found) if part != output.name]


def _named(source: Mapping[str, Any]) -> str:
    return repr(source["path"]) if source.get("path") else "an AnnData in memory"
