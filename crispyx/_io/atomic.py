"""Files appear under their final name only when complete."""

from __future__ import annotations

import glob
import itertools
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from crispyx._run.termination import ending_in_order

_drafts = itertools.count()


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


@contextmanager
def atomic_path(final: str | Path, finish: Callable[[Path, Path], None] = commit) -> Iterator[Path]:
    """Yield a hidden path beside ``final``; rename it into place on success, remove it on failure.

    ``finish`` gives it the name: :func:`commit`, or what makes something else of it.

    The data is on disk (fsync) before the rename, so that a crash leaves the file from before or
    the complete one. What a killed process left half-written is removed.
    """
    final = Path(final)
    remove_orphans(final)
    work = draft_path(final)
    with ending_in_order():
        try:
            yield work
            finish(work, final)
        finally:
            remove_draft(work)


def draft_path(final: Path) -> Path:
    """Return a hidden name beside ``final``, of this process alone."""
    # Numbered: threads of one process may write under the same final name.
    return final.with_name(f"{_prefix(final)}{os.getpid()}-{next(_drafts)}.tmp")


def write_text(path: Path, text: str) -> None:
    """Write a small text file atomically."""
    with atomic_path(path) as work:
        work.write_text(text, encoding="utf-8")


def _prefix(final: Path) -> str:
    return f".{final.name}.{socket.gethostname()}-"


def remove_orphans(final: Path) -> None:
    """Remove drafts of a file by processes of this machine that are gone."""
    prefix, folder = _prefix(final), final.parent
    for draft in folder.glob(f"{glob.escape(prefix)}*.tmp"):
        process = draft.name.removeprefix(prefix).partition("-")[0].removesuffix(".tmp")
        if process.isdigit() and not psutil.pid_exists(int(process)):
            remove_draft(draft)


def remove_draft(draft: Path) -> None:
    """Remove a draft, file or folder, if it is there."""
    if draft.is_dir():
        shutil.rmtree(draft)
        return
    draft.unlink(missing_ok=True)
    # One that was changed in place may have left a lock and a journal of its own.
    for suffix in ("lock", "journal"):
        draft.with_name(f".{draft.name}.{suffix}").unlink(missing_ok=True)
