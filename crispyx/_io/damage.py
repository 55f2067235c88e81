"""Parts of a file that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from crispyx.errors import InputError


@contextmanager
def reporting_damage(where: str) -> Iterator[None]:
    """Turn HDF5's errors while reading into one that says where.

    Raises
    ------
    InputError
        A chunk is damaged or cut short, or its compression filter is not installed.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{where} cannot be read ({error}); the file is damaged (copy it again), or compressed "
            "by a filter that is missing here (pip install hdf5plugin)"
        ) from error
