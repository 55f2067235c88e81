"""A disk that fills up while a file is written."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

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


def writable_file(path: Path, mode: Literal["w", "r+"]) -> h5py.File:
    """Open an HDF5 file to write, so that a full disk is an error.

    What waits in HDF5's cache of chunks or in its buffer of small arrays when the disk is full ends
    the process when the file is closed; here nothing waits.
    """
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    access.set_libver_bounds(h5py.h5f.LIBVER_EARLIEST, h5py.h5f.LIBVER_LATEST)
    n_elements, n_slots, _, preemption = access.get_cache()
    access.set_cache(n_elements, n_slots, 0, preemption)
    access.set_sieve_buf_size(0)
    name = os.fsencode(path)
    if mode == "w":
        return h5py.File(h5py.h5f.create(name, h5py.h5f.ACC_TRUNC, fapl=access))
    return h5py.File(h5py.h5f.open(name, h5py.h5f.ACC_RDWR, fapl=access))


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
