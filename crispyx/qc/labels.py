"""The perturbation of every cell."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from crispyx._io.annotations import as_labels
from crispyx._io.source import MatrixSource
from crispyx._jobs.labels import _shown, resolve_control_label
from crispyx.errors import CrispyxWarning, InputError


@dataclass(frozen=True)
class CellLabels:
    """Labels of the cells.

    Attributes
    ----------
    values : numpy.ndarray (n_cells,) str objects
        Label of each cell, None where missing.
    control : str
        Label of the control, which some cell carries.
    where : str
        Column and file, for messages.
    """

    values: np.ndarray
    control: str
    where: str

    @property
    def known(self) -> np.ndarray:
        """Cells that have a label (n_cells,) bool."""
        return np.array([label is not None for label in self.values], dtype=bool)

    def belongs_to(self, keep: dict[str, bool]) -> np.ndarray:
        """Return the cells whose label is kept (n_cells,) bool."""
        return np.array([keep.get(label, False) for label in self.values], dtype=bool)


def cell_labels(
    source: MatrixSource, perturbation_column: str, control_label: str | None
) -> CellLabels:
    """Read the labels of the cells and find the control among them.

    Raises
    ------
    MissingColumnError, InputError
        No such column; no label; the control is absent or cannot be inferred.
    """
    labels = as_labels(source.obs.column(perturbation_column))
    where = f"obs column {perturbation_column!r} of {source.path or source.where}"
    present = list(dict.fromkeys(label for label in labels if label is not None))
    if not present:
        raise InputError(f"{where} holds no label; every cell's entry is missing")
    control = resolve_control_label(labels, control_label, verbose=False)
    if control not in present:
        raise InputError(
            f"control label {control!r} is not in {where}, which holds {_shown(present)}; "
            "give control_label="
        )
    n_missing = sum(label is None for label in labels)
    if n_missing:
        warnings.warn(
            f"{n_missing} of {len(labels)} cells have no label in {where}; they are left out",
            CrispyxWarning,
            stacklevel=3,
        )
    return CellLabels(labels, control, where)
