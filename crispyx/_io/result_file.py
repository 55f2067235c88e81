"""Tables, names and notes of a perturbations x genes result file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from crispyx._io.annotations import FileAnnotations
from crispyx._io.source import open_file
from crispyx.errors import InputError


class ResultFile:
    """A result file, opened for the moment of each reading only.

    Attributes
    ----------
    path : pathlib.Path
        File written by a differential expression function.
    groups, genes : numpy.ndarray (n,) str
        Names of rows and columns.
    gene_axis_name : str or None
        Name of the var index.
    notes : dict
        Text, numbers and booleans of uns.

    Raises
    ------
    InputError
        The file is not such a result.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_file(path) as file:
            if "X" not in file or "z_score" not in file.get("layers", ()):
                raise InputError(
                    f"{str(path)!r} is not a differential expression result: it has no layer "
                    "'z_score'; give a file that wilcoxon_test, t_test or nb_glm_test wrote"
                )
            self._elements = {"X": "X"} | {name: f"layers/{name}" for name in file["layers"]}
            index_name = file["var"].attrs["_index"]
            self.gene_axis_name = None if index_name == "_index" else index_name
            self.groups = FileAnnotations(file["obs"], "obs", str(path)).index
            self.genes = FileAnnotations(file["var"], "var", str(path)).index
            self.notes: dict[str, Any] = {
                name: _scalar(node)
                for name, node in file["uns"].items()
                if isinstance(node, h5py.Dataset) and node.shape == ()
            }

    def __contains__(self, name: str) -> bool:
        return name in self._elements

    def table(self, name: str, row: int | None = None) -> np.ndarray:
        """Return X or a layer (n_groups, n_genes), or one row of it (n_genes,)."""
        with open_file(self.path) as file:
            return file[self._elements[name]][() if row is None else row]

    def blocks(self, names: Sequence[str], n_rows: int) -> Iterator[tuple[int, list[np.ndarray]]]:
        """Yield the first row of each run of ``n_rows`` rows, and that run of each table."""
        with open_file(self.path) as file:
            tables = [file[self._elements[name]] for name in names]
            for start in range(0, len(self.groups), n_rows):
                yield start, [table[start : start + n_rows] for table in tables]

    @contextmanager
    def tables(self) -> Iterator[Callable[[str, slice, slice], np.ndarray]]:
        """Keep the file open; yield a reader (name, rows, genes) of X and the layers."""
        with open_file(self.path) as file:
            yield lambda name, rows, genes: file[self._elements[name]][rows, genes]

    def uns(self) -> dict[str, Any]:
        """Return all of uns but what is as long as the genes or nested deeper than once."""
        with open_file(self.path) as file:
            return {name: _value(node) for name, node in file["uns"].items() if _is_note(node)}


def _is_note(node: h5py.Dataset | h5py.Group) -> bool:
    if isinstance(node, h5py.Dataset):
        return True
    return all(isinstance(part, h5py.Dataset) for part in node.values())


def _value(node: h5py.Dataset | h5py.Group) -> Any:
    if isinstance(node, h5py.Group):
        return {name: _value(part) for name, part in node.items()}
    if node.shape == ():
        return _scalar(node)
    return node.asstr()[()] if h5py.check_string_dtype(node.dtype) else node[()]


def _scalar(node: h5py.Dataset) -> Any:
    value = node[()]
    return value.decode() if isinstance(value, bytes) else value
