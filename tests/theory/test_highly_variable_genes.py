"""The definition of highly variable genes against polynomials, scanpy and scikit-misc."""

from __future__ import annotations

import anndata
import numpy as np
import pytest

from reference.highly_variable_genes import (
    dispersion_table,
    expected_variances,
    local_regression,
    moments,
    normalized_variances,
    top_by_variance,
)


def counts(n_cells: int = 150, n_genes: int = 120) -> np.ndarray:
    rng = np.random.default_rng(0)
    depth = rng.uniform(0.5, 2, (n_cells, 1))
    return rng.poisson(rng.gamma(1.0, 3.0, n_genes) * depth).astype(float)


def test_curve_through_a_parabola_is_the_parabola_at_the_ends_of_intervals() -> None:
    x = np.random.default_rng(1).normal(size=300)
    # Cubics between the ends repeat a parabola exactly, up to rounding.
    np.testing.assert_allclose(local_regression(x, 2 + x - 3 * x**2), 2 + x - 3 * x**2, atol=1e-10)


def test_curve_is_that_of_scikit_misc_where_no_two_points_are_equal() -> None:
    loess = pytest.importorskip("skmisc.loess").loess
    rng = np.random.default_rng(2)
    x = rng.normal(size=500)
    y = x**2 + rng.normal(size=500)
    model = loess(x, y, span=0.3, degree=2)
    model.fit()
    # The other program's weights are rounded at 1e-9 of the neighborhood.
    np.testing.assert_allclose(local_regression(x, y), model.outputs.fitted_values, atol=1e-7)


def test_normalized_variance_without_clipping_is_variance_over_expectation() -> None:
    y = counts()
    means, variances = moments(y)
    expected = np.full(len(means), 1e6)  # so large that nothing is clipped
    found = normalized_variances(y, means, variances, expected)
    np.testing.assert_allclose(found, variances / 1e6, rtol=1e-12)


def test_constant_genes_expect_nothing_and_are_ranked_last() -> None:
    y = counts()
    y = y[:, y.any(axis=0)]
    y[:, 3] = 2
    means, variances = moments(y)
    expected = expected_variances(means, variances)
    found = normalized_variances(y, means, variances, expected)
    assert expected[3] == 1
    assert found[3] == 0
    chosen, rank, n_batches = top_by_variance(found[None], len(found) - 1)
    assert not chosen[3]
    assert np.isnan(rank[3])
    assert n_batches.tolist() == chosen.tolist()


def test_genes_of_several_batches_are_ordered_by_their_median_rank() -> None:
    chosen, rank, n_batches = top_by_variance(np.array([[3.0, 2, 1], [1.0, 2, 3]]), 2)
    assert rank.tolist() == [0, 1, 0]
    assert n_batches.tolist() == [1, 2, 1]
    assert chosen.tolist() == [True, False, True]


@pytest.mark.parametrize("flavor", ["seurat", "cell_ranger"])
def test_dispersions_are_those_of_scanpy(flavor) -> None:
    scanpy = pytest.importorskip("scanpy")
    values = np.log1p(counts())
    expected = scanpy.pp.highly_variable_genes(
        anndata.AnnData(values), flavor=flavor, n_top_genes=20, inplace=False
    )
    found = dispersion_table(
        *moments(np.expm1(values) if flavor == "seurat" else values), flavor, 20
    )
    np.testing.assert_allclose(found.means, expected["means"], rtol=1e-10)
    np.testing.assert_allclose(found.dispersions, expected["dispersions"], rtol=1e-8)
    np.testing.assert_allclose(found.dispersions_norm, expected["dispersions_norm"], rtol=1e-6)
