"""One writer per output file."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crispyx.errors import OutputBusyError


@contextmanager
def writer_lock(output: Path) -> Iterator[None]:
    """Hold the right to write ``output``; a second run with the same output is refused.

    The lock is the kernel's (flock) on ``.<output>.lock``: it goes with the process, however that
    ends, so no stale lock is ever left behind.

    Raises
    ------
    OutputBusyError
        Another process is writing this output; the message names it.
    """
    path = output.with_name(f".{output.name}.lock")
    handle = _locked(path, output)
    try:
        os.truncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _locked(path: Path, output: Path) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(handle, 200).decode(errors="replace").strip() or "another process"
            os.close(handle)
            raise OutputBusyError(
                f"{str(output)!r} is being written by {owner}; wait for it, or give another output"
            ) from None
        # The former owner may have removed the file between open and flock: lock the one there.
        if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
            return handle
        os.close(handle)
