"""The note in ``uns["crispyx"]`` that says what a file is the result of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py

from crispyx._io.encode import write_value
from crispyx._io.zarr_stores import is_zarr_store, open_store, readable
from crispyx._run.fingerprint import to_json

NAME = "crispyx"


def write_record(file: h5py.File, fingerprint: Mapping[str, Any]) -> None:
    """Write the identity of a result, replacing one that came with the input."""
    uns = file.require_group("uns")
    if NAME in uns:
        del uns[NAME]
    summary = {"version": fingerprint["version"], "kind": fingerprint["kind"]}
    write_value(uns, NAME, {**summary, "fingerprint": to_json(fingerprint)})


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the identity a file carries; None when it is unreadable or no result of crispyx."""
    try:
        if is_zarr_store(path):
            text = readable(open_store(path)[f"uns/{NAME}/fingerprint"])[()].item()
        else:
            with h5py.File(path, "r") as file:
                text = file[f"uns/{NAME}/fingerprint"].asstr()[()]
        record = json.loads(text)
    except (OSError, KeyError, ValueError, AttributeError, TypeError):
        return None
    known = isinstance(record, dict) and isinstance(record.get("input"), dict)
    return record if known and "kind" in record else None
