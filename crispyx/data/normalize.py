"""Cells scaled to one total and log-transformed: a block in memory, or a whole file in a stream."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.copies import fill_copy
from crispyx._io.matrix import STREAM_VALUES
from crispyx._io.paths import prepare_output
from crispyx._io.placed import MatrixForm
from crispyx._io.segments import MAX_SEGMENT_MAJOR, scratch_folder
from crispyx._io.source import MatrixSource, MatrixSummary, open_source
from crispyx._io.subset import slot_bytes
from crispyx._jobs.checkpoint import Checkpoint
from crispyx._jobs.matrix_job import write_matrix_file
from crispyx._jobs.outputs import can_reuse
from crispyx._kernels import compressed as kernel
from crispyx._kernels.layout import CompressedBlock
from crispyx._run.fingerprint import fingerprint
from crispyx._run.progress import track
from crispyx._run.threads import resolve_threads
from crispyx._stats.normalize import Scaling, normalize_dense, scaled_values
from crispyx.data.arguments import (
    PathLike,
    output_of,
    positive,
    require_nonnegative,
    whole,
)
from crispyx.data.ondisk import AnnData
from crispyx.errors import CrispyxWarning, InputError
from crispyx.settings import Engine, settings

if TYPE_CHECKING:
    import scipy.sparse as sp

DENSE_VALUES = 4_000_000  # of a block that the reference engine sees: 32 MB
BYTES_PER_OUTPUT = 8  # float32 value and int32 column
SUFFIXES = {(True, True): "normalized_log1p", (True, False): "normalized", (False, True): "log1p"}


class _StoredZeroError(Exception):
    """The matrix stores zeros, so that its number of non-zeros must be counted."""


@dataclass(frozen=True)
class _Work:
    """One run: what is done with the matrix, and how."""

    source: MatrixSource
    output: Path
    scaling: Scaling
    identity: dict[str, Any]
    max_rows: int
    engine: Engine
    show: bool | None
    resume: bool


def normalize_total_block(
    block: np.ndarray | sp.spmatrix,
    *,
    library_size: np.ndarray | None = None,
    target_sum: float = 1e4,
    dtype: Any = np.float64,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Scale each cell of a block to the same total.

    .. math::  x_{ij} = \frac{y_{ij}\, T}{s_i}

    Parameters
    ----------
    block : numpy.ndarray or scipy sparse matrix (n_cells, n_genes)
        Counts.
    library_size : numpy.ndarray (n_cells,) or None
        Totals of the cells; None sums the block, which must then hold all genes.
    target_sum : float
        Total of each cell afterwards.
    dtype : numpy.dtype
        Type of both results; computed in float64.

    Returns
    -------
    tuple of numpy.ndarray
        Normalized counts (n_cells, n_genes), dense, and library sizes (n_cells,). A cell without
        counts stays at 0.

    Raises
    ------
    ValueError
        Negative or non-finite counts, or library sizes of another length or not above 0.

    Notes
    -----
    Reference: ``reference.normalize``.
    """
    target = positive("target_sum", target_sum)
    dense = block.toarray() if hasattr(block, "toarray") else np.asarray(block)
    if dense.ndim != 2:
        raise InputError(f"block has {dense.ndim} dimensions; give cells x genes")
    counts = dense.astype(np.float64)
    bad = np.argwhere(~(np.isfinite(counts) & (counts >= 0)))
    if len(bad):
        row, column = (int(place) for place in bad[0])
        raise InputError(
            f"block holds {counts[row, column]:g} at row {row}, column {column}; counts are finite "
            "and never below 0"
        )
    sizes = None if library_size is None else np.asarray(library_size, dtype=np.float64)
    if sizes is not None and sizes.shape != (len(counts),):
        raise InputError(
            f"library_size has shape {sizes.shape} but the block has {len(counts)} cells"
        )
    normalized, sizes = normalize_dense(counts, sizes, target, settings.engine)
    return normalized.astype(dtype, copy=False), sizes.astype(dtype, copy=False)


def normalize_total_log1p(
    data: Any,
    output_path: PathLike | None = None,
    *,
    normalize: bool = True,
    log1p: bool = True,
    target_sum: float = 1e4,
    chunk_size: int = 4096,
    output_dir: PathLike | None = None,
    data_name: str | None = None,
    verbose: bool = True,
    force: bool = False,
    resume: bool = False,
) -> AnnData:
    r"""Write a copy of a data set with cells scaled to one total, log-transformed, or both.

    .. math::  \ell_{ij} = \ln\left(1 + \frac{y_{ij}\, T}{s_i}\right), \qquad s_i = \sum_j y_{ij}

    The file is streamed: a block of cells is in memory at a time. Values are computed in float64
    and stored as float32 in CSR, the stored zeros left out, so that CSR, CSC and dense inputs give
    the same matrix. Everything beside X is kept as it is: obs, var, obsm, varm, obsp, varp, uns,
    raw and layers; ``uns["log1p"]`` is added as scanpy does.

    Parameters
    ----------
    data : str, pathlib.Path, AnnData or anndata.AnnData
        Counts, on disk or in memory. In memory, ``output_path`` or ``output_dir`` must be given.
    output_path : str or pathlib.Path or None
        Output file; None takes ``crispyx_normalized_log1p.h5ad`` (``normalized``, ``log1p`` for one
        step alone) in ``output_dir``, with ``data_name`` in it.
    normalize : bool
        Scale each cell to ``target_sum``. A cell without counts stays empty.
    log1p : bool
        Take the natural logarithm of 1 + value.
    target_sum : float
        Total count of each cell after scaling.
    chunk_size : int
        Cells of a block at most; changes memory, never a number.
    output_dir : str or pathlib.Path or None
        Folder of the output; None takes that of the input.
    data_name : str or None
        Name of the data set in the output's name.
    verbose : bool
        Print what is done, and show a progress bar.
    force : bool
        Compute again and replace whatever stands under the output's name. Otherwise the same
        computation is reloaded and a file of another origin is an error.
    resume : bool
        Continue an interrupted run from its checkpoint.

    Returns
    -------
    AnnData
        Wrapper of the output.

    Raises
    ------
    ValueError
        Nothing to do; negative, NaN or infinite values (the message names cell and gene); the
        output is the input.
    FileExistsError
        Another input's result, or a file of another origin, stands under the output's name.

    Notes
    -----
    Reference: ``reference.normalize``. The same as :func:`scanpy.pp.normalize_total` followed by
    :func:`scanpy.pp.log1p`, up to the rounding of float32.
    """
    scaling = Scaling(bool(normalize), bool(log1p), positive("target_sum", target_sum))
    if not (scaling.normalize or scaling.log1p):
        raise InputError("normalize and log1p are both False; at least one must be True")
    rows = whole("chunk_size", chunk_size, 1)
    engine = settings.engine
    with open_source(data) as source:
        suffix = SUFFIXES[scaling.normalize, scaling.log1p]
        output = output_of(source, suffix, output_path, output_dir, data_name)
        identity = fingerprint(suffix, source.identity(), {**asdict(scaling), "engine": engine})
        if can_reuse(output, identity, force=force):
            _say(verbose, f"{output} holds this result already")
            return AnnData(output)
        _warn_if_logged(source, scaling)
        if engine == "reference":
            rows = min(rows, max(1, DENSE_VALUES // source.shape[1]))
        n_cells, n_genes = source.shape
        _say(verbose, f"{suffix}: {n_cells:,} cells x {n_genes:,} genes -> {output}")
        show = None if verbose else False
        _run(_Work(source, output, scaling, identity, rows, engine, show, resume))
    _say(verbose, f"written: {output}")
    return AnnData(output)


def _say(verbose: bool, text: str) -> None:
    if verbose:
        print(f"[crispyx] {text}")


def _warn_if_logged(source: MatrixSource, scaling: Scaling) -> None:
    if scaling.log1p and source.slot("uns", "log1p") is not None:
        warnings.warn(
            f"uns['log1p'] says that X of {source.where} is log-transformed already; it is "
            "transformed once more. Give the file with the raw counts",
            CrispyxWarning,
            stacklevel=3,
        )


def _run(work: _Work) -> None:
    summary = work.source.empty_summary()
    if work.source.layout != "csr":
        _write(work, summary, _count(work, summary))
    else:
        try:
            _write(work, summary, work.source.storage.n_stored)
        except _StoredZeroError:
            summary = work.source.empty_summary()
            _write(work, summary, _count(work, summary))
    if work.scaling.normalize and summary.fractional is not None:
        cell, gene, value = summary.fractional
        warnings.warn(
            f"{work.source.where} holds {value:g} at cell {work.source.obs.index[cell]!r}, gene "
            f"{work.source.var.index[gene]!r}: not a count. Values that have been normalized or "
            "log-transformed before should not be normalized again",
            CrispyxWarning,
            stacklevel=4,
        )


def _count(work: _Work, summary: MatrixSummary) -> int:
    """Return the number of non-zeros, and complete the summary."""
    n_values = 0
    for block in work.source.native_blocks(summary):
        require_nonnegative(work.source, summary, "normalization")
        n_values += int(np.count_nonzero(block.values))
    return n_values


def _write(work: _Work, summary: MatrixSummary, n_values: int) -> None:
    source = work.source
    needed = BYTES_PER_OUTPUT * n_values + 8 * source.shape[0] + slot_bytes(source)
    prepare_output(work.output, source.paths, needed, store=True)
    n_blocks = max(source.shape[0] // work.max_rows, source.storage.n_stored // STREAM_VALUES, 1)

    def blocks(first: int) -> Iterator[CompressedBlock]:
        scaled = _scaled(work, summary, first)
        return track(scaled, total=n_blocks, label="normalize", unit="block", show=work.show)

    write_matrix_file(
        work.output,
        MatrixForm("csr", source.shape, n_values, np.dtype(np.float32)),
        blocks,
        partial(
            fill_copy,
            source=source,
            uns={"log1p": {}} if work.scaling.log1p else {},
            fingerprint=work.identity,
        ),
        Checkpoint(work.output, work.identity, n_blocks, None),
        resume=work.resume,
    )


def _scaled(work: _Work, summary: MatrixSummary, first: int) -> Iterator[CompressedBlock]:
    source = work.source
    counted = summary.complete
    scratch = scratch_folder(source.n_turned, work.output.parent)
    n_threads = resolve_threads()
    for block in source.row_blocks(
        None if counted else summary,
        start=first,
        max_values=STREAM_VALUES,
        max_rows=min(work.max_rows, MAX_SEGMENT_MAJOR),
        scratch_dir=scratch,
    ):
        if not counted:
            require_nonnegative(source, summary, "normalization")
        counts = _without_zeros(block, counted)
        values = scaled_values(
            counts,
            summary.library_sizes[block.start : block.stop],
            source.shape[1],
            work.scaling,
            work.engine,
            n_threads,
        )
        yield CompressedBlock(block.start, block.stop, values, counts.minor, counts.ptr)


def _without_zeros(block: CompressedBlock, counted: bool) -> CompressedBlock:
    if kernel.inspect_values(block.values)[3] < 0:
        return block
    if not counted:
        raise _StoredZeroError
    values, minor, ptr = block.values.copy(), block.minor.copy(), block.ptr.copy()
    kernel.drop_zeros(values, minor, ptr)
    return CompressedBlock(block.start, block.stop, values[: ptr[-1]], minor[: ptr[-1]], ptr)
