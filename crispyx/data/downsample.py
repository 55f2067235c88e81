"""Cells with fewer molecules, drawn at random, as a file."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from crispyx._io.copies import fill_copy
from crispyx._io.matrix import STREAM_VALUES
from crispyx._io.paths import prepare_output
from crispyx._io.placed import MatrixForm
from crispyx._io.segments import scratch_folder
from crispyx._io.source import MatrixSource, open_source
from crispyx._io.subset import slot_bytes
from crispyx._jobs.checkpoint import Checkpoint
from crispyx._jobs.matrix_job import write_matrix_file
from crispyx._jobs.outputs import can_reuse
from crispyx._kernels import compressed as kernel
from crispyx._kernels.layout import CompressedBlock
from crispyx._run.fingerprint import fingerprint
from crispyx._run.threads import resolve_threads
from crispyx._stats.downsample_counts import downsampled_values
from crispyx.data.arguments import PathLike, output_of, whole
from crispyx.data.ondisk import AnnData
from crispyx.errors import InputError
from crispyx.settings import settings


def downsample_counts(
    data: Any,
    *,
    counts_per_cell: int | Sequence[int] | None = None,
    total_counts: int | None = None,
    quantile: float | None = None,
    replace: bool = False,
    random_state: int = 0,
    output_path: PathLike | None = None,
    output_dir: PathLike | None = None,
    data_name: str | None = None,
    force: bool = False,
    resume: bool = False,
) -> AnnData:
    """Write a copy in which cells keep some of their molecules, drawn at random.

    Exactly one of ``counts_per_cell``, ``total_counts`` and ``quantile`` is given. What is drawn
    from a cell depends on the seed and its place in the matrix alone: layout, blocks and threads
    change nothing. Slots other than X are kept as they are. The matrix is passed over three times:
    for the molecules of the cells, for the number of values that stay, and to write.

    Parameters
    ----------
    data : path, crispyx.AnnData or anndata.AnnData, list of paths
        Counts; in memory, ``output_path`` or ``output_dir`` must be given.
    counts_per_cell : int, sequence of int (n_cells,) or None
        Molecules to keep of each cell. A cell with fewer stays as it is (with replacement it gets
        that many).
    total_counts : int or None
        Molecules to keep of the whole matrix, each as likely as any other (without replacement
        only).
    quantile : float or None
        Take this quantile of the cells' molecules, rounded down, as ``counts_per_cell``.
    replace : bool
        Draw with replacement.
    random_state : int
        Seed.
    output_path, output_dir, data_name
        Where the copy goes; ``crispyx_downsampled.h5ad`` beside the input unless given.
    force, resume : bool
        As in :func:`crispyx.data.subsample`.

    Returns
    -------
    AnnData
        Wrapper of the copy: X as CSR in the type of the input, zeros left out.

    Raises
    ------
    InputError
        None or several of the three; values that are no counts (cell and gene are named).
    OutputExistsError
        Another input's result stands under the output's name.

    Notes
    -----
    Reference: ``reference.downsample_counts``. The same distributions as
    ``scanpy.pp.downsample_counts``, with other random numbers.
    """
    given = [value for value in (counts_per_cell, total_counts, quantile) if value is not None]
    if len(given) != 1:
        raise InputError("give exactly one of counts_per_cell=, total_counts= and quantile=")
    if total_counts is not None and replace:
        raise InputError("total_counts is drawn without replacement; give counts_per_cell=")
    seed = whole("random_state", random_state, 0)
    with open_source(data) as source:
        output = output_of(source, "downsampled", output_path, output_dir, data_name)
        totals = _molecules(source)
        n_kept = _wanted(source, totals, counts_per_cell, total_counts, quantile, seed)
        parameters = {"n_kept": zlib.crc32(n_kept.data), "replace": replace, "random_state": seed}
        identity = fingerprint("downsampled", source.identity(), parameters)
        if can_reuse(output, identity, force=force):
            return AnnData(output)

        def blocks(first: int) -> Iterator[CompressedBlock]:
            return _drawn(source, n_kept, seed, replace, first)

        n_values = sum(len(block.values) for block in blocks(0))
        form = MatrixForm("csr", source.shape, n_values, source.dtype.newbyteorder("="))
        prepare_output(output, source.paths, form.n_bytes + slot_bytes(source), store=True)
        write_matrix_file(
            output,
            form,
            blocks,
            partial(fill_copy, source=source, uns={}, fingerprint=identity),
            Checkpoint(output, identity, max(1, n_values // STREAM_VALUES), None),
            resume=resume,
        )
    return AnnData(output)


def _molecules(source: MatrixSource) -> np.ndarray:
    """Return the molecules of every cell (n_cells,) int64; all values have been seen to be counts.

    Raises
    ------
    InputError
        A value is no count.
    """
    summary = source.empty_summary()
    for _ in source.native_blocks(summary):
        source.require_counts(summary, "downsample_counts")
    return summary.library_sizes.astype(np.int64)


def _wanted(
    source: MatrixSource,
    totals: np.ndarray,
    counts_per_cell: int | Sequence[int] | None,
    total_counts: int | None,
    quantile: float | None,
    seed: int,
) -> np.ndarray:
    """Return the molecules to keep of every cell (n_cells,) int64."""
    if total_counts is not None:
        wanted = whole("total_counts", total_counts, 0)
        # The whole matrix is one cell, of which every "gene" is a cell; no cell has its place, -1.
        ptr = np.array([0, len(totals)], dtype=np.int64)
        one = CompressedBlock(-1, 0, totals.astype(np.float64), np.empty(0, np.int32), ptr)
        drawn = downsampled_values(one, np.array([wanted]), seed, False, settings.engine)
        return drawn.astype(np.int64)
    if quantile is not None:
        if not 0 <= quantile <= 1:
            raise InputError(f"quantile is {quantile!r}; give a number from 0 to 1")
        return np.full(len(totals), int(np.quantile(totals, quantile)), dtype=np.int64)
    values = np.asarray(counts_per_cell)
    if values.shape not in ((), totals.shape) or values.dtype.kind not in "iuf":
        raise InputError(
            f"counts_per_cell has shape {values.shape}; give one number, or one for each of the "
            f"{len(totals)} cells of {source.where}"
        )
    if not np.isfinite(values).all() or (values < 0).any() or (values != np.floor(values)).any():
        raise InputError(f"counts_per_cell is {counts_per_cell!r}; give whole numbers >= 0")
    return np.ascontiguousarray(np.broadcast_to(values.astype(np.int64), totals.shape))


def _drawn(
    source: MatrixSource, n_kept: np.ndarray, seed: int, replace: bool, first: int
) -> Iterator[CompressedBlock]:
    scratch = scratch_folder(source.n_turned, source.path.parent if source.path else None)
    n_threads = resolve_threads()
    for block in source.row_blocks(start=first, max_values=STREAM_VALUES, scratch_dir=scratch):
        wanted = n_kept[block.start : block.stop]
        values = downsampled_values(block, wanted, seed, replace, settings.engine, n_threads)
        minor, ptr = block.minor.copy(), block.ptr.copy()
        kernel.drop_zeros(values, minor, ptr)
        yield CompressedBlock(block.start, block.stop, values[: ptr[-1]], minor[: ptr[-1]], ptr)
