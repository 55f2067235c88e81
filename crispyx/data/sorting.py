"""Cells in the order of their perturbations."""

from __future__ import annotations

import warnings
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from crispyx._io.annotations import as_labels
from crispyx._io.paths import prepare_output, sorted_name
from crispyx._io.sorted_copy import fill_sorted, places_of
from crispyx._io.source import MatrixSource, open_source
from crispyx._jobs.labels import resolve_control_label
from crispyx._jobs.outputs import can_reuse
from crispyx._jobs.rearranged_job import write_rearranged
from crispyx._jobs.runs import contiguity, perturbation_slices
from crispyx._run.budget import working_memory
from crispyx._run.fingerprint import fingerprint
from crispyx.data.arguments import PathLike, whole
from crispyx.errors import CrispyxWarning, InputError

METADATA = "sorting_metadata"


def needs_sorting_for_nbglm(
    path: Any,
    perturbation_column: str = "perturbation",
    *,
    min_cells: int = 360_000,
    min_perturbations: int = 100,
    contiguity_threshold: float = 0.5,
) -> bool:
    """Tell whether sorting the cells by perturbation would pay.

    It does when the data set is large, has many perturbations, and their cells are scattered, so
    that reading one perturbation at a time means many small reads. A disk that turns makes about
    100 of them a second: 360,000 cells are an hour.

    Parameters
    ----------
    path : str, pathlib.Path, AnnData or anndata.AnnData
        The data set.
    perturbation_column : str
        obs column of labels.
    min_cells : int
        Cells from which on sorting is recommended.
    min_perturbations : int
        Labels, control included, from which on it is.
    contiguity_threshold : float
        It is recommended below this mean contiguity. The contiguity of a label is the share of its
        cells that stand in its longest run: 1 when all stand side by side, near 0 when scattered.

    Returns
    -------
    bool
        All three conditions hold.

    Raises
    ------
    KeyError
        No such column.
    """
    with open_source(path) as source:
        labels = as_labels(source.obs.column(perturbation_column))
    shares = contiguity(labels)
    large = len(labels) >= min_cells and len(shares) >= min_perturbations
    return bool(large and np.mean(list(shares.values())) < contiguity_threshold)


def sort_by_perturbation(
    path: Any,
    perturbation_column: str = "perturbation",
    control_label: str | None = None,
    *,
    output_path: PathLike | None = None,
    chunk_size: int = 4096,
    force: bool = False,
    memory_limit_gb: float | None = None,
    resume: bool = False,
) -> Path:
    """Write a copy of a data set with the cells of every perturbation side by side.

    The control comes first, then the other labels in alphabetical order, then cells without a label
    (with a warning). Within a label cells keep their order. The matrix is streamed and written as
    CSR, or dense when it is dense; layers likewise. All other slots follow their cells. When the
    output does not fit into the memory budget, the input is passed over once for each part of it.

    Parameters
    ----------
    path : str, pathlib.Path, AnnData or anndata.AnnData
        The data set. In memory, ``output_path`` must be given.
    perturbation_column : str
        obs column of labels.
    control_label : str or None
        Label of the control; None infers it, see :func:`resolve_control_label`.
    output_path : str or pathlib.Path or None
        Output file; None takes ``{stem}_sorted.h5ad`` beside the input.
    chunk_size : int
        Cells read at a time (genes of a CSC matrix), at most.
    force : bool
        Sort again and replace whatever stands under the output's name. Otherwise the same sorted
        file is reused and a file of another origin is an error.
    memory_limit_gb : float or None
        Memory of the whole process in GB (1e9 bytes); None takes ``settings.memory_limit_gb``, else
        half of what is free.
    resume : bool
        Continue an interrupted run from its checkpoint.

    Returns
    -------
    pathlib.Path
        The sorted file. ``uns["sorting_metadata"]`` holds ``original_path``, ``sorted_by``,
        ``control_label``, ``timestamp``, ``n_perturbations`` (labels, control included),
        ``sort_order`` (old row of every new one) and ``perturbation_boundaries`` (label to
        ``[start, end]``; HDF5 has no ``/`` in names, it becomes ``U+2215``).

    Raises
    ------
    ValueError
        The control is absent or cannot be inferred; a damaged matrix; the output is the input.
    KeyError
        No such column.
    FileExistsError
        Another input's result, or a file of another origin, stands under the output's name.
    """
    rows = whole("chunk_size", chunk_size, 1)
    with open_source(path) as source:
        labels = as_labels(source.obs.column(perturbation_column))
        control = resolve_control_label(labels, control_label)
        where = source.path or source.where
        order = _order(labels, control, f"obs column {perturbation_column!r} of {where}")
        output = _output(source, output_path)
        identity = fingerprint(
            "sorted",
            source.identity(),
            {"perturbation_column": perturbation_column, "control_label": control},
        )
        if can_reuse(output, identity, force=force):
            return output
        fill = partial(
            fill_sorted,
            source=source,
            order=order,
            budget=working_memory(memory_limit_gb),
            uns={METADATA: _metadata(source, labels[order], order, perturbation_column, control)},
            fingerprint=identity,
        )
        write_rearranged(
            source,
            output,
            "dense" if source.layout == "dense" else "csr",
            fill,
            identity,
            place=places_of(order),
            max_major=rows,
            memory_limit_gb=memory_limit_gb,
            resume=resume,
        )
    return output


def get_perturbation_slice(
    adata_or_path: Any, perturbation_label: str, perturbation_column: str = "perturbation"
) -> tuple[slice | None, bool]:
    """Return the rows of a perturbation in a sorted file.

    Parameters
    ----------
    adata_or_path : str, pathlib.Path, AnnData or anndata.AnnData
        The data set.
    perturbation_label : str
        The perturbation.
    perturbation_column : str
        obs column of labels.

    Returns
    -------
    tuple (slice or None, bool)
        The rows and True; None and False when the data set was not written by
        :func:`sort_by_perturbation` for this column, is no longer in that order, or has no such
        label: take a mask of the labels then.
    """
    with open_source(adata_or_path) as source:
        note = source.slot("uns", METADATA)
        if note is None or str(note.get("sorted_by")) != perturbation_column:
            return None, False
        labels = as_labels(source.obs.column(perturbation_column))
    rows = (perturbation_slices(labels) or {}).get(str(perturbation_label))
    return rows, rows is not None


def _order(labels: np.ndarray, control: str, where: str) -> np.ndarray:
    known = {label for label in labels if label is not None}
    if control not in known:
        raise InputError(f"control label {control!r} is not in {where}; give control_label=")
    n_missing = sum(label is None for label in labels)
    if n_missing:
        warnings.warn(
            f"{n_missing} of {len(labels)} cells have no label in {where}; they come last",
            CrispyxWarning,
            stacklevel=3,
        )
    ranks: dict[str | None, int] = {
        label: i for i, label in enumerate([control, *sorted(known - {control})])
    }
    ranks[None] = len(ranks)
    return np.argsort([ranks[label] for label in labels], kind="stable")


def _output(source: MatrixSource, output_path: PathLike | None) -> Path:
    if output_path is not None:
        output = Path(output_path).expanduser()
    elif source.path is None:
        raise InputError(f"{source.where} has no folder for the output; give output_path=")
    else:
        output = sorted_name(source.path)
    return prepare_output(output, source.paths, store=True)


def _metadata(
    source: MatrixSource, labels: np.ndarray, order: np.ndarray, column: str, control: str
) -> dict[str, Any]:
    slices = perturbation_slices(labels)
    assert slices is not None  # they have just been sorted
    return {
        "original_path": str(source.path or ""),
        "sorted_by": column,
        "control_label": control,
        "timestamp": datetime.now().isoformat(),
        "n_perturbations": len(slices),
        "perturbation_boundaries": {
            label.replace("/", "\u2215"): np.array([rows.start, rows.stop])
            for label, rows in slices.items()
        },
        "sort_order": order,
    }
