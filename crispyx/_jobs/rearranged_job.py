"""Files whose X is that of another data set, by the other axis or with the cells reordered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from crispyx._io.paths import prepare_output
from crispyx._io.placed import MatrixForm
from crispyx._io.rearranged import Rearranged
from crispyx._io.source import MatrixSource
from crispyx._io.subset import slot_bytes
from crispyx._jobs.checkpoint import Checkpoint
from crispyx._jobs.matrix_job import write_matrix_file
from crispyx._kernels.layout import CompressedBlock
from crispyx._run.budget import working_memory
from crispyx._run.progress import track


def write_rearranged(
    source: MatrixSource,
    output: Path,
    layout: Literal["csr", "csc", "dense"],
    fill: Callable[[Any], None],
    fingerprint: Mapping[str, Any],
    *,
    place: np.ndarray | None = None,
    max_major: int,
    memory_limit_gb: float | None = None,
    show: bool | None = None,
    resume: bool = False,
) -> None:
    """Write a data set with X in a layout of choice; values and their type are kept.

    Parameters
    ----------
    source : MatrixSource
        The input, of any layout.
    output : pathlib.Path
        Written atomically.
    layout : {"csr", "csc", "dense"}
        Of the output; dense only of a dense input.
    fill : callable (h5py.File) -> None
        Writes all other slots.
    fingerprint : mapping
        Identity of the result.
    place : numpy.ndarray (n_cells,) or None
        New row of every cell, unless the output is CSC.
    max_major : int
        Input vectors read at a time, at most.
    memory_limit_gb : float or None
        Memory of the whole process.
    show : bool or None
        Progress bar.
    resume : bool
        Go on with an interrupted run.

    Raises
    ------
    MemoryBudgetError
        Not even one vector of the output at a time fits.
    """
    matrix = Rearranged(
        source.storage,
        turned=(source.layout == "csc") != (layout == "csc"),
        place=place,
        budget=working_memory(memory_limit_gb),
        max_major=max_major,
    )
    form = MatrixForm(layout, source.shape, matrix.n_values, matrix.dtype)
    prepare_output(output, source.paths, form.n_bytes + slot_bytes(source), store=True)

    def blocks(first: int) -> Iterator[CompressedBlock]:
        vectors = matrix.blocks(first)
        return track(vectors, total=matrix.n_blocks, label=layout, unit="block", show=show)

    write_matrix_file(
        output, form, blocks, fill, Checkpoint(output, fingerprint, 1, None), resume=resume
    )
