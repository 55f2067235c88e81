"""The regression against statsmodels' formulas, by hand and by lstsq."""

from __future__ import annotations

import numpy as np
import pytest

from reference.residual_effects import residual_effects


@pytest.fixture
def screen() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    carried = rng.random((80, 3)) < 0.3
    design = np.column_stack([np.ones(80), carried, rng.normal(size=80)])
    return design, design @ rng.normal(size=(5, 4)) + rng.normal(size=(80, 4))


def test_coefficients_and_errors_are_those_of_least_squares(screen) -> None:
    statsmodels = pytest.importorskip("statsmodels.api")
    design, y = screen
    found = residual_effects(design, y)
    for gene in range(4):
        fit = statsmodels.OLS(y[:, gene], design).fit()
        np.testing.assert_allclose(found.coefficients[:, gene], fit.params, rtol=1e-9)
        np.testing.assert_allclose(found.standard_errors[:, gene], fit.bse, rtol=1e-9)
        assert found.degrees_of_freedom == fit.df_resid


def test_effect_is_that_on_what_the_others_leave(screen) -> None:
    design, y = screen
    others = np.delete(design, 1, axis=1)
    left = [v - others @ np.linalg.lstsq(others, v, rcond=None)[0] for v in (design[:, 1], y)]
    expected = left[0] @ left[1] / (left[0] @ left[0])
    np.testing.assert_allclose(residual_effects(design, y).coefficients[1], expected, rtol=1e-9)


def test_columns_that_others_determine_have_no_effect(screen) -> None:
    design, y = screen
    double = np.column_stack([design, design[:, 1]])
    found = residual_effects(double, y)
    assert np.isnan(found.coefficients[[1, 5]]).all()
    expected = residual_effects(design, y).coefficients[2:5]
    np.testing.assert_allclose(found.coefficients[2:5], expected, rtol=1e-8)
