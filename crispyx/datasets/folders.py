"""Where data files are looked for and kept."""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path

from crispyx.datasets.registry import DatasetRecord
from crispyx.errors import CrispyxWarning, MissingFileError

DATA_DIR = "CRISPYX_DATA_DIR"
CACHE_DIR = "CRISPYX_CACHE_DIR"
INSTEAD = "for a screen without any download, use cx.datasets.simulate_screen(output_dir)"


def sha256(path: Path) -> str:
    """Return the SHA-256 checksum of a file in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def data_folder() -> Path | None:
    """Return the folder that ``CRISPYX_DATA_DIR`` names, or None when it is unset."""
    value = os.environ.get(DATA_DIR)
    return Path(value).expanduser() if value else None


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder for downloads.

    ``cache_dir``, else the environment variable ``CRISPYX_CACHE_DIR``, else ``crispyx`` in
    ``XDG_CACHE_HOME``, else ``~/.cache/crispyx``.
    """
    chosen = cache_dir or os.environ.get(CACHE_DIR)
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "crispyx"


def find_prepared(record: DatasetRecord) -> dict[str, Path] | None:
    """Return the files of a data set in the data folder by name, or None unless all are there.

    Warns when a file is not the one this version was tested with.
    """
    folder = data_folder()
    if folder is None:
        return None
    paths = {name: folder / name for name in record.files}
    if not all(path.is_file() for path in paths.values()):
        return None
    for name, path in paths.items():
        found = sha256(path)
        if found != record.sha256[name]:
            warnings.warn(
                f"{str(path)!r} differs from the registered file of {record.name!r} (SHA-256 "
                f"{found[:12]}..., registered {record.sha256[name][:12]}...); it is used as it is, "
                "published figures may not be reproduced",
                CrispyxWarning,
                stacklevel=4,
            )
    return paths


def require_prepared(record: DatasetRecord) -> dict[str, Path]:
    """Return the files of a data set in the data folder by name.

    Raises
    ------
    MissingFileError
        A file is not there; the message says where the data come from and how they were prepared.
    """
    paths = find_prepared(record)
    if paths is None:
        raise MissingFileError(
            f"data set {record.name!r} has no direct download, and {looked_in(record)}. Set "
            f"{DATA_DIR} to a folder that contains {' and '.join(record.files)}. Prepared as: "
            f"{record.prepared}. License: {record.license}. Cite: {record.citation}. Or, {INSTEAD}"
        )
    return paths


def looked_in(record: DatasetRecord) -> str:
    """Say in words why the data folder did not have the data set."""
    folder = data_folder()
    if folder is None:
        return f"the environment variable {DATA_DIR} is not set"
    if not folder.is_dir():
        return f"{DATA_DIR}={str(folder)!r} is not a folder"
    missing = [name for name in record.files if not (folder / name).is_file()]
    return f"{DATA_DIR}={str(folder)!r} lacks {' and '.join(missing)}"
