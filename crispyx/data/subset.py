"""The documented door to subsets of a file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from crispyx._io.chunk_cache import BlockBounds, ChunkCache
from crispyx._io.placed import MatrixForm
from crispyx._io.source import MatrixSource, open_source
from crispyx._io.subset import Subset
from crispyx._jobs.outputs import can_reuse
from crispyx._jobs.subset_job import write_subset
from crispyx._kernels.layout import CompressedBlock
from crispyx._run.fingerprint import fingerprint
from crispyx.data.arguments import PathLike, mask_of, output_of, whole
from crispyx.errors import InputError


def write_filtered_subset(
    source_path: PathLike,
    *,
    cell_mask: np.ndarray,
    gene_mask: np.ndarray,
    output_path: PathLike,
    chunk_size: int = 4096,
    var_assignments: Mapping[str, Sequence[Any]] | None = None,
    row_nnz: np.ndarray | None = None,
    total_nnz: int | None = None,
    data_dtype: Any = None,
    chunk_cache: Any = None,
    force: bool = False,
) -> None:
    """Write the kept cells and genes of a file to another one, block by block.

    X keeps layout, type and values; stored zeros are left out. All other slots are kept: obs, var,
    layers, obsm, varm, obsp, varp and raw cut to the kept cells and genes, uns copied. Categories
    without a cell or gene left are removed.

    Parameters
    ----------
    source_path : str or pathlib.Path
        The .h5ad file.
    cell_mask : numpy.ndarray (n_cells,) bool
        Cells to keep.
    gene_mask : numpy.ndarray (n_genes,) bool
        Genes to keep.
    output_path : str or pathlib.Path
        Output file.
    chunk_size : int
        Cells of a block of X at most (genes of a CSC matrix).
    var_assignments : mapping of str to sequence (n_kept_genes,) or None
        Columns that var of the output gains, or gets instead of its own.
    row_nnz : numpy.ndarray (n_kept_cells,) int or None
        Non-zeros of each kept cell among the kept genes. With ``total_nnz`` and ``data_dtype`` it
        replaces the pass that counts them; numbers that turn out wrong are an error.
    total_nnz : int or None
        Sum of ``row_nnz``.
    data_dtype : numpy.dtype or None
        Type of X in the output; must hold every value of X exactly. None keeps the type of X.
    chunk_cache : object or None
        Cache of the blocks of X, as quality control fills it; they are taken from there.
    force : bool
        Replace whatever stands under the output's name. Otherwise the same subset is left alone and
        a file of another origin is an error.

    Raises
    ------
    ValueError
        A mask or column of another length, nothing kept, wrong numbers of non-zeros, a type that
        cannot hold the values, or an output that is the input.
    FileExistsError
        Another input's result, or a file of another origin, stands under the output's name.
    """
    rows = whole("chunk_size", chunk_size, 1)
    with open_source(source_path) as source:
        where = str(source.path or source.where)
        cells = mask_of("cell_mask", cell_mask, source.shape[0], "cells", where)
        genes = mask_of("gene_mask", gene_mask, source.shape[1], "genes", where)
        columns = _columns(var_assignments or {}, int(genes.sum()))
        subset = Subset(cells, genes, columns)
        if 0 in subset.shape:
            raise InputError(
                f"the masks keep {subset.shape[0]} cells and {subset.shape[1]} genes of {where}; "
                "at least one of each must be kept"
            )
        output = output_of(source, "filtered", output_path, None, None)
        dtype = source.dtype if data_dtype is None else np.dtype(data_dtype)
        identity = fingerprint("filtered_subset", source.identity(), _parameters(subset, dtype))
        if can_reuse(output, identity, force=force):
            return
        cache = _cache(source, chunk_cache, rows)
        known = _known_nonzeros(row_nnz, total_nnz, data_dtype, subset)
        if known is not None:
            n_values = known
        elif source.layout == "dense":
            n_values = 0  # written in full
        else:
            n_values = subset.count(cache.blocks(), source.layout, drop_zeros=True)

        def blocks(use_major: np.ndarray) -> Iterator[CompressedBlock]:
            checked = _exact(cache.blocks(use_major), source, dtype)
            if known is None or source.layout == "csc":
                return checked
            return _agreeing(checked, np.asarray(row_nnz), subset, source)

        form = MatrixForm(source.layout, subset.shape, n_values, dtype)
        write_subset(source, subset, form, blocks, output, identity)


def _columns(assignments: Mapping[str, Sequence[Any]], n_genes: int) -> dict[str, np.ndarray]:
    columns = {}
    for name, values in assignments.items():
        columns[name] = np.asarray(values)
        if columns[name].shape != (n_genes,):
            raise InputError(
                f"var_assignments[{name!r}] has shape {columns[name].shape} but {n_genes} genes "
                "are kept; give one value for each kept gene"
            )
    return columns


def _parameters(subset: Subset, dtype: np.dtype) -> dict[str, Any]:
    parts = {"cells": np.packbits(subset.cells), "genes": np.packbits(subset.genes)}
    columns = {name: values.tolist() for name, values in subset.var_columns.items()}
    return {
        **{name: hashlib.sha256(part.tobytes()).hexdigest() for name, part in parts.items()},
        "var_columns": hashlib.sha256(repr(columns).encode()).hexdigest(),
        "dtype": str(dtype),
    }


def _cache(source: MatrixSource, given: Any, rows: int) -> ChunkCache:
    if given is None:
        return ChunkCache(source, bounds=BlockBounds(max_major=rows))
    if not isinstance(given, ChunkCache) or given.source.identity() != source.identity():
        raise InputError(
            f"chunk_cache does not hold the blocks of {source.where}; leave it out to read the file"
        )
    return given


def _known_nonzeros(
    row_nnz: Any, total_nnz: int | None, data_dtype: Any, subset: Subset
) -> int | None:
    """Return the number of non-zeros when all that replaces counting is given, else None."""
    if row_nnz is None or total_nnz is None or data_dtype is None:
        return None
    counts = np.asarray(row_nnz)
    n_cells = subset.shape[0]
    if counts.shape != (n_cells,):
        raise InputError(
            f"row_nnz has shape {counts.shape} but {n_cells} cells are kept; give the non-zeros of "
            "each kept cell among the kept genes"
        )
    if counts.dtype.kind not in "iu" or (counts < 0).any() or int(counts.sum()) != total_nnz:
        raise InputError(
            f"row_nnz sums to {counts.sum()} and total_nnz is {total_nnz}; give whole numbers >= 0 "
            "and their sum"
        )
    return int(total_nnz)


def _exact(
    blocks: Iterator[CompressedBlock], source: MatrixSource, dtype: np.dtype
) -> Iterator[CompressedBlock]:
    for block in blocks:
        if dtype != source.dtype:
            with np.errstate(invalid="ignore", over="ignore"):
                same = block.values.astype(dtype).astype(block.values.dtype) == block.values
            if not same.all():
                value = block.values[int(np.argmin(same))]
                raise InputError(
                    f"data_dtype {dtype} cannot hold {value:g} of {source.where}; leave it out to "
                    f"keep {source.dtype}"
                )
        yield block


def _agreeing(
    blocks: Iterator[CompressedBlock], row_nnz: np.ndarray, subset: Subset, source: MatrixSource
) -> Iterator[CompressedBlock]:
    """Pass the blocks on, comparing the given numbers of non-zeros with those of the kept rows."""
    at = 0
    for block in blocks:
        for part in subset.select([block], source.layout, drop_zeros=True):
            n_rows = part.n_major
            wrong = np.flatnonzero(np.diff(part.ptr) != row_nnz[at : at + n_rows])
            if wrong.size:
                row = int(wrong[0])
                raise InputError(
                    f"row_nnz says {row_nnz[at + row]} at kept cell {at + row}, which has "
                    f"{part.ptr[row + 1] - part.ptr[row]} non-zeros in {source.where}; leave "
                    "row_nnz out to have them counted"
                )
            at += n_rows
        yield block
