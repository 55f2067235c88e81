"""Work on ranges of items that depend on nothing outside their range: done by others, put in order.

The input is written once and mapped by all who work; ranges are what travels.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from crispyx._jobs.block_folder import BlockFolder
from crispyx._run.executor import Workers
from crispyx._run.progress import track
from crispyx.errors import CheckpointError
from crispyx.settings import settings

INPUT = "input"


def in_ranges(
    function: Callable[[Any, int, int, int], Any],
    value: Any,
    edges: Sequence[int],
    workers: Workers,
    *,
    folder: Path | None,
    label: str,
    show: bool | None = None,
) -> list[Any]:
    """Return ``function(value, start, stop, n_threads)`` of every range, in their order.

    Parameters
    ----------
    function : callable
        Of a module; returns a dataclass of arrays.
    value : dataclass
        What it is given, see :func:`crispyx._run.records.to_record`.
    edges : sequence of int
        First item of every range, and the number of items.
    workers : Workers
        Who computes.
    folder : pathlib.Path or None
        Where files go that all can see, unless ``settings.scratch_dir`` is set; None takes the
        system's.
    label, show
        Of the progress bar.

    Raises
    ------
    WorkerError
        A range was lost with its worker again and again.
    """
    place = BlockFolder(Path(tempfile.mkdtemp("", "crispyx-", settings.scratch_dir or folder)))
    try:
        key = place.save(INPUT, {}, value)
        ranges = pairwise(edges)
        tasks = [
            (function, str(place.path), key, number, start, stop, workers.n_threads)
            for number, (start, stop) in enumerate(ranges)
        ]
        steps = workers.run(compute_range, tasks)
        for _ in track(steps, total=len(tasks), label=label, unit="range", show=show):
            pass
        return [_part(place, number) for number in range(len(tasks))]
    finally:
        _input.cache_clear()
        shutil.rmtree(place.path, ignore_errors=True)


def compute_range(
    function: Callable[[Any, int, int, int], Any],
    path: str,
    key: str,
    number: int,
    start: int,
    stop: int,
    n_threads: int,
) -> None:
    """Compute one range and keep the result beside the input."""
    found = function(_input(path, key), start, stop, n_threads)
    BlockFolder(Path(path)).save(f"part_{number}", {}, found)


@lru_cache(maxsize=1)
def _input(path: str, key: str) -> Any:
    found = BlockFolder(Path(path)).load(INPUT)
    if found is None or found[1] != key:
        raise CheckpointError(
            f"the input in {path!r} cannot be seen from here: set crispyx.settings.scratch_dir to "
            "a folder that all workers share"
        )
    return found[0]


def _part(place: BlockFolder, number: int) -> Any:
    found = place.load(f"part_{number}")
    if found is None:
        raise CheckpointError(
            f"a worker wrote into another {str(place.path)!r} than this process sees: set "
            "crispyx.settings.scratch_dir to a folder that all share"
        )
    return found[0]
