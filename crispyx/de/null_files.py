"""Control cells as small files that any test of the package reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from crispyx._io.source import MatrixSource
from crispyx._io.writer import new_h5ad, write_compressed, write_slot
from crispyx._kernels.layout import CompressedBlock
from crispyx._stats.calibration import cell_generator, thinned
from crispyx.de.null_designs import Design
from crispyx.errors import InputError

CONTROL = "control"
BATCH = "batch"


def label_column(design: Design) -> str:
    """Return the obs column of a design's labels."""
    return f"{design.kind}_{design.split}"


def pseudo_name(number: int) -> str:
    """Return the label of the k-th group of a design, from 1; two groups may have one name."""
    return f"group {number}"


def count_rows(source: MatrixSource, scratch: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return total and number of non-zeros of every cell; refuse what are no counts.

    Raises
    ------
    InputError
        A value is negative or no whole number.
    """
    summary = source.empty_summary()
    n_values = np.zeros(source.shape[0], dtype=np.int64)
    totals = np.zeros(source.shape[0])
    for block in source.row_blocks(summary, scratch_dir=scratch):
        row = np.repeat(np.arange(block.n_major), np.diff(block.ptr))
        rows = slice(block.start, block.stop)
        n_values[rows] = np.bincount(row, block.values != 0, block.n_major).astype(np.int64)
        totals[rows] = np.bincount(row, block.values, block.n_major)
        wrong = summary.negative or summary.fractional
        if wrong is not None:
            cell, gene, value = wrong
            raise InputError(
                f"{source.where} holds {value:g} at cell {source.obs.index[cell]!r}, gene "
                f"{source.var.index[gene]!r}, which is no count; give the file of counts, or "
                "layer= of the layer that holds them"
            )
    return totals, n_values


def write_control(
    source: MatrixSource,
    cells: np.ndarray,
    n_values: int,
    genes: np.ndarray,
    designs: Sequence[Design],
    batch: np.ndarray | None,
    path: Path,
) -> None:
    """Write the counts of some cells (a mask) with the labels of all designs in obs."""
    rows = np.cumsum(cells) - 1

    def kept() -> Iterator[CompressedBlock]:
        for block in source.row_blocks(scratch_dir=path.parent):
            use = cells[block.start : block.stop]
            if not use.any():
                continue
            size = np.diff(block.ptr)
            value = np.repeat(use, size) & (block.values != 0)
            row = np.repeat(np.arange(block.n_major), size)[value]
            counts = np.bincount(row, minlength=block.n_major)[use]
            first = int(rows[block.start + int(np.argmax(use))])
            ptr = np.concatenate([[0], np.cumsum(counts)])
            yield CompressedBlock(
                first, first + len(counts), block.values[value], block.minor[value], ptr
            )

    _write(kept(), n_values, (int(cells.sum()), len(genes)), genes, designs, batch, path)


def write_thinned(
    control: MatrixSource,
    genes: np.ndarray,
    design: Design,
    batch: np.ndarray | None,
    random_state: int,
    path: Path,
) -> None:
    """Write the control's cells, molecules dropped as a design asks; what is left of them may be 0.

    Each cell has random numbers of its own: blocks change nothing.
    """

    def after_thinning() -> Iterator[CompressedBlock]:
        for block in control.native_blocks():
            values = block.values.copy()
            for at in np.flatnonzero(design.kept[design.labels[block.start : block.stop]] < 1):
                span = slice(int(block.ptr[at]), int(block.ptr[at + 1]))
                cell = block.start + int(at)
                rng = cell_generator(random_state, design.kind, design.split, cell)
                values[span] = thinned(values[span], design.kept[design.labels[cell]], rng)
            yield CompressedBlock(block.start, block.stop, values, block.minor, block.ptr)

    n_values = int(control.storage.n_stored)
    _write(after_thinning(), n_values, control.shape, genes, [design], batch, path)


def _write(
    blocks: Iterable[CompressedBlock],
    n_values: int,
    shape: tuple[int, int],
    genes: np.ndarray,
    designs: Sequence[Design],
    batch: np.ndarray | None,
    path: Path,
) -> None:
    import pandas as pd

    columns = {}
    for design in designs:
        names = [CONTROL, *(pseudo_name(k + 1) for k in range(len(design.names)))]
        columns[label_column(design)] = pd.Categorical.from_codes(design.labels, names)
    if batch is not None:
        columns[BATCH] = pd.Categorical(batch.astype(str))
    obs = pd.DataFrame(columns, index=[f"cell {i}" for i in range(shape[0])])
    with new_h5ad(path) as file:
        if "X" in file:
            del file["X"]
        write_compressed(file, "X", blocks, n_values, shape, dtype=np.dtype(np.float32))
        for slot, table in (("obs", obs), ("var", pd.DataFrame(index=genes.astype(str)))):
            write_slot(file, "/", slot, table)
