"""Leading eigenvectors of a symmetric matrix that is known by its products with a few vectors.

Block Lanczos with full reorthogonalization: the basis grows by one block a product, the matrix
projected on it gives Ritz pairs, and the part of the last product outside the basis their residual.
When the basis is full it is replaced by its best Ritz vectors (thick restart).

Source: Golub and Underwood, in Mathematical Software III (1977) 361-377; Wu and Simon, SIAM J.
Matrix Anal. Appl. 22 (2000) 602-616.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

BLOCK = 8
SMALL = 1e-3  # a direction this much smaller than the largest has lost its orthogonality
CHECK_EVERY = 4  # products between two looks at the residual


@dataclass(frozen=True)
class Eigenpairs:
    """Leading eigenpairs.

    Attributes
    ----------
    values : numpy.ndarray (k,) float64
        Largest first.
    vectors : numpy.ndarray (n, k) float64
        Orthonormal columns.
    residual : float
        Largest norm of ``A v - value v`` over the largest eigenvalue.
    converged : bool
        Whether the residual reached the tolerance.
    """

    values: np.ndarray
    vectors: np.ndarray
    residual: float
    converged: bool


def leading_eigenpairs(
    product: Callable[[np.ndarray], np.ndarray],
    n: int,
    k: int,
    *,
    random_state: int,
    tolerance: float,
    max_products: int,
    max_basis: int | None = None,
) -> Eigenpairs:
    """Return the ``k`` leading eigenpairs of a positive semidefinite matrix of ``n`` rows.

    Parameters
    ----------
    product : callable
        Returns A V (n, b) for V (n, b), b at most ``BLOCK``.
    n, k : int
        Size of the matrix; eigenpairs wanted, k <= n.
    random_state : int
        Seed of the first block.
    tolerance : float
        Residual over the largest eigenvalue to stop at.
    max_products : int
        Products to stop after.
    max_basis : int or None
        Vectors of the basis at which it is restarted; None takes 1,024, or 4 k where that is more.
    """
    largest = min(n, max_basis or max(1024, 4 * k))
    generator = np.random.default_rng(random_state)
    basis = np.empty((largest, n))  # rows are the vectors
    held = 0
    block = _outside(basis[:0], generator.standard_normal((n, min(BLOCK, n))))
    projected = np.zeros((0, 0))
    for count in range(1, max_products + 1):
        image = product(block)
        basis[held : held + block.shape[1]] = block.T
        held += block.shape[1]
        inside = basis[:held] @ image
        projected = _bordered(projected, inside)
        block, rest = _next_block(basis[:held], image, inside)
        if block.shape[1] == 0 and held < k:
            # The basis is closed under the matrix, and too small: go on from somewhere else.
            block = _outside(
                basis[:held], generator.standard_normal((n, min(BLOCK, largest - held)))
            )
            continue
        full = held + block.shape[1] > largest
        last = block.shape[1] == 0 or count == max_products
        if not (last or full or count % CHECK_EVERY == 0) or held < k:
            continue
        values, turn = np.linalg.eigh(projected, UPLO="U")
        values, turn = values[::-1], turn[:, ::-1]
        outside = np.linalg.norm(rest @ turn[-rest.shape[1] :, :k], axis=0)
        residual = float(outside.max() / values[0]) if values[0] > 0 else 0.0
        if last or residual <= tolerance:
            vectors, sizes = np.linalg.qr(basis[:held].T @ turn[:, :k])
            return Eigenpairs(
                np.maximum(values[:k], 0),
                vectors * np.sign(np.diag(sizes)),
                residual,
                residual <= tolerance,
            )
        if full:
            kept = min(2 * k, held - BLOCK)
            basis[:kept] = turn[:, :kept].T @ basis[:held]
            held, projected = kept, np.diag(values[:kept])
    raise AssertionError("max_products is at least 1")


def _bordered(projected: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Add the columns (m, b) of the projected matrix; only its upper triangle is used."""
    size = len(columns)
    out = np.zeros((size, size))
    out[: len(projected), : len(projected)] = projected
    out[:, len(projected) :] = columns
    return out


def _next_block(
    basis: np.ndarray, image: np.ndarray, inside: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the next block (n, b), and the part of the image outside the basis in terms of it.

    Directions in which nothing new is left are not taken: within rounding they are noise.
    """
    held, n = basis.shape
    outside = image - basis.T @ inside
    outside -= basis.T @ (basis @ outside)
    vectors, sizes, _ = np.linalg.svd(outside, full_matrices=False)
    floor = np.finfo(float).eps * n * np.linalg.norm(image)
    new = (sizes > floor) & (np.arange(len(sizes)) < n - held)
    block = vectors[:, new]
    if len(block.T) and sizes[new].min() < SMALL * sizes.max():
        block = _outside(basis, block)
    return block, block.T @ outside


def _outside(basis: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return orthonormal vectors that span what ``vectors`` have outside the basis."""
    for _ in range(2):
        vectors = np.linalg.qr(vectors - basis.T @ (basis @ vectors))[0]
    return vectors
