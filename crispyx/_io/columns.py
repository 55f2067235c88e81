"""Some columns of a matrix, read as a matrix of their own."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from crispyx._io.annotations import Annotations, require_column
from crispyx._io.compressed import CompressedStorage, joined
from crispyx._io.dense import DenseStorage
from crispyx._kernels import expression_counts as kernel
from crispyx._kernels.layout import CompressedBlock
from crispyx.errors import InputError

KIND_COLUMN = "feature_types"
COUNTED_VALUES = 4_000_000  # values of one block read to be counted: 32 MB with their indices
COUNTED_MAJOR = 1 << 16

Storage = CompressedStorage | DenseStorage


class ChosenRows(CompressedStorage):
    """Some vectors of the stored axis of a compressed matrix: columns of a CSC matrix.

    Parameters
    ----------
    whole : CompressedStorage
        The matrix.
    chosen : numpy.ndarray (n_chosen,) int
        Increasing positions.
    """

    def __init__(self, whole: CompressedStorage, chosen: np.ndarray) -> None:
        self._whole, self._chosen = whole, chosen
        self.data, self.indices = whole.data, whole.indices
        self.n_major, self.n_minor = len(chosen), whole.n_minor
        self.where, self.dtype = whole.where, whole.dtype
        lengths = np.diff(whole.indptr)[chosen]
        self.indptr = np.concatenate([[0], np.cumsum(lengths)])

    def minor_blocks(self, *, max_values: int) -> Iterator[np.ndarray]:
        """Yield the positions alone; see :meth:`CompressedStorage.minor_blocks`."""
        for start, stop in self._cuts(0, self.n_major, max_values, self.n_major):
            yield self._read(start, stop, True).minor

    def _read(self, start: int, stop: int, as_stored: bool) -> CompressedBlock:
        chosen = self._chosen[start:stop]
        breaks = np.flatnonzero(np.diff(chosen) > 1) + 1
        runs = np.split(chosen, breaks)
        parts = [self._whole._read(int(run[0]), int(run[-1]) + 1, as_stored) for run in runs]
        block = joined(parts)
        return CompressedBlock(start, stop, block.values, block.minor, block.ptr)


class ChosenColumns:
    """Some positions of the other axis of a compressed matrix: columns of a CSR matrix.

    Parameters
    ----------
    whole : CompressedStorage
        The matrix.
    chosen : numpy.ndarray (n_chosen,) int
        Increasing positions.
    """

    def __init__(self, whole: CompressedStorage, chosen: np.ndarray) -> None:
        self._whole = whole
        self.n_major, self.n_minor = whole.n_major, len(chosen)
        self.where, self.dtype = whole.where, whole.dtype
        self._position = np.full(whole.n_minor, -1, dtype=np.int32)
        self._position[chosen] = np.arange(len(chosen), dtype=np.int32)

    @cached_property
    def n_stored(self) -> int:
        """Number of stored values, explicit zeros included; counted in one pass."""
        minor = (self._position >= 0).view(np.uint8)
        return sum(
            kernel.count_selected(
                block.values,
                block.minor,
                block.ptr,
                np.ones(block.n_major, dtype=np.uint8),
                minor,
                False,
            )
            for block in self._whole.blocks(
                0, self.n_major, max_values=COUNTED_VALUES, max_major=COUNTED_MAJOR
            )
        )

    def blocks(
        self, start: int, stop: int, *, max_values: int, max_major: int, as_stored: bool = False
    ) -> Iterator[CompressedBlock]:
        """Yield blocks of whole vectors; ``max_values`` bounds what is read of the whole matrix.

        With ``as_stored`` the values keep their type.
        """
        blocks = self._whole.blocks(
            start, stop, max_values=max_values, max_major=max_major, as_stored=as_stored
        )
        for block in blocks:
            if as_stored:
                yield self._selected(block)
                continue
            values, minor = np.empty_like(block.values), np.empty_like(block.minor)
            ptr = np.empty(block.n_major + 1, dtype=np.int64)
            kernel.select_minor(
                block.values,
                block.minor,
                block.ptr,
                np.ones(block.n_major, dtype=np.uint8),
                self._position,
                False,
                values,
                minor,
                ptr,
            )
            end = int(ptr[-1])
            # Copies: a few guides of many genes must not hold on to what was read.
            yield CompressedBlock(
                block.start, block.stop, values[:end].copy(), minor[:end].copy(), ptr
            )

    def _selected(self, block: CompressedBlock) -> CompressedBlock:
        """Return the chosen columns of a block of values of any type."""
        position = self._position[block.minor]
        used = position >= 0
        ptr = np.concatenate([[0], np.cumsum(used)])[block.ptr]
        return CompressedBlock(block.start, block.stop, block.values[used], position[used], ptr)


class ChosenArray:
    """Some columns of a dense array; sliced by rows or by columns, never read whole."""

    def __init__(self, whole: Any, chosen: np.ndarray) -> None:
        self._whole, self._chosen = whole, chosen
        self.dtype = whole.dtype
        self.shape = (whole.shape[0], len(chosen))

    def __getitem__(self, key: slice | tuple[slice, slice]) -> np.ndarray:
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        chosen = self._chosen[columns]
        if not len(chosen):
            return np.empty((len(range(*rows.indices(self.shape[0]))), 0), dtype=self.dtype)
        first = int(chosen[0])
        return np.asarray(self._whole[rows, first : int(chosen[-1]) + 1])[:, chosen - first]


def choose_columns(storage: Storage, layout: str, chosen: np.ndarray) -> Any:
    """Return the chosen columns of a cells x genes matrix.

    Parameters
    ----------
    storage : CompressedStorage or DenseStorage
        The matrix along the axis it is stored by.
    layout : {"csr", "csc", "dense"}
        How it is stored.
    chosen : numpy.ndarray (n_chosen,) int
        Increasing positions.
    """
    if isinstance(storage, DenseStorage):
        return DenseStorage(ChosenArray(storage.array, chosen), storage.where)
    return (ChosenRows if layout == "csc" else ChosenColumns)(storage, chosen)


class ChosenAnnotations:
    """Some entries of one axis."""

    def __init__(self, whole: Annotations, chosen: np.ndarray) -> None:
        self.axis = whole.axis
        self._whole, self._chosen = whole, chosen

    @cached_property
    def index(self) -> np.ndarray:
        """Names (n_chosen,) str objects."""
        return self._whole.index[self._chosen]

    @property
    def columns(self) -> list[str]:
        return self._whole.columns

    def column(self, name: str) -> np.ndarray:
        return self._whole.column(name)[self._chosen]


class ArrayAnnotations:
    """One axis held as arrays.

    Parameters
    ----------
    axis : str
        ``"obs"`` or ``"var"``.
    index : numpy.ndarray (n,) str
        Names.
    values : dict of str to numpy.ndarray (n,)
        Columns.
    where : str
        File, for messages.
    """

    def __init__(
        self, axis: str, index: np.ndarray, values: dict[str, np.ndarray], where: str
    ) -> None:
        self.axis, self.index = axis, index
        self._values, self._where = values, where

    @property
    def columns(self) -> list[str]:
        return list(self._values)

    def column(self, name: str) -> np.ndarray:
        require_column(name, self.columns, self.axis, self._where)
        return self._values[name]


def columns_of_kind(var: Annotations, kind: str | None, where: str) -> np.ndarray | None:
    """Return the positions of the features of one kind.

    Parameters
    ----------
    var : Annotations
        Features; column ``feature_types`` names their kinds.
    kind : str or None
        Kind wanted; None takes all.
    where : str
        File and element, for messages.

    Returns
    -------
    numpy.ndarray (n_chosen,) int64 or None
        None stands for all of them: no kind is asked for, none are named, or there is no other.

    Raises
    ------
    InputError
        No feature is of that kind; the message says which kinds there are.
    """
    if kind is None or KIND_COLUMN not in var.columns:
        return None
    kinds = np.array([str(value) for value in var.column(KIND_COLUMN)], dtype=object)
    chosen = np.flatnonzero(kinds == kind)
    if not len(chosen):
        names, counts = np.unique(kinds.astype(str), return_counts=True)
        there = ", ".join(
            f"{str(name)!r} ({count:,})" for name, count in zip(names, counts, strict=True)
        )
        raise InputError(
            f"{where} has no features of kind {kind!r}: var column {KIND_COLUMN!r} holds {there}; "
            "give one of these as feature_type="
        )
    return None if len(chosen) == len(kinds) else chosen
