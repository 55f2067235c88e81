"""obs and var: index and single columns, without loading the table.

The encodings that matter (string and number arrays, categoricals) are read with h5py alone, which
keeps pandas and anndata out of a run that needs one column; anything else is left to anndata.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Protocol

import h5py
import numpy as np

from crispyx._io.damage import reading_structure
from crispyx.errors import InputError, MissingColumnError


class Annotations(Protocol):
    """Names and columns of one axis."""

    axis: str

    @property
    def index(self) -> np.ndarray:
        """Names (n,) str objects."""

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""

    def column(self, name: str) -> np.ndarray:
        """Values of one column (n,); text as objects, None where missing."""


def require_column(name: str, columns: list[str], axis: str, where: str) -> None:
    """Raise MissingColumnError unless the column is there."""
    if name not in columns:
        raise MissingColumnError(
            f"{where} has no {axis} column {name!r}; "
            + (f"it has: {', '.join(columns)}" if columns else f"its {axis} has no column at all")
        )


class FileAnnotations:
    """One axis of an h5ad file."""

    def __init__(self, group: h5py.Group, axis: str, where: str) -> None:
        self.axis = axis
        self._group = group
        self._where = where
        if isinstance(group, h5py.Dataset):
            raise InputError(
                f"{where}: {axis} is stored in the table layout of anndata before 0.7; "
                "open the file with anndata and write it again"
            )

    @cached_property
    def index(self) -> np.ndarray:
        """Names (n,) str objects."""
        with reading_structure(f"{self._where}: the index of {self.axis}"):
            name = self._group.attrs.get("_index", "_index")
            if name not in self._group:
                raise InputError(f"{self._where}: {self.axis} has no index ({name!r} is missing)")
            return as_text(self._read(name))

    @property
    def columns(self) -> list[str]:
        with reading_structure(f"{self._where}: the columns of {self.axis}"):
            order = self._group.attrs.get("column-order")
            if order is None:
                index = self._group.attrs.get("_index", "_index")
                return [name for name in self._group if name not in (index, "__categories")]
            return [name.decode() if isinstance(name, bytes) else str(name) for name in order]

    def column(self, name: str) -> np.ndarray:
        require_column(name, self.columns, self.axis, self._where)
        with reading_structure(f"{self._where}: {self.axis} column {name!r}"):
            values = self._read(name)
        if values.shape != self.index.shape:
            raise InputError(
                f"{self._where}: {self.axis} column {name!r} has shape {values.shape} where "
                f"{self.axis} has {len(self.index)} entries; the file is damaged: "
                "copy or write it again"
            )
        return values

    def _read(self, name: str) -> np.ndarray:
        element = self._group[name]
        if isinstance(element, h5py.Group):
            if "codes" in element and "categories" in element:
                return _decode(element["codes"][()], read_array(element["categories"]), self._where)
            import anndata.io

            return plain_column(anndata.io.read_elem(element))
        if "categories" in element.attrs:  # anndata 0.7 kept categories in a group of their own
            categories = self._group[element.attrs["categories"]]
            return _decode(element[()], read_array(categories), self._where)
        return read_array(element)


class TableAnnotations:
    """One axis of a file of anndata before 0.7: one table of records, its categories in uns."""

    def __init__(self, table: h5py.Dataset, axis: str, where: str) -> None:
        self.axis = axis
        self._table = table
        self._where = where
        if table.ndim != 1 or not table.dtype.names:
            raise InputError(
                f"{where}: {axis} is neither a group nor a table; the file is damaged: copy or "
                "write it again"
            )

    @cached_property
    def index(self) -> np.ndarray:
        """Names (n,) str objects; the first field."""
        with reading_structure(f"{self._where}: the index of {self.axis}"):
            return as_text(self._read(self._table.dtype.names[0]))

    @property
    def columns(self) -> list[str]:
        return list(self._table.dtype.names[1:])

    def column(self, name: str) -> np.ndarray:
        require_column(name, self.columns, self.axis, self._where)
        with reading_structure(f"{self._where}: {self.axis} column {name!r}"):
            values = self._read(name)
            categories = self._table.file.get(f"uns/{name}_categories")
            if categories is None or values.dtype.kind not in "iu":
                return values
            return _decode(values, read_array(categories), self._where)

    def _read(self, name: str) -> np.ndarray:
        values = self._table.fields(name)[()]
        if values.dtype.kind not in "OS":
            return values
        return np.array([v.decode() if isinstance(v, bytes) else v for v in values], dtype=object)


class FrameAnnotations:
    """One axis of an AnnData in memory."""

    def __init__(self, frame: Any, axis: str, where: str) -> None:
        self.axis = axis
        self._frame = frame
        self._where = where

    @property
    def index(self) -> np.ndarray:
        return as_text(np.asarray(self._frame.index, dtype=object))

    @property
    def columns(self) -> list[str]:
        return [str(name) for name in self._frame.columns]

    def column(self, name: str) -> np.ndarray:
        require_column(name, self.columns, self.axis, self._where)
        return plain_column(self._frame[name])


def file_annotations(file: h5py.File, axis: str, where: str) -> Annotations:
    """Return obs or var of a file of any anndata version."""
    node = file[axis]
    kind = TableAnnotations if isinstance(node, h5py.Dataset) else FileAnnotations
    return kind(node, axis, where)


def plain_column(values: Any) -> np.ndarray:
    """Return a pandas column as a NumPy array, text as objects with None where missing."""
    import pandas as pd

    series = pd.Series(values)
    if series.dtype.kind in "biuf" and isinstance(series.dtype, np.dtype):
        return series.to_numpy()
    plain = series.astype(object).to_numpy().copy()
    plain[pd.isna(series).to_numpy()] = None
    return plain


def as_text(values: np.ndarray) -> np.ndarray:
    """Return every value as str (n,) objects."""
    if _holds_only(values, {str}):
        return values.copy()
    return np.array([v if isinstance(v, str) else str(v) for v in values], dtype=object)


def as_labels(values: np.ndarray) -> np.ndarray:
    """Return labels as str objects, with None for a missing one (None or NaN)."""
    if _holds_only(values, {str, type(None)}):
        return values.copy()
    return np.array([_label(value) for value in values.tolist()], dtype=object)


def _holds_only(values: np.ndarray, kinds: set[type]) -> bool:
    return values.dtype == object and set(map(type, values.tolist())) <= kinds


def _label(value: Any) -> str | None:
    if value is None or value != value:
        return None
    # Numbers with a missing one among them become floats; their labels stay "1", "2".
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def read_array(dataset: h5py.Dataset) -> np.ndarray:
    if h5py.check_string_dtype(dataset.dtype) is not None:
        # Files that call their text ASCII may hold UTF-8 all the same.
        return np.asarray(dataset.asstr("utf-8")[()], dtype=object)
    return dataset[()]


def _decode(codes: np.ndarray, categories: np.ndarray, where: str) -> np.ndarray:
    values = np.empty(len(codes), dtype=object)
    known = codes >= 0
    if codes.max(initial=-1) >= len(categories):
        raise InputError(
            f"{where}: a category has code {codes.max()} of {len(categories)} categories; "
            "the file is damaged: copy or write it again"
        )
    values[known] = categories[codes[known]]
    values[~known] = None
    return values
