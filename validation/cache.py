"""Where virtual environments and simulated screens are kept between runs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder(chosen: str | os.PathLike[str] | None = None) -> Path:
    """Return ``chosen``, else ``crispyx-validation`` in ``XDG_CACHE_HOME`` or ``~/.cache``."""
    if chosen:
        return Path(chosen).expanduser().resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "crispyx-validation"


def digest(*parts: object) -> str:
    """Return ten characters that change with any of the parts, which are JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give a folder to fill that takes the name ``target`` once it is complete.

    Where another process completed the same folder in the meantime, that one stays.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield work
        try:
            work.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
