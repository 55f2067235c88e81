"""Folders that appear under their final name only when complete, as files do (``atomic``)."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crispyx._io.atomic import draft_path, remove_draft, remove_orphans
from crispyx._run.termination import ending_in_order
from crispyx.errors import InputError

AT_WORKING_DIRECTORY = -100  # AT_FDCWD
EXCHANGE = 2  # RENAME_EXCHANGE
NOT_OFFERED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextmanager
def atomic_folder(final: Path) -> Iterator[Path]:
    """Yield a hidden folder beside ``final``; it takes the name on success, goes on failure.

    A folder that has the name already is exchanged for the new one in one step, then removed.

    Raises
    ------
    InputError
        There is such a folder and the file system cannot exchange two of them.
    """
    remove_orphans(final)
    if final.exists():
        require_exchange(final.parent)
    work = draft_path(final)
    with ending_in_order():
        try:
            work.mkdir()
            yield work
            _make_durable(work)
            if final.exists():
                exchange(work, final)
            else:
                work.rename(final)
            _sync(final.parent)
        finally:
            remove_draft(work)


@contextmanager
def scratch_folder(output: Path, parent: Path | None = None) -> Iterator[Path]:
    """Yield a hidden folder for the time of the work on ``output``.

    It stands in ``parent`` (None: beside the output) and goes at the end; those of processes of
    this machine that are gone are removed, as drafts of ``output`` are.
    """
    place = output if parent is None else parent / output.name
    remove_orphans(place)
    folder = draft_path(place)
    with ending_in_order():
        try:
            folder.mkdir()
            yield folder
        finally:
            remove_draft(folder)


def exchange(one: Path, other: Path) -> None:
    """Let two folders change names in one step that nothing can interrupt.

    Raises
    ------
    InputError
        The file system or the operating system does not offer it.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is not None:
        names = (
            AT_WORKING_DIRECTORY,
            os.fsencode(one),
            AT_WORKING_DIRECTORY,
            os.fsencode(other),
        )
        if rename(*names, EXCHANGE) == 0:
            return
        code = ctypes.get_errno()
        if code not in NOT_OFFERED:
            raise OSError(code, os.strerror(code), str(other))
    raise InputError(
        f"folders in {str(other.parent)!r} cannot be exchanged in one step, which safe changes of "
        f"{other.name!r} need: give another output name, or work with an .h5ad file "
        "(cx.pp.convert_to_csr writes one)"
    )


def require_exchange(folder: Path) -> None:
    """Raise, before work starts, where two folders cannot be exchanged.

    Raises
    ------
    InputError
        As :func:`exchange`.
    """
    first, second = (draft_path(folder / "exchange") for _ in range(2))
    try:
        first.mkdir()
        second.mkdir()
        exchange(first, second)
    finally:
        for trial in (first, second):
            remove_draft(trial)


def _make_durable(folder: Path) -> None:
    for place, _, files in os.walk(folder):
        for name in files:
            _sync(Path(place, name))
        _sync(Path(place))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
