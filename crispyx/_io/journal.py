"""The journal of a change to a user's own file: with it, the change happens wholly or not at all.

New data goes behind the end of the file, where no reader looks. The few pages of the old part that
change are written to ``.<file>.journal`` first. A process killed before the journal is complete
leaves the file as it was; one killed later leaves the journal, which the next opening carries out.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from collections.abc import Mapping
from pathlib import Path

from crispyx._io.atomic import atomic_path
from crispyx.errors import InputError, OutputBusyError

PAGE = 4096
HEADER = struct.Struct("<16sQQ")  # magic, length of the changed file in bytes, number of pages
NUMBER = struct.Struct("<Q")
MAGIC = b"crispyx journal\0"


def journal_path(path: Path) -> Path:
    """Return where the journal of a file stands."""
    return path.with_name(f".{path.name}.journal")


def lock_file(handle: int, path: Path) -> None:
    """Keep other programs from opening the file, as the HDF5 library does itself.

    Raises
    ------
    OutputBusyError
        It is open elsewhere, maybe in this very process.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OutputBusyError(
            f"{str(path)!r} is open elsewhere, in another program or here as a backed AnnData; "
            "close it first"
        ) from None


def is_locked_for_writing(path: Path) -> bool:
    """Tell whether a program writes a file; where the file system cannot tell, one might."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def apply_pages(handle: int, path: Path, pages: Mapping[int, bytes | bytearray], size: int) -> None:
    """Change pages of a locked file through a journal, then give the file its new length.

    Parameters
    ----------
    handle : int
        The file, open for writing; what lies behind its old end is there already.
    path : pathlib.Path
        Its name.
    pages : mapping of int to bytes or bytearray
        Number of each changed page, and its content of at most ``PAGE`` bytes.
    size : int
        Length of the changed file in bytes.
    """
    os.fsync(handle)
    body = b"".join(
        (
            HEADER.pack(MAGIC, size, len(pages)),
            *(NUMBER.pack(number) + _padded(pages[number]) for number in sorted(pages)),
        )
    )
    with atomic_path(journal_path(path)) as work:
        work.write_bytes(body + hashlib.sha256(body).digest())
    _carry_out(handle, pages, size)
    journal_path(path).unlink()


def recover(path: Path) -> None:
    """Carry out the journal that a killed process left beside a file, if there is one.

    Raises
    ------
    InputError
        The journal is damaged or the file cannot be written to.
    OutputBusyError
        The file is open elsewhere.
    """
    journal = journal_path(path)
    if not journal.exists():
        return
    try:
        handle = os.open(path, os.O_RDWR)
    except PermissionError as error:
        raise InputError(
            f"a change of {str(path)!r} was interrupted and {str(journal)!r} has to be carried out "
            "first, but the file cannot be written to; open it once with write permission"
        ) from error
    try:
        lock_file(handle, path)
        if journal.exists():
            _carry_out(handle, *_read(journal))
            journal.unlink()
    finally:
        os.close(handle)


def _padded(page: bytes | bytearray) -> bytes:
    return NUMBER.pack(len(page)) + page + bytes(PAGE - len(page))


def _read(journal: Path) -> tuple[dict[int, bytes], int]:
    content = journal.read_bytes()
    body, digest = content[:-32], content[-32:]
    if hashlib.sha256(body).digest() != digest:
        raise InputError(
            f"{str(journal)!r} is damaged; it was complete once, so the disk may be failing: copy "
            "the file it stands beside from a backup"
        )
    _, size, n_pages = HEADER.unpack_from(body)
    pages = {}
    for k in range(n_pages):
        at = HEADER.size + k * (2 * NUMBER.size + PAGE)
        number, length = struct.unpack_from("<QQ", body, at)
        pages[number] = body[at + 2 * NUMBER.size :][:length]
    return pages, size


def _carry_out(handle: int, pages: Mapping[int, bytes | bytearray], size: int) -> None:
    for number in sorted(pages):
        os.pwrite(handle, pages[number], number * PAGE)
    os.truncate(handle, size)
    os.fsync(handle)
