"""The definition of principal components against the eigenvectors of the covariance."""

from __future__ import annotations

import numpy as np
import pytest

from reference.pca import pca, with_signs


@pytest.fixture
def values() -> np.ndarray:
    rng = np.random.default_rng(5)
    return rng.normal(size=(60, 8)) @ np.diag([5, 4, 3, 2, 1, 1, 0.5, 0.1]) + rng.normal(size=8)


def test_components_are_eigenvectors_of_the_covariance(values) -> None:
    found = pca(values, 4)
    covariance = np.cov(values.T)
    np.testing.assert_allclose(
        covariance @ found.components, found.components * found.variance, atol=1e-12
    )
    np.testing.assert_allclose(found.variance, np.linalg.eigvalsh(covariance)[::-1][:4])


def test_coordinates_are_uncorrelated_with_the_variances_found(values) -> None:
    found = pca(values, 8)
    np.testing.assert_allclose(np.cov(found.coordinates.T), np.diag(found.variance), atol=1e-12)
    np.testing.assert_allclose(found.coordinates.mean(axis=0), 0, atol=1e-12)


def test_all_components_together_hold_all_variance_and_give_the_data_back(values) -> None:
    found = pca(values, 8)
    assert found.variance_ratio.sum() == pytest.approx(1, abs=1e-14)
    back = found.coordinates @ found.components.T + values.mean(axis=0)
    np.testing.assert_allclose(back, values, atol=1e-12)


def test_signs_do_not_depend_on_those_of_the_decomposition(values) -> None:
    components = pca(values, 5).components
    flipped = with_signs(components * np.array([1, -1, 1, -1, -1]))
    np.testing.assert_array_equal(flipped, components)
    assert np.all(components[np.abs(components).argmax(axis=0), range(5)] > 0)


def test_the_first_of_two_equal_entries_decides_the_sign() -> None:
    np.testing.assert_array_equal(with_signs(np.array([[-1.0], [1.0]])), [[1.0], [-1.0]])
