"""How many genes a block holds and where the turned matrix goes, given a memory budget."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crispyx._io.matrix import READ_VALUES, STREAM_VALUES, MatrixSource
from crispyx._io.paths import require_space
from crispyx._jobs.screen import Screen
from crispyx._run.budget import require, working_memory
from crispyx.errors import InputError
from crispyx.settings import settings

BYTES_PER_OFFSET = 2  # of one non-zero of the turned matrix, beside its value
BYTES_PER_POINTER = 8  # of one gene in a piece of the turned matrix
BYTES_PER_INDEX = 4  # of one non-zero of the stored matrix, beside its value
BYTES_PER_GROUPED = 20  # a non-zero of a block: value and cell, the grouped copy, sort scratch
BYTES_PER_READ = 40  # a value being read: stored, converted, turned around
BLOCK_VALUES = 4_000_000
MAX_WIDTH = 512


@dataclass(frozen=True)
class Plan:
    """Sizes that change speed and memory, never a number.

    Attributes
    ----------
    width : int
        Genes of a block.
    scratch_dir : pathlib.Path or None
        Where the turned matrix goes; None is memory.
    in_place : bool
        A CSR matrix in one piece may be left where it is: memory holds all of it.
    read_values : int or None
        Values read at a time where memory is short.
    """

    width: int
    scratch_dir: Path | None
    in_place: bool = False
    read_values: int | None = None


def plan_genes(
    source: MatrixSource,
    screen: Screen,
    *,
    output: Path,
    bytes_per_result: int,
    bytes_per_value: int = BYTES_PER_GROUPED,
    memory_limit_gb: float | None = None,
    width: int | None = None,
    n_threads: int = 1,
) -> Plan:
    """Choose block width and place of the turned matrix.

    Parameters
    ----------
    source, screen
        The input.
    output : pathlib.Path
        Its folder takes the scratch file unless ``settings.scratch_dir`` is set.
    bytes_per_result : int
        Bytes of a tile for one gene and one perturbation.
    bytes_per_value : int
        Bytes of a non-zero of a block.
    memory_limit_gb : float or None
        See :func:`crispyx._run.budget.working_memory`.
    width : int or None
        Genes of a block the caller asked for.
    n_threads : int
        Threads, each of which makes a piece of what is read at a time.

    Raises
    ------
    MemoryBudgetError
        Not even one gene at a time fits.
    DiskSpaceError
        The scratch file would not fit.
    """
    n_cells, n_genes = source.shape
    n_groups = len(screen.groups) + 1
    stored = source.storage.n_stored
    budget = working_memory(memory_limit_gb)
    per_gene = bytes_per_value * stored // n_genes + 16 * n_groups + bytes_per_result * n_groups
    pointers = 0 if source.layout == "csc" else BYTES_PER_POINTER * n_genes * n_threads * stored
    reading, fixed = READ_VALUES, _fixed(READ_VALUES, stored, n_cells, pointers)
    per_turned = BYTES_PER_OFFSET + (8 if source.dtype == np.float64 else 4)
    turned = 0 if source.layout == "csc" else per_turned * stored
    in_memory = fixed + turned + per_gene <= budget
    if not in_memory:
        # Reading less at a time makes more pieces, each with a pointer for every gene.
        least = int(np.sqrt(pointers / BYTES_PER_READ))
        reading = min(max(least, STREAM_VALUES), READ_VALUES)
        fixed = _fixed(reading, stored, n_cells, pointers)
    require(
        fixed + per_gene, budget, f"{source.where}: a comparison of {n_groups - 1} perturbations"
    )
    # Pages of a mapped file count as memory of the process as well.
    untouched = (source.dtype.itemsize + BYTES_PER_INDEX) * stored + 4 * n_groups * n_genes
    in_place = source.layout == "csr" and fixed + untouched + per_gene <= budget
    left = budget - fixed - max(untouched if in_place else 0, turned if in_memory else 0)
    if width is not None and width < 1:
        raise InputError(f"chunk_size is {width}; give a whole number of genes >= 1 or None")
    if width is None:
        by_values = max(1, BLOCK_VALUES * n_genes // max(1, stored))
        width = min(MAX_WIDTH, by_values, n_genes)
    width = max(1, min(int(width), left // per_gene))
    scratch = None if in_memory else settings.scratch_dir or output.parent
    # Only the non-zeros of a dense matrix are kept, and their number is not known beforehand.
    if scratch is not None and source.layout != "dense":
        require_space(
            scratch, turned, f"the scratch file of {source.where}", "crispyx.settings.scratch_dir"
        )
    return Plan(width, scratch, in_place, None if in_memory else reading)


def _fixed(read_values: int, stored: int, n_cells: int, pointers: int) -> int:
    """Return the bytes that are held whatever the width of blocks."""
    read_values = max(1, min(read_values, stored))
    return BYTES_PER_READ * read_values + pointers // read_values + 24 * n_cells
