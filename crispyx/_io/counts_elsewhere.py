"""Where else in a data set counts may stand, for the message to those who gave another matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

from crispyx._io.zarr_stores import is_group, readable

LOOKED_AT = 100_000  # values of each matrix


def counts_elsewhere(owner: Any, element: str) -> str:
    """Return how to reach a layer, X or raw that looks like counts; empty where there is none.

    Parameters
    ----------
    owner : h5py.Group, zarr.Group, anndata.AnnData or None
        The data set.
    element : str
        The matrix that was given, ``"X"`` or ``"layers/NAME"``.
    """
    for name, matrix in _matrices(owner).items():
        if name == element or not _looks_like_counts(matrix):
            continue
        if name == "raw/X":
            return "; .raw holds counts: write adata.raw.to_adata() to a file and give that"
        if name == "X":
            return "; X holds counts: leave out layer="
        layer = name.removeprefix("layers/")
        return f"; the layer {layer!r} holds counts: give layer={layer!r}"
    return ""


def _matrices(owner: Any) -> dict[str, Any]:
    if is_group(owner):
        names = [f"layers/{name}" for name in owner.get("layers", ())] + ["raw/X", "X"]
        return {name: owner[name] for name in names if name in owner}
    if owner is None:
        return {}
    found = {f"layers/{name}": matrix for name, matrix in owner.layers.items()}
    if owner.raw is not None:
        found["raw/X"] = owner.raw.X
    return found | {"X": owner.X}


def _looks_like_counts(matrix: Any) -> bool:
    """Tell whether the first values are whole numbers >= 0, not all of them 0."""
    values = matrix.get("data") if is_group(matrix) else matrix
    values = getattr(values, "data", values) if getattr(matrix, "format", None) else values
    if values is None or getattr(values, "ndim", 0) == 0 or values.dtype.kind not in "iuf":
        return False
    n_rows = max(1, LOOKED_AT // max(1, int(np.prod(values.shape[1:]))))
    try:
        first = np.asarray(readable(values)[:n_rows])
    except OSError:
        return False  # a damaged layer is not what the user asked about
    return bool(np.any(first > 0) and np.all(first >= 0) and np.all(first == np.floor(first)))
