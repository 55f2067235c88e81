"""Fewer cells and genes of a data set, as a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from crispyx._io.paths import prepare_output
from crispyx._io.placed import MatrixForm
from crispyx._io.source import MatrixSource
from crispyx._io.subset import Subset, bytes_of, fill_subset
from crispyx._jobs.checkpoint import Checkpoint
from crispyx._jobs.matrix_job import write_matrix_file
from crispyx._kernels.layout import CompressedBlock


def write_subset(
    source: MatrixSource,
    subset: Subset,
    form: MatrixForm,
    blocks: Callable[[np.ndarray], Iterable[CompressedBlock]],
    output: Path,
    fingerprint: Mapping[str, Any],
    *,
    resume: bool = False,
) -> None:
    """Write the subset of a data set; X keeps the layout of the input and loses stored zeros.

    Parameters
    ----------
    source : MatrixSource
        The input.
    subset : Subset
        What is kept.
    form : MatrixForm
        X of the subset.
    blocks : callable (mask of the stored axis) -> iterable of CompressedBlock
        Blocks of the input that hold any of these vectors.
    output : pathlib.Path
        Written atomically.
    fingerprint : mapping
        Identity of the result.
    resume : bool
        Go on with an interrupted run.
    """
    inputs = source.paths
    prepare_output(output, inputs, bytes_of(source, subset, form), store=True)

    def kept(first: int) -> Iterator[CompressedBlock]:
        stored = blocks(subset.major_from(source.layout, first))
        return subset.select(stored, source.layout, drop_zeros=True, first=first)

    write_matrix_file(
        output,
        form,
        kept,
        partial(fill_subset, source=source, subset=subset, fingerprint=fingerprint),
        Checkpoint(output, fingerprint, 1, None),
        resume=resume,
    )
