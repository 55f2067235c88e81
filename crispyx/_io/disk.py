"""A disk that fills up while a file is written."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crispyx.errors import DiskSpaceError

FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


@contextmanager
def reporting_full_disk(
    folder: Path, what: str, left: str = "nothing is left of it"
) -> Iterator[None]:
    """Turn the errors of a full disk into one that says what was written where.

    HDF5 reports them as OSError while writing and as RuntimeError while closing, both with the
    error number in the text only. ``left`` says what has become of the work so far.

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
        number = getattr(error, "errno", None)
        if number not in FULL and not any(f"errno = {code}," in str(error) for code in FULL):
            raise
        free = shutil.disk_usage(folder).free
        raise DiskSpaceError(
            f"{what} could not be written: {str(folder)!r} has {free:,} bytes free, and a quota or "
            "a limit of file sizes may be lower; free some space or choose a folder on another "
            f"disk; {left}, and the input is untouched"
        ) from error
