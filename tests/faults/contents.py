"""What is in a file, to the bit, and what stands in a folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import h5py
import numpy as np


def everything_in(path: Path) -> dict[str, bytes]:
    """Return every dataset and attribute of an HDF5 file; where it was computed is left out."""
    found: dict[str, bytes] = {}

    def note(name: str, node: h5py.Group | h5py.Dataset) -> None:
        for key, value in node.attrs.items():
            found[f"{name}@{key}"] = repr(value).encode()
        if isinstance(node, h5py.Dataset):
            values = node[()]
            plain = np.asarray(values)
            has_text = plain.dtype.hasobject
            found[name] = repr(plain.tolist()).encode() if has_text else plain.tobytes()

    with h5py.File(path, "r") as file:
        note("", file)
        file.visititems(note)
    # Its own path and that of its input, with the times: they differ from folder to folder.
    return {
        name: value
        for name, value in found.items()
        if not name.startswith("uns/crispyx/fingerprint")
        and "sorting_metadata/timestamp" not in name
    }


def differences(found: dict[str, bytes], expected: dict[str, bytes]) -> list[str]:
    """Return the names whose values differ or are on one side only."""
    return sorted(n for n in found.keys() | expected.keys() if found.get(n) != expected.get(n))


def digests(folder: Path) -> dict[str, str]:
    """Return a checksum of every file of a folder."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}
