"""Parts of a file that cannot be read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from crispyx._io.disk import is_full_disk
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


# What h5py, NumPy and codecs raise for an element of another kind, shape or type than it should be.
MISFITS = (
    OSError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    SystemError,
)


def _misfits() -> tuple[type[Exception], ...]:
    """Return what may be raised, anndata's own error of an unknown encoding included."""
    known = sys.modules.get("anndata._io.specs.registry")
    own = getattr(known, "IORegistryError", None)
    return MISFITS if own is None else (*MISFITS, own)


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
    except _misfits() as error:
        if is_full_disk(error):
            raise
        raise InputError(
            f"{where} cannot be read ({type(error).__name__}: {error}); the file is damaged: copy "
            "it again"
        ) from error


def name_of(node: Any) -> str:
    """Return the file or store of an element, and its place in it."""
    if hasattr(node, "file"):
        return f"{node.file.filename} [{node.name.strip('/')}]"
    return f"{getattr(node.store, 'path', node.store)} [{node.path}]"


def entries(owner: Any, slot: str) -> dict[str, Any]:
    """Return the elements of a slot of a file or store, such as ``"obsm"``; none where it lacks it.

    Raises
    ------
    InputError
        The slot is damaged.
    """
    if slot not in owner:
        return {}
    with reading_structure(f"{name_of(owner)} {slot}"):
        node = owner[slot]
        if hasattr(node, "dtype"):
            raise TypeError("an array where a group of elements is needed")
        return {name: node[name] for name in node}


def read_stored(node: Any, lengths: tuple[int, ...] = ()) -> Any:
    """Return an element of a file or store as anndata reads it.

    Parameters
    ----------
    node : h5py.Group, h5py.Dataset, zarr.Group or zarr.Array
        The element.
    lengths : tuple of int
        Its first axes must be as long.

    Raises
    ------
    InputError
        It is damaged; the message names file and element.
    MemoryBudgetError
        It claims to be larger than memory.
    """
    from anndata.io import read_elem

    with reading_structure(name_of(node)):
        value = read_elem(node)
        _check_sparse(value)
    require_lengths(node, np.shape(value) if lengths else (), lengths)
    return value


def require_lengths(node: Any, shape: tuple[int, ...], lengths: tuple[int, ...]) -> None:
    """Raise unless the first axes of an element are as long as they should be.

    Raises
    ------
    InputError
        Names file, element and both lengths.
    """
    if tuple(shape[: len(lengths)]) != lengths:
        raise InputError(
            f"{name_of(node)} has shape {tuple(shape)} where {lengths} is needed, one entry for "
            "each cell or gene; the file is damaged: copy or write it again"
        )


def _check_sparse(value: Any) -> None:
    """Check what SciPy would follow out of its arrays: positions and pointers."""
    if isinstance(value, dict):
        for held in value.values():
            _check_sparse(held)
    elif hasattr(value, "check_format"):
        value.check_format(full_check=True)
