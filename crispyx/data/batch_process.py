"""A function of one's own over the blocks of a matrix, its answers merged in order."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from crispyx._io.compressed import joined
from crispyx._io.segments import MAX_SEGMENT_MAJOR
from crispyx._io.source import MatrixSource, open_source
from crispyx._kernels.layout import CompressedBlock
from crispyx._run.budget import working_memory
from crispyx._run.prefetch import prefetch
from crispyx._run.progress import track
from crispyx._run.threads import resolve_threads
from crispyx._run.workers import in_parallel
from crispyx.data.arguments import whole
from crispyx.errors import InputTypeError
from crispyx.settings import settings

if TYPE_CHECKING:
    import pandas as pd
    import scipy.sparse as sp

T = TypeVar("T")
R = TypeVar("R")
BYTES_PER_TURNED = 10  # at most: value (8) and offset (2) of one non-zero


@dataclass(frozen=True)
class CellBlock:
    """Some consecutive cells.

    Attributes
    ----------
    start, stop : int
        First cell and one past the last.
    X : scipy.sparse.csr_matrix (stop - start, n_genes)
        Their values, float32 or float64.
    obs : pandas.DataFrame (stop - start, n_columns)
        Their rows of obs.
    genes : numpy.ndarray (n_genes,) str
        Names of the columns.
    """

    start: int
    stop: int
    X: sp.csr_matrix
    obs: pd.DataFrame
    genes: np.ndarray


def batch_process(
    data: Any,
    function: Callable[[CellBlock], T],
    merge: Callable[[T, T], T],
    *,
    finish: Callable[[T], R] | None = None,
    layer: str | None = None,
    chunk_size: int = 4096,
    n_jobs: int | None = None,
    show_progress: bool = True,
) -> Any:
    """Apply a function to blocks of cells and merge what it returns, in the order of the blocks.

    Blocks are cut at multiples of ``chunk_size``, whatever the layout, the files, the threads or
    the memory: a function that always gives the same answer for the same block always gives the
    same answer for the data set.

    Parameters
    ----------
    data : path, crispyx.AnnData or anndata.AnnData, list of paths
        Cells x genes.
    function : callable (CellBlock) -> partial answer
        Called once for each block, from several threads at a time; must not change anything shared.
    merge : callable (earlier, later) -> partial answer
        Joins the answer of all blocks so far with that of the next one.
    finish : callable or None
        Makes the result of the merged answer.
    layer : str or None
        Layer to use instead of X.
    chunk_size : int
        Cells of every block but the last, at most 65,536. It decides which sums are made first, and
        so the last bits of sums of fractions.
    n_jobs : int or None
        Blocks worked on at a time; None takes ``crispyx.settings.n_threads``, else all cores. That
        many blocks are in memory.
    show_progress : bool
        Progress on standard error, where that is a terminal.

    Returns
    -------
    any
        The merged answer, or what ``finish`` makes of it.

    Raises
    ------
    InputError
        NaN, infinity or a damaged structure; the message names the place.

    Examples
    --------
    Means of the genes: sums can be merged, means cannot.

    >>> import anndata, numpy as np, crispyx as cx
    >>> counts = np.random.default_rng(0).poisson(2.0, (500, 4)).astype(np.float32)
    >>> adata = anndata.AnnData(counts)
    >>> def sums(block):
    ...     return block.stop - block.start, np.asarray(block.X.sum(axis=0)).ravel()
    >>> def add(a, b):
    ...     return a[0] + b[0], a[1] + b[1]
    >>> means = cx.tl.batch_process(
    ...     adata, sums, add, finish=lambda total: total[1] / total[0], chunk_size=100
    ... )
    >>> bool(np.allclose(means, counts.mean(axis=0)))
    True

    The two genes with the largest sums.

    >>> top = cx.tl.batch_process(
    ...     adata, sums, add, finish=lambda total: np.argsort(-total[1], kind="stable")[:2]
    ... )
    >>> top.tolist() == np.argsort(-counts.sum(axis=0), kind="stable")[:2].tolist()
    True

    Correlations of the genes: of sums, and sums of products.

    >>> def products(block):
    ...     return *sums(block), (block.X.T @ block.X).toarray()
    >>> def add_all(a, b):
    ...     return tuple(x + y for x, y in zip(a, b))
    >>> def correlation(total):
    ...     n, x, xx = total
    ...     covariance = xx / n - np.outer(x, x) / n**2
    ...     sd = np.sqrt(np.diag(covariance))
    ...     return covariance / np.outer(sd, sd)
    >>> found = cx.tl.batch_process(adata, products, add_all, finish=correlation)
    >>> bool(np.allclose(found, np.corrcoef(counts.T), atol=1e-5))
    True
    """
    for name, given in (("function", function), ("merge", merge)):
        if not callable(given):
            raise InputTypeError(f"{name} is {given!r}; give a function")
    step = min(whole("chunk_size", chunk_size, 1), MAX_SEGMENT_MAJOR)
    n_threads = resolve_threads(n_jobs)
    answer: Any = None
    with open_source(data, layer) as source:
        obs, genes = source.table("obs"), source.var.index
        n_blocks = -(-source.shape[0] // step)
        show = None if show_progress else False
        with closing(prefetch(_cut(source, step))) as blocks:
            cells = (_as_cells(block, obs, genes) for block in blocks)
            shown = track(cells, total=n_blocks, label="blocks", unit="block", show=show)
            first = True
            while batch := list(itertools.islice(shown, n_threads)):
                for partial in in_parallel(function, batch, n_jobs):
                    answer = partial if first else merge(answer, partial)
                    first = False
    return answer if finish is None else finish(answer)


def _cut(source: MatrixSource, step: int) -> Iterator[CompressedBlock]:
    """Yield blocks of ``step`` cells each, but for the last."""
    turned = BYTES_PER_TURNED * source.storage.n_stored if source.layout == "csc" else 0
    scratch = None
    if turned > working_memory() // 2:
        scratch = settings.scratch_dir or (source.path.parent if source.path else None)
    held: list[CompressedBlock] = []
    for block in source.row_blocks(max_rows=step, scratch_dir=scratch):
        held.append(block)
        while held and held[-1].stop - held[0].start >= step:
            whole_block = joined(held)
            yield _rows(whole_block, whole_block.start, whole_block.start + step)
            rest = _rows(whole_block, whole_block.start + step, whole_block.stop)
            held = [rest] if rest.n_major else []
    if held:
        yield joined(held)


def _rows(block: CompressedBlock, start: int, stop: int) -> CompressedBlock:
    ptr = block.ptr[start - block.start : stop - block.start + 1]
    span = slice(int(ptr[0]), int(ptr[-1]))
    return CompressedBlock(start, stop, block.values[span], block.minor[span], ptr - ptr[0])


def _as_cells(block: CompressedBlock, obs: pd.DataFrame, genes: np.ndarray) -> CellBlock:
    import scipy.sparse as sp

    matrix = sp.csr_matrix(
        (block.values, block.minor, block.ptr), shape=(block.n_major, len(genes))
    )
    return CellBlock(block.start, block.stop, matrix, obs.iloc[block.start : block.stop], genes)
