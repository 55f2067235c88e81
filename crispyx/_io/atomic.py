"""Files appear under their final name only when complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(final: str | Path) -> Iterator[Path]:
    """Yield a hidden path beside ``final``; rename it into place on success, remove it on failure.

    The data is on disk (fsync) before the rename, so that a crash leaves either the file from before
    or the complete one.
    """
    final = Path(final)
    work = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    try:
        yield work
        commit(work, final)
    finally:
        work.unlink(missing_ok=True)


def commit(work: Path, final: Path) -> None:
    """Make ``work`` durable and give it the name ``final``."""
    with open(work, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(work, final)
    folder = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_text(path: Path, text: str) -> None:
    """Write a small text file atomically."""
    with atomic_path(path) as work:
        work.write_text(text, encoding="utf-8")
