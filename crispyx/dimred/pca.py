"""Principal component analysis of a matrix that stays on disk."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np

from crispyx._io.row_passes import RowPasses
from crispyx._io.segments import MAX_SEGMENT_MAJOR
from crispyx._io.source import MatrixSource, open_source
from crispyx._jobs.shared_input import executor_for, readers_of
from crispyx._kernels.layout import CompressedBlock
from crispyx._run.budget import working_memory
from crispyx._run.progress import track
from crispyx._run.threads import resolve_threads
from crispyx._stats.pca import (
    STRIPE,
    Components,
    GeneMoments,
    PcaMethod,
    coordinates,
    gene_moments,
    principal_components,
)
from crispyx.data.arguments import whole
from crispyx.dimred.elsewhere import gram_elsewhere
from crispyx.dimred.target import Slots, resolve_target
from crispyx.errors import CrispyxWarning, InputError
from crispyx.settings import Engine, settings

METHODS = ("auto", "sparse_cov", "incremental")
MOST_GENES_OF_COVARIANCE = 2000
TOLERANCE = 1e-5
MAX_PASSES = 500
BLOCK_VALUES = 16_000_000


def pca(
    adata: Any,
    n_comps: int = 50,
    method: str = "auto",
    use_highly_variable: bool = True,
    chunk_size: int | None = None,
    random_state: int = 0,
    copy: bool = False,
    show_progress: bool = True,
    *,
    executor: Any = None,
) -> Any:
    r"""Find the directions of largest variance, and the cells' coordinates in them.

    .. math:: C v_k = \lambda_k v_k, \qquad C = \frac{1}{n - 1} (X - 1 \bar x^T)^T (X - 1 \bar x^T)

    The matrix is centered without touching its zeros and passed over in blocks of rows; it is kept
    in memory between passes where the memory budget allows, and read again otherwise. Neither
    budget, nor threads, nor block size change the result; layouts agree within the tolerance.

    Parameters
    ----------
    adata : path, crispyx.AnnData or anndata.AnnData (backed or in memory)
        Cells x genes, usually log-normalized; results are added to it.
    n_comps : int
        Number of components, below the number of cells and of genes used.
    method : {"auto", "sparse_cov", "incremental"}
        ``sparse_cov`` sums the genes x genes covariance in one pass and takes its eigenvectors;
        ``incremental`` needs genes x components of memory and finds them by block Lanczos, one pass
        for eight more dimensions, until the residual is below 1e-5 of the largest variance.
        ``auto`` takes ``sparse_cov`` for up to 2,000 genes; it does not look at memory, which must
        not change a number.
    use_highly_variable : bool
        Only genes whose ``var["highly_variable"]`` is True, where that column exists.
    chunk_size : int or None
        Cells of a block, rounded up to a multiple of 1,024; speed and memory only.
    random_state : int
        Seed of the first vectors of ``incremental``; it moves results within the tolerance.
    copy : bool
        Leave ``adata`` as it is and return a copy: for a file ``crispyx_pca.h5ad`` beside it.
    show_progress : bool
        Progress on standard error, where that is a terminal.
    executor : {"threads", "processes"}, Executor, dask.distributed.Client or None
        What sums the covariance matrix of ``sparse_cov``, by ranges of its rows, of a matrix stored
        by cells (CSR, dense); None takes ``crispyx.settings.executor``, else the threads of this
        process, which do the other passes, ``incremental`` and CSC matrices in any case.

    Returns
    -------
    AnnData or None
        The copy, or None. Added are ``obsm["X_pca"]`` (n_cells, n_comps) float32, coordinates;
        ``varm["PCs"]`` (n_genes, n_comps) float32, zero for genes not used, the entry of largest
        magnitude of each component positive; ``uns["pca"]``: ``variance``, ``variance_ratio``
        (n_comps,) float64, ``use_highly_variable``, ``method``, ``n_comps``.

    Raises
    ------
    InputError
        Unknown method; ``n_comps`` out of range; no highly variable gene; NaN or infinity in X.

    Warns
    -----
    CrispyxWarning
        The matrix holds counts; the residual stayed above the tolerance for 500 passes.

    Notes
    -----
    Source: Pearson, Philosophical Magazine 2 (1901) 559-572; block Lanczos: Golub and Underwood,
    Mathematical Software III (1977) 361-377. Reference: ``reference.pca``.
    """
    if method not in METHODS:
        raise InputError(f"method is {method!r}; choose one of {METHODS}")
    n_comps = whole("n_comps", n_comps, 1)
    if chunk_size is not None:
        chunk_size = whole("chunk_size", chunk_size, 1)
    executor = executor_for(executor, adata)
    target = resolve_target(adata)
    with open_source(adata) as source:
        genes, restricted = _genes(source, use_highly_variable)
        n_genes = int(np.count_nonzero(genes))
        if n_comps >= min(source.shape[0], n_genes):
            raise InputError(
                f"n_comps is {n_comps}, but {source.where} has {source.shape[0]} cells and "
                f"{n_genes} genes to use; give fewer components than both"
            )
        small = n_genes <= MOST_GENES_OF_COVARIANCE
        chosen: PcaMethod = "sparse_cov" if small else "incremental"
        if method != "auto":
            chosen = method  # type: ignore[assignment]
        rows_per_block = _rows_per_block(source, chunk_size)
        passes = RowPasses(
            source, genes, rows_per_block=rows_per_block, budget=working_memory() // 2
        )
        alone = chosen != "sparse_cov" or source.layout == "csc" or settings.engine == "reference"
        show = None if show_progress else False
        try:
            with readers_of(
                source,
                adata,
                None,
                None if alone else executor,
                output=None,
                label="pca",
                show=show,
            ) as readers:
                gram = None
                if readers is not None:
                    gram = partial(gram_elsewhere, readers, genes, rows_per_block)
                found, table = _compute(passes, n_comps, chosen, random_state, show, gram)
        finally:
            passes.close()
    loadings = np.zeros((len(genes), n_comps), dtype=np.float32)
    loadings[genes] = found.components
    slots: Slots = {
        "obsm": {"X_pca": table},
        "varm": {"PCs": loadings},
        "uns": {
            "pca": {
                "variance": found.variance,
                "variance_ratio": found.variance_ratio,
                "use_highly_variable": restricted,
                "method": chosen,
                "n_comps": n_comps,
            }
        },
    }
    if copy:
        parameters = {"n_comps": n_comps, "method": chosen, "use_highly_variable": restricted}
        return target.added_to_copy(slots, "pca", parameters | {"random_state": random_state})
    return target.add(slots)


def _genes(source: MatrixSource, use_highly_variable: bool) -> tuple[np.ndarray, bool]:
    """Return which genes are used (n_genes,) bool, and whether that is a selection."""
    every = np.ones(source.shape[1], dtype=bool)
    if not use_highly_variable or "highly_variable" not in source.var.columns:
        return every, False
    chosen = np.asarray(source.var.column("highly_variable")).astype(bool)
    if not chosen.any():
        raise InputError(
            f"no gene of {source.where} is highly variable; mark some in var['highly_variable'], "
            "or give use_highly_variable=False"
        )
    return chosen, True


def _rows_per_block(source: MatrixSource, chunk_size: int | None) -> int:
    if chunk_size is None:
        chunk_size = BLOCK_VALUES * source.shape[0] // max(1, source.storage.n_stored)
    return max(1, -(-min(chunk_size, MAX_SEGMENT_MAJOR) // STRIPE)) * STRIPE


def _compute(
    passes: RowPasses,
    n_comps: int,
    method: PcaMethod,
    random_state: int,
    show: bool | None,
    gram: Callable[[], np.ndarray] | None,
) -> tuple[Components, np.ndarray]:
    n_threads = resolve_threads()
    engine = settings.engine
    with closing(track(itertools.count(), total=None, label="pca", unit="pass", show=show)) as bar:

        def rows() -> Iterator[CompressedBlock]:
            next(bar)
            return passes()

        moments = gene_moments(rows(), passes.shape)
        _warn_about_counts(passes)
        found = principal_components(
            rows,
            moments,
            n_comps,
            method,
            engine,
            n_threads,
            random_state=random_state,
            tolerance=TOLERANCE,
            max_passes=MAX_PASSES,
            gram=gram,
        )
        if not found.converged:
            warnings.warn(
                f"the principal components of {passes.source.where} have a residual of "
                f"{found.residual:.1e} of the largest variance after {MAX_PASSES} passes, above "
                f"{TOLERANCE:.0e}; the last ones are approximate",
                CrispyxWarning,
                stacklevel=4,
            )
        return found, _coordinates(rows(), moments, found, engine, n_threads)


def _coordinates(
    rows: Iterator[CompressedBlock],
    moments: GeneMoments,
    found: Components,
    engine: Engine,
    n_threads: int,
) -> np.ndarray:
    table = np.empty((moments.n_cells, found.components.shape[1]), dtype=np.float32)
    at = 0
    for part in coordinates(rows, moments, found.components, engine, n_threads):
        table[at : at + len(part)] = part
        at += len(part)
    return table


def _warn_about_counts(passes: RowPasses) -> None:
    if passes.summary.looks_like_counts:
        warnings.warn(
            f"{passes.source.where} holds counts: the components follow the library sizes of the "
            "cells and a few abundant genes; normalize first (cx.pp.normalize_total_log1p)",
            CrispyxWarning,
            stacklevel=4,
        )
