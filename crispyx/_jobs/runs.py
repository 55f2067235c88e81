"""Where the cells of each perturbation stand, when they stand side by side."""

from __future__ import annotations

import numpy as np


def runs_of(labels: np.ndarray) -> tuple[list[str | None], np.ndarray]:
    """Cut the cells into runs of one label.

    Parameters
    ----------
    labels : numpy.ndarray (n_cells,) str objects
        Label of each cell, None where missing.

    Returns
    -------
    labels : list of str or None (n_runs,)
    ptr : numpy.ndarray (n_runs + 1,) int64
        First cell of each run, and the number of cells.
    """
    changes = [i for i in range(1, len(labels)) if labels[i] != labels[i - 1]]
    ptr = np.array([0, *changes, len(labels)], dtype=np.int64)
    return [labels[start] for start in ptr[:-1]], ptr


def perturbation_slices(labels: np.ndarray) -> dict[str, slice] | None:
    """Return the rows of every label; None unless the cells of each stand side by side.

    The answer comes from the labels themselves, so that it holds for any file whose cells happen to
    be in order, and a note in ``uns`` that has become stale misleads no one.
    """
    found, ptr = runs_of(labels)
    known = [label for label in found if label is not None]
    if len(set(known)) < len(known):
        return None
    return {
        label: slice(int(ptr[i]), int(ptr[i + 1]))
        for i, label in enumerate(found)
        if label is not None
    }


def contiguity(labels: np.ndarray) -> dict[str, float]:
    """Return, for every label, the share of its cells that stand in its longest run."""
    found, ptr = runs_of(labels)
    longest: dict[str, int] = {}
    total: dict[str, int] = {}
    for label, length in zip(found, np.diff(ptr).tolist(), strict=True):
        if label is not None:
            longest[label] = max(longest.get(label, 0), length)
            total[label] = total.get(label, 0) + length
    return {label: longest[label] / n for label, n in total.items()}
