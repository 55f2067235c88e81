"""Parts of a file that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from crispyx.errors import CrispyxError, InputError, MemoryBudgetError


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


# What h5py and NumPy raise for an element of another kind, shape or type than it should be.
MISFITS = (
    OSError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
)


@contextmanager
def reading_structure(where: str) -> Iterator[None]:
    """Turn any error of taking a file apart into one that says where; for names and tables.

    Raises
    ------
    InputError
        An element is missing, damaged, or of another kind than it should be.
    MemoryBudgetError
        It claims to be larger than memory.
    """
    try:
        yield
    except CrispyxError:
        raise
    except MemoryError as error:
        raise MemoryBudgetError(
            f"{where} does not fit into memory ({error}); where it should be small the file is "
            "damaged: copy it again"
        ) from error
    except MISFITS as error:
        raise InputError(
            f"{where} cannot be read ({type(error).__name__}: {error}); the file is damaged: copy "
            "it again"
        ) from error
