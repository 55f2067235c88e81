"""One writer per output file."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from crispyx._run.termination import ending_in_order
from crispyx.errors import OutputBusyError

UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)


def lock_path(output: Path) -> Path:
    """Return the file that is locked while ``output`` is written."""
    return output.with_name(f".{output.name}.lock")


@contextmanager
def writer_lock(output: Path) -> Iterator[None]:
    """Hold the right to write ``output``; a second run with the same output is refused.

    The lock is the kernel's (flock) on ``.<output>.lock``: it goes with the process, however that
    ends, so a lock file without its process does not bind. On file systems without flock the name
    in the file decides: a process that is gone from this machine does not bind, one of another
    machine does until its lock file is removed. Inside, SIGTERM ends the process in order.

    Raises
    ------
    OutputBusyError
        Another process is writing this output; the message names it.
    """
    path = lock_path(output)
    with ending_in_order():
        handle = _locked(path, output)
        try:
            os.truncate(handle, 0)
            os.write(handle, _owner(os.getpid()).encode())
            yield
        finally:
            path.unlink(missing_ok=True)
            os.close(handle)


def _owner(process: int) -> str:
    return f"process {process} on {socket.gethostname()}"


def _locked(path: Path, output: Path) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(handle, 200).decode(errors="replace").strip()
            if error.errno in UNSUPPORTED and _is_gone(owner):
                return handle
            os.close(handle)
            if isinstance(error, BlockingIOError):
                way_out = "wait for it, or give another output"
            elif error.errno in UNSUPPORTED:
                way_out = f"wait for it, or remove {str(path)!r} if that run is over"
            else:
                raise
            raise OutputBusyError(
                f"{str(output)!r} is being written by {owner or 'another process'}; {way_out}"
            ) from None
        # The former owner may have removed the file between open and flock: lock the one there.
        if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
            return handle
        os.close(handle)


def _is_gone(owner: str) -> bool:
    """Tell whether the process named in a lock file ran on this machine and has ended."""
    process = owner.removeprefix("process ").partition(" on ")[0]
    if not process.isdigit():
        return not owner
    return owner == _owner(int(process)) and not psutil.pid_exists(int(process))
