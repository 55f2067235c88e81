"""Tables, names and notes of a perturbations x genes result file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from crispyx._io.annotations import FileAnnotations
from crispyx._io.source import open_file
from crispyx.errors import InputError


def read_result(
    path: Path,
) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
    """Read X and all layers, the names of both axes, and the scalars of uns.

    Parameters
    ----------
    path : pathlib.Path
        File written by a differential expression function.

    Returns
    -------
    tables : dict of numpy.ndarray (n_groups, n_genes)
        ``"X"`` and every layer.
    names : dict
        ``"obs"`` and ``"var"`` names (n,) str, and ``"var_name"``, the name of the var index.
    uns : dict
        Text, numbers and booleans.

    Raises
    ------
    InputError
        The file is not such a result.
    """
    with open_file(path) as file:
        if "X" not in file or "z_score" not in file.get("layers", ()):
            raise InputError(
                f"{str(path)!r} is not a differential expression result: it has no layer 'z_score'"
            )
        tables = {"X": file["X"][()]}
        tables |= {name: layer[()] for name, layer in file["layers"].items()}
        index_name = file["var"].attrs["_index"]
        names = {
            "obs": FileAnnotations(file["obs"], "obs", str(path)).index,
            "var": FileAnnotations(file["var"], "var", str(path)).index,
            "var_name": None if index_name == "_index" else index_name,
        }
        uns = {
            name: _scalar(node)
            for name, node in file["uns"].items()
            if isinstance(node, h5py.Dataset) and node.shape == ()
        }
    return tables, names, uns


def _scalar(node: h5py.Dataset) -> Any:
    value = node[()]
    return value.decode() if isinstance(value, bytes) else value
