"""Compiled principal components against the reference, and block Lanczos against LAPACK."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import sparse_parts

import crispyx._stats.pca as engine
from crispyx._kernels.lanczos import leading_eigenpairs
from crispyx._kernels.layout import CompressedBlock

Rows = Callable[[], Iterator[CompressedBlock]]


def rows_of(values: np.ndarray, step: int, dtype: str = "f8") -> Rows:
    def rows() -> Iterator[CompressedBlock]:
        for start in range(0, len(values), step):
            part = values[start : start + step]
            data, indices, indptr = sparse_parts(part, "csr")
            yield CompressedBlock(
                start,
                start + len(part),
                data.astype(dtype),
                indices.astype(np.int32),
                indptr.astype(np.int64),
            )

    return rows


def screen(n_cells: int, n_genes: int, seed: int = 0) -> np.ndarray:
    """Return sparse values with a few strong directions."""
    rng = np.random.default_rng(seed)
    strength = np.exp(rng.normal(size=(n_cells, 4)) @ rng.normal(size=(4, n_genes)) * 0.7)
    return np.log1p(rng.poisson(strength * rng.gamma(0.5, 1.0, n_genes))).astype(np.float32)


def compute(
    values: np.ndarray,
    n_components: int,
    method: str = "incremental",
    name: str = "compiled",
    *,
    step: int = engine.STRIPE,
    n_threads: int = 1,
    seed: int = 0,
    tolerance: float = 1e-12,
) -> tuple[engine.Components, np.ndarray]:
    rows = rows_of(values, step, "f4")
    moments = engine.gene_moments(rows(), values.shape)
    found = engine.principal_components(
        rows,
        moments,
        n_components,
        method,
        name,
        n_threads,
        random_state=seed,
        tolerance=tolerance,
        max_passes=500,
    )
    parts = engine.coordinates(rows(), moments, found.components, name, n_threads)
    return found, np.concatenate(list(parts))


@pytest.mark.parametrize("method", ["sparse_cov", "incremental"])
@pytest.mark.parametrize(("n_cells", "n_genes", "k"), [(1300, 60, 5), (300, 90, 20), (40, 80, 9)])
def test_components_agree_with_the_reference(method, n_cells, n_genes, k) -> None:
    values = screen(n_cells, n_genes)
    found, table = compute(values, k, method)
    expected, reference_table = compute(values, k, name="reference")
    # Sums of squares lose about 1e-13 of the largest variance to the means taken out of them.
    scale = expected.variance[0]
    np.testing.assert_allclose(found.variance, expected.variance, rtol=0, atol=1e-12 * scale)
    np.testing.assert_allclose(found.variance_ratio, expected.variance_ratio, atol=1e-12)
    # Perturbation theory: an eigenvector turns by the error over the gap to the next eigenvalue.
    full = np.linalg.eigvalsh(np.cov(values.T.astype(float)))[::-1]
    gap = np.abs(np.subtract.outer(full[:k], full) + np.diag(np.full(len(full), np.inf))[:k])
    turn = 1e-10 * scale / gap.min(axis=1)
    difference = np.linalg.norm(found.components - expected.components, axis=0)
    assert np.all(difference <= turn)
    assert np.all(np.abs(table - reference_table).max(axis=0) <= turn * np.abs(values).max() * 100)


@pytest.mark.parametrize("method", ["sparse_cov", "incremental"])
def test_threads_and_block_sizes_change_no_bit(method) -> None:
    values = screen(2 * engine.STRIPE + 77, 50)
    expected, table = compute(values, 6, method)
    for n_threads, stripes in ((2, 1), (3, 2), (5, 3), (1, 3)):
        found, again = compute(values, 6, method, n_threads=n_threads, step=stripes * engine.STRIPE)
        np.testing.assert_array_equal(found.components, expected.components)
        np.testing.assert_array_equal(found.variance, expected.variance)
        np.testing.assert_array_equal(again, table)


def test_the_seed_moves_components_within_the_tolerance() -> None:
    values = screen(900, 60)
    first, second = (compute(values, 3, seed=seed, tolerance=1e-8)[0] for seed in (0, 1))
    assert first.converged
    assert max(first.residual, second.residual) <= 1e-8
    np.testing.assert_allclose(first.variance, second.variance, rtol=1e-12)
    np.testing.assert_allclose(first.components, second.components, atol=1e-6)


@given(st.integers(1, 40), st.integers(0, 10**6), st.data())
def test_lanczos_finds_what_lapack_finds(n: int, seed: int, data) -> None:
    rng = np.random.default_rng(seed)
    rank = data.draw(st.integers(0, n))
    k = data.draw(st.integers(1, n))
    factor = rng.normal(size=(n, rank)) * rng.choice([1.0, 1.0, 0.1, 10.0], rank)
    matrix = factor @ factor.T
    found = leading_eigenpairs(
        lambda v: matrix @ v, n, k, random_state=seed, tolerance=1e-10, max_products=500
    )
    expected = np.linalg.eigvalsh(matrix)[::-1][:k]
    scale = max(float(np.abs(matrix).max()), 1.0)
    np.testing.assert_allclose(found.values, np.maximum(expected, 0), atol=1e-9 * scale * n)
    np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(k), atol=1e-10)
    residual = matrix @ found.vectors - found.vectors * found.values
    assert np.linalg.norm(residual, axis=0).max() <= 1e-8 * scale * n
    assert found.converged


def test_a_restarted_basis_finds_the_same() -> None:
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(300, 300)))[0]
    matrix = turn @ np.diag(np.linspace(0, 1, 300) ** 2) @ turn.T
    products = []

    def product(vectors: np.ndarray) -> np.ndarray:
        products.append(vectors.shape[1])
        return matrix @ vectors

    options = {"random_state": 0, "tolerance": 1e-10, "max_products": 500}
    found = leading_eigenpairs(product, 300, 10, max_basis=40, **options)
    assert len(products) * 8 > 40  # it was restarted
    assert found.converged
    np.testing.assert_allclose(found.values, (np.linspace(0, 1, 300) ** 2)[::-1][:10], atol=1e-12)
    np.testing.assert_allclose(
        matrix @ found.vectors, found.vectors * found.values, rtol=0, atol=1e-9
    )


def test_too_few_products_are_admitted() -> None:
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(200, 200))
    found = leading_eigenpairs(
        lambda v: factor @ (factor.T @ v),
        200,
        5,
        random_state=0,
        tolerance=1e-12,
        max_products=2,
    )
    assert not found.converged
    assert found.residual > 1e-12
    assert found.values.shape == (5,)
