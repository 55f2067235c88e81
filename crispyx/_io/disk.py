"""A disk that fills up while a file is written."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from crispyx.errors import DiskSpaceError

FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


def is_full_disk(error: Exception) -> bool:
    """Tell whether an error is that of a full disk, a quota, or a limit of file sizes.

    HDF5 reports them as OSError while writing and as RuntimeError while closing, both with the
    error number in the text only.
    """
    number = getattr(error, "errno", None)
    return number in FULL or any(f"errno = {code}," in str(error) for code in FULL)


def writable_file(path: Path, mode: str) -> h5py.File:
    """Open an HDF5 file to write, so that a full disk is an error.

    A chunk that waits in HDF5's cache when the disk is full ends the process when the file is
    closed; none waits here.
    """
    return h5py.File(path, mode, rdcc_nbytes=0)


@contextmanager
def reporting_full_disk(
    folder: Path, what: str, left: str = "nothing is left of it"
) -> Iterator[None]:
    """Turn the errors of a full disk into one that says what was written where.

    ``left`` says what has become of the work so far.

    Raises
    ------
    DiskSpaceError
        No space left, a quota, or a limit of file sizes.
    """
    try:
        yield
    except DiskSpaceError:
        raise
    except (OSError, RuntimeError) as error:
        if not is_full_disk(error):
            raise
        free = shutil.disk_usage(folder).free
        raise DiskSpaceError(
            f"{what} could not be written: {str(folder)!r} has {free:,} bytes free, and a quota or "
            "a limit of file sizes may be lower; free some space or choose a folder on another "
            f"disk; {left}, and the input is untouched"
        ) from error
