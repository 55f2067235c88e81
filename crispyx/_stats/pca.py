"""Principal components of a sparse matrix that is centered without touching its zeros.

Reference: ``reference.pca``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

import reference.pca as reference
from crispyx._kernels import projection as kernel
from crispyx._kernels.lanczos import Eigenpairs, leading_eigenpairs
from crispyx._kernels.layout import CompressedBlock
from crispyx._run.threads import one_blas_thread
from crispyx.settings import Engine

PcaMethod = Literal["sparse_cov", "incremental"]
STRIPE: int = kernel.STRIPE
SLOTS = 4  # stripes of a thread between two times that all threads meet
Rows = Callable[[], Iterable[CompressedBlock]]


@dataclass(frozen=True)
class GeneMoments:
    """Sums over all cells.

    Attributes
    ----------
    n_cells : int
        Number of cells.
    mean : numpy.ndarray (n_genes,) float64
        Mean of each gene.
    total_variance : float
        Sum of the variances of all genes, n - 1 in the denominator.
    """

    n_cells: int
    mean: np.ndarray
    total_variance: float


@dataclass(frozen=True)
class Components:
    """Leading principal components; see :class:`reference.pca.PrincipalComponents`.

    Attributes
    ----------
    components : numpy.ndarray (n_genes, n_components) float64
        Orthonormal columns with the signs of the reference.
    variance, variance_ratio : numpy.ndarray (n_components,) float64
        Idem.
    residual : float
        Largest norm of ``C v - variance v`` over the largest variance, C the covariance.
    converged : bool
        Whether the residual reached the tolerance.
    """

    components: np.ndarray
    variance: np.ndarray
    variance_ratio: np.ndarray
    residual: float
    converged: bool


def gene_moments(rows: Iterable[CompressedBlock], shape: tuple[int, int]) -> GeneMoments:
    """Return the moments of a matrix (n_cells, n_genes) from one pass over its rows."""
    n_cells, n_genes = shape
    sums, squares = np.zeros((2, n_genes))
    for block in rows:
        kernel.add_column_moments(block.values, block.minor, sums, squares)
    mean = sums / n_cells
    variance = (squares - n_cells * mean**2) / (n_cells - 1)
    return GeneMoments(n_cells, mean, float(np.maximum(variance, 0).sum()))


def principal_components(
    rows: Rows,
    moments: GeneMoments,
    n_components: int,
    method: PcaMethod,
    engine: Engine,
    n_threads: int,
    *,
    random_state: int,
    tolerance: float,
    max_passes: int,
    gram: Callable[[], np.ndarray] | None = None,
) -> Components:
    """Return the leading principal components.

    Parameters
    ----------
    rows : callable
        Starts a pass over the blocks of rows; each block starts at a multiple of ``STRIPE``.
    moments : GeneMoments
        Of the same rows.
    n_components : int
        How many, below both sides of the matrix.
    method : {"sparse_cov", "incremental"}
        The covariance matrix in one pass and its eigenvectors, or block Lanczos with one pass for
        eight more dimensions.
    engine : {"compiled", "reference"}
        Which definition runs; the reference holds the matrix dense and has one method.
    n_threads : int
        Threads of the kernels.
    random_state : int
        Seed of the first block of Lanczos vectors.
    tolerance : float
        Residual over the largest variance at which Lanczos stops.
    max_passes : int
        Passes after which Lanczos stops all the same.
    gram : callable or None
        Returns all of :func:`gram_rows`; None sums them up here.
    """
    if engine == "reference":
        found = reference.pca(_dense(rows(), moments), n_components)
        return Components(found.components, found.variance, found.variance_ratio, 0.0, True)
    with one_blas_thread():
        if method == "sparse_cov":
            n_genes = len(moments.mean)
            product = gram() if gram else gram_rows(rows(), n_genes, 0, n_genes, n_threads)
            pairs = _from_covariance(product, moments, n_components)
        else:
            pairs = leading_eigenpairs(
                lambda vectors: covariance_product(rows(), moments, vectors, n_threads),
                len(moments.mean),
                n_components,
                random_state=random_state,
                tolerance=tolerance,
                max_products=max_passes,
            )
    total = moments.total_variance
    ratio = pairs.values / total if total > 0 else np.zeros_like(pairs.values)
    return Components(
        reference.with_signs(pairs.vectors), pairs.values, ratio, pairs.residual, pairs.converged
    )


def covariance_product(
    rows: Iterable[CompressedBlock], moments: GeneMoments, vectors: np.ndarray, n_threads: int
) -> np.ndarray:
    """Return C V (n_genes, k) for at most eight vectors (n_genes, k), C the covariance."""
    n_genes, k = vectors.shape
    padded = np.zeros((n_genes, kernel.BLOCK_WIDTH))
    padded[:, :k] = vectors
    out = np.zeros_like(padded)
    scratch = np.empty((SLOTS * n_threads, n_genes, kernel.BLOCK_WIDTH))
    shift = moments.mean @ padded
    for block in rows:
        kernel.add_gram_products(
            block.values, block.minor, block.ptr, padded, shift, scratch, out, n_threads
        )
    return out[:, :k] / (moments.n_cells - 1)


def coordinates(
    rows: Iterable[CompressedBlock],
    moments: GeneMoments,
    components: np.ndarray,
    engine: Engine,
    n_threads: int,
) -> Iterator[np.ndarray]:
    """Yield the centered rows of each block in the components (n_rows, n_components) float64."""
    if engine == "reference":
        dense = _dense(rows, moments)
        yield (dense - dense.mean(axis=0)) @ components
        return
    n_genes, n_components = components.shape
    width = kernel.BLOCK_WIDTH
    padded = np.zeros((n_genes, -(-n_components // width) * width))
    padded[:, :n_components] = components
    parts = [np.ascontiguousarray(part) for part in np.split(padded, padded.shape[1] // width, 1)]
    shifts = [moments.mean @ part for part in parts]
    for block in rows:
        out = np.empty((len(parts), block.n_major, width))
        for part, shift, columns in zip(parts, shifts, out, strict=True):
            kernel.row_products(
                block.values, block.minor, block.ptr, part, shift, columns, n_threads
            )
        yield np.concatenate(list(out), axis=1)[:, :n_components]


def gram_rows(
    rows: Iterable[CompressedBlock], n_genes: int, start: int, stop: int, n_threads: int
) -> np.ndarray:
    """Return rows ``start`` to ``stop`` of X^T X (stop - start, n_genes), the upper triangle.

    Every entry is summed over the cells in their order, whichever rows are asked for.
    """
    gram = np.zeros((stop - start, n_genes))
    for block in rows:
        kernel.add_gram(block.values, block.minor, block.ptr, start, gram, n_threads)
    return gram


def _from_covariance(gram: np.ndarray, moments: GeneMoments, n_components: int) -> Eigenpairs:
    import scipy.linalg

    n_genes = len(moments.mean)
    covariance = gram - moments.n_cells * np.outer(moments.mean, moments.mean)
    covariance /= moments.n_cells - 1
    values, vectors = scipy.linalg.eigh(
        covariance, lower=False, subset_by_index=(n_genes - n_components, n_genes - 1)
    )
    return Eigenpairs(np.maximum(values[::-1], 0), vectors[:, ::-1], 0.0, True)


def _dense(rows: Iterable[CompressedBlock], moments: GeneMoments) -> np.ndarray:
    values = np.zeros((moments.n_cells, len(moments.mean)))
    for block in rows:
        row = np.repeat(np.arange(block.start, block.stop), np.diff(block.ptr))
        values[row, block.minor] = block.values
    return values
