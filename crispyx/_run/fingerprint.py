"""What identifies a computation: its kind, its input and its parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crispyx._version import __version__
from crispyx.errors import InputError


def file_identity(path: Path) -> dict[str, Any]:
    """Return what tells one state of a file from another: path, bytes, modification time in ns.

    Of a folder, such as a zarr store, it is the number, the sum and the latest of its files.
    """
    known: dict[str, Any] = {"path": str(path.resolve())}
    states = [path.stat()]
    if path.is_dir():
        states = [file.stat() for file in path.rglob("*") if file.is_file()]
        known["n_files"] = len(states)
    size = sum(state.st_size for state in states)
    return {**known, "size": size, "mtime_ns": max((one.st_mtime_ns for one in states), default=0)}


def fingerprint(
    kind: str, source: Mapping[str, Any], parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the identity of one result.

    Parameters
    ----------
    kind : str
        Name of the operation.
    source : mapping
        Identity of the input, see :func:`file_identity`, with its shape and matrix element.
    parameters : mapping
        Everything that can change a number. Threads, block sizes and memory must not be in it.
    """
    record = {
        "version": __version__,
        "kind": kind,
        "input": dict(source),
        "parameters": dict(parameters),
    }
    return json.loads(to_json(record))


def require_unchanged(record: Mapping[str, Any]) -> None:
    """Raise when the input file of a fingerprint is not any more what it was.

    Called when everything has been read and before the result gets its name.

    Raises
    ------
    InputError
        The file was changed, replaced or removed while it was read.
    """
    for before in _files(record):
        _require_same_file(before)


def input_paths(record: Mapping[str, Any]) -> list[Path]:
    """Return the files and folders that a fingerprint's input is read from, none in memory."""
    return [Path(file["path"]) for file in _files(record) if file.get("path")]


def _files(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    files: list[Mapping[str, Any]] = record["input"].get("files", [record["input"]])
    return files


def _require_same_file(before: Mapping[str, Any]) -> None:
    path = Path(before.get("path") or "")
    if not isinstance(before.get("size"), int):
        return  # in memory, or a folder, which is read whole at the start
    now = file_identity(path) if path.exists() else {}
    names = ("n_files", "size", "mtime_ns")
    changed = [name for name in names if before.get(name) != now.get(name)]
    if changed:
        values = "; ".join(f"{name} {before.get(name)} -> {now.get(name)}" for name in changed)
        raise InputError(
            f"{str(path)!r} was changed while it was read ({values}), and nothing was written: the "
            "result would belong to no state of the file; run again when it is at rest"
        )


def to_json(record: Mapping[str, Any]) -> str:
    """Return canonical JSON: sorted keys, NumPy scalars and arrays as plain values."""
    return json.dumps(record, sort_keys=True, default=_plain)


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return in words what differs between two fingerprints."""
    changed = []
    for part in after:
        old, new = before.get(part), after[part]
        if isinstance(old, dict) and isinstance(new, dict):
            changed += [
                f"{part} {key} {old.get(key)!r} -> {new.get(key)!r}"
                for key in sorted(old.keys() | new.keys())
                if old.get(key) != new.get(key)
            ]
        elif old != new:
            changed.append(f"{part} {old!r} -> {new!r}")
    return "; ".join(changed)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a {type(value).__name__} cannot stand in a fingerprint")
