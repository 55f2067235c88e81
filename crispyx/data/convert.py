"""Copies of a data set with X stored by columns or by rows."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Literal

from crispyx._io.copies import fill_copy
from crispyx._io.segments import MAX_SEGMENT_MAJOR
from crispyx._io.source import MatrixSource, open_source
from crispyx._io.zarr_stores import is_store_name, is_zarr_store
from crispyx._jobs.outputs import can_reuse
from crispyx._jobs.rearranged_job import write_rearranged
from crispyx._run.fingerprint import fingerprint
from crispyx.data.arguments import PathLike, output_of, whole
from crispyx.data.ondisk import AnnData


def convert_to_csc(
    data: Any,
    *,
    output_path: PathLike | None = None,
    chunk_size: int | None = None,
    output_dir: PathLike | None = None,
    data_name: str | None = None,
    verbose: bool = True,
    memory_limit_gb: float | None = None,
    force: bool = False,
    resume: bool = False,
) -> AnnData:
    """Write a copy of a data set with X stored by columns (CSC), which blocks of genes want.

    The matrix is streamed twice: once to count the values of each gene, once to put them into
    place. When the output does not fit into the memory budget, the second pass is repeated for one
    range of genes after the other. Values, their type and stored zeros are kept; of a dense matrix
    the non-zeros are. All other slots are copied. A file that is CSC already is returned as it is.

    Parameters
    ----------
    data : str, pathlib.Path, AnnData or anndata.AnnData
        CSR or dense, on disk or in memory. In memory, ``output_path`` or ``output_dir`` must be
        given.
    output_path : str or pathlib.Path or None
        Output file; None takes ``crispyx_csc.h5ad`` in ``output_dir``, with ``data_name`` in it.
    chunk_size : int or None
        Cells read at a time, at most; None lets the memory budget decide.
    output_dir : str or pathlib.Path or None
        Folder of the output; None takes that of the input.
    data_name : str or None
        Name of the data set in the output's name.
    verbose : bool
        Print what is done, and show a progress bar.
    memory_limit_gb : float or None
        Memory of the whole process in GB (1e9 bytes); None takes ``settings.memory_limit_gb``, else
        half of what is free.
    force : bool
        Convert again and replace whatever stands under the output's name. Otherwise the same
        conversion is reloaded and a file of another origin is an error.
    resume : bool
        Continue an interrupted run from its checkpoint.

    Returns
    -------
    AnnData
        Wrapper of the output, or of the input when it is CSC already.

    Raises
    ------
    ValueError
        A damaged matrix, or one that has two values in one place; the output is the input.
    FileExistsError
        Another input's result, or a file of another origin, stands under the output's name.
    MemoryBudgetError
        The longest column alone does not fit into the budget.
    """
    names = (output_path, output_dir, data_name)
    return _convert("csc", data, names, chunk_size, verbose, memory_limit_gb, force, resume)


def convert_to_csr(
    data: Any,
    *,
    output_path: PathLike | None = None,
    chunk_size: int | None = None,
    output_dir: PathLike | None = None,
    data_name: str | None = None,
    verbose: bool = True,
    memory_limit_gb: float | None = None,
    force: bool = False,
    resume: bool = False,
) -> AnnData:
    """Write a copy of a data set with X stored by rows (CSR), which blocks of cells want.

    The mirror image of :func:`convert_to_csc`, where the parameters are described.

    Parameters
    ----------
    data : str, pathlib.Path, AnnData or anndata.AnnData
        CSC or dense, on disk or in memory.
    output_path : str or pathlib.Path or None
        Output file; None takes ``crispyx_csr.h5ad`` in ``output_dir``, with ``data_name`` in it.
    chunk_size : int or None
        Vectors of the stored axis (genes of a CSC matrix) read at a time, at most; None lets the
        memory budget decide.
    output_dir, data_name, verbose, memory_limit_gb, force, resume
        As in :func:`convert_to_csc`.

    Returns
    -------
    AnnData
        Wrapper of the output, or of the input when it is CSR already.

    Raises
    ------
    ValueError, FileExistsError, MemoryBudgetError
        As in :func:`convert_to_csc`.
    """
    names = (output_path, output_dir, data_name)
    return _convert("csr", data, names, chunk_size, verbose, memory_limit_gb, force, resume)


def _convert(
    layout: Literal["csr", "csc"],
    data: Any,
    names: tuple[PathLike | None, PathLike | None, str | None],
    chunk_size: int | None,
    verbose: bool,
    memory_limit_gb: float | None,
    force: bool,
    resume: bool,
) -> AnnData:
    rows = MAX_SEGMENT_MAJOR if chunk_size is None else whole("chunk_size", chunk_size, 1)
    with open_source(data) as source:
        if source.layout == layout and source.path is not None and _same_container(source, names):
            _say(verbose, f"{source.path} is stored as {layout.upper()} already")
            return AnnData(source.path)
        output = output_of(source, layout, *names)
        identity = fingerprint(layout, source.identity(), {})
        if can_reuse(output, identity, force=force):
            _say(verbose, f"{output} holds this result already")
            return AnnData(output)
        n_cells, n_genes = source.shape
        _say(verbose, f"{layout}: {n_cells:,} cells x {n_genes:,} genes -> {output}")
        write_rearranged(
            source,
            output,
            layout,
            partial(fill_copy, source=source, uns={}, fingerprint=identity),
            identity,
            max_major=rows,
            memory_limit_gb=memory_limit_gb,
            show=None if verbose else False,
            resume=resume,
        )
    _say(verbose, f"written: {output}")
    return AnnData(output)


def _same_container(
    source: MatrixSource, names: tuple[PathLike | None, PathLike | None, str | None]
) -> bool:
    """Tell whether input and output are both zarr stores, or neither is."""
    assert source.path is not None  # asked of files only
    wanted = names[0] is not None and is_store_name(Path(names[0]))
    return is_zarr_store(source.path) == wanted


def _say(verbose: bool, text: str) -> None:
    if verbose:
        print(f"[crispyx] {text}")
