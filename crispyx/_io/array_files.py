"""Arrays and a note in one file: written whole or not at all, read by mapping."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crispyx._io.atomic import atomic_path

ALIGNED = 64  # bytes: kernels read whole vector registers


def write_arrays(path: Path, note: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write a file atomically: one line of JSON, then the arrays in C order.

    Parameters
    ----------
    path : pathlib.Path
        Replaced when it is there.
    note : mapping
        What JSON holds.
    arrays : mapping of str to numpy.ndarray
        Of plain types.
    """
    places: dict[str, Any] = {}
    end = 0
    for name, array in arrays.items():
        places[name] = [array.dtype.str, list(array.shape), end]
        end += -(-array.nbytes // ALIGNED) * ALIGNED
    head = json.dumps({"note": dict(note), "arrays": places, "bytes": end}).encode()
    head += b" " * (-(len(head) + 1) % ALIGNED) + b"\n"
    with atomic_path(path) as work, open(work, "wb") as file:
        file.write(head)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array).data)
            file.write(bytes(-array.nbytes % ALIGNED))


def read_note(path: Path) -> dict[str, Any] | None:
    """Return the note of a file; None when there is no such file, or it is not complete."""
    found = _head(path)
    return None if found is None else found[0]["note"]


def map_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file, which are read when touched; changes stay in this process.

    Raises
    ------
    FileNotFoundError
        There is no such file, or it is not complete.
    """
    found = _head(path)
    if found is None:
        raise FileNotFoundError(f"{str(path)!r} is missing or cut short")
    head, start = found
    if head["bytes"] == 0:
        whole = np.empty(0, dtype=np.uint8)
    else:
        whole = np.asarray(np.memmap(path, np.uint8, "c", start, (head["bytes"],)))
    arrays = {}
    for name, (kind, shape, first) in head["arrays"].items():
        dtype = np.dtype(kind)
        n_bytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        arrays[name] = whole[first : first + n_bytes].view(dtype).reshape(shape)
    return arrays


def _head(path: Path) -> tuple[dict[str, Any], int] | None:
    try:
        with open(path, "rb") as file:
            line = file.readline()
            head = json.loads(line)
            complete = path.stat().st_size == len(line) + head["bytes"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return (head, len(line)) if complete else None
