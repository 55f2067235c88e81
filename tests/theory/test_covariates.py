"""Fits beside covariates against statsmodels and the closed form of strata."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm

from reference.covariates import (
    control_slopes,
    design_of,
    fit_beside_covariates,
    highest_likelihood,
    solve_pivoting,
)
from reference.likelihood_ratio import likelihood_ratio_root
from reference.nb_coefficients import Arm, best_log_mean

ALPHA = 0.4


def drawn(seed: int, n_levels: list[int], n0: int = 200, n1: int = 70) -> tuple:
    rng = np.random.default_rng(seed)
    arms, levels = [], []
    effects = [rng.normal(0, 0.6, n) for n in n_levels]
    for n, shift in ((n0, 0.0), (n1, 0.5)):
        level = np.stack([rng.integers(0, m, n) for m in n_levels], axis=1)
        s = np.exp(rng.normal(0, 0.4, n))
        eta = shift + sum(e[c] for e, c in zip(effects, level.T, strict=True))
        y = rng.poisson(s * np.exp(eta) * rng.gamma(1 / ALPHA, ALPHA, n))
        arms.append(Arm.of(y, s))
        levels.append(level)
    return *arms, *levels


def outside(y: np.ndarray, s: np.ndarray, x: np.ndarray, **how: str):  # type: ignore[no-untyped-def]
    family = sm.families.NegativeBinomial(alpha=ALPHA)
    return sm.GLM(y, x, family=family, offset=np.log(s)).fit(tol=1e-15, maxiter=300, **how)


@pytest.mark.parametrize("n_levels", [[1], [4], [3, 2], [2, 2, 3]], ids=str)
def test_categories_are_fitted_as_by_statsmodels(n_levels: list[int]) -> None:
    control, perturbed, levels0, levels1 = drawn(1, n_levels)
    y, s = (np.concatenate(pair) for pair in zip(control, perturbed, strict=True))
    d = np.repeat([0.0, 1.0], [len(levels0), len(levels1)])
    x = np.column_stack([design_of(np.concatenate([levels0, levels1])), d])
    expected = outside(y, s, x)
    found = fit_beside_covariates(control, perturbed, levels0, levels1, ALPHA)
    assert found is not None
    assert found.converged
    np.testing.assert_allclose(found.log_fold_change, expected.params[-1], rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.standard_error, expected.bse[-1], rtol=1e-9)
    np.testing.assert_allclose(
        found.intercept, np.mean((x @ expected.params)[d == 0]), rtol=0, atol=1e-9
    )
    robust = fit_beside_covariates(control, perturbed, levels0, levels1, ALPHA, "robust")
    white = outside(y, s, x, cov_type="HC0")
    assert robust is not None
    # statsmodels inverts the observed information there, which differs by sampling noise.
    np.testing.assert_allclose(robust.standard_error, white.bse[-1], rtol=0.1)


def test_batches_that_lack_an_arm_drop_out() -> None:
    control, perturbed, levels0, levels1 = drawn(2, [4])
    levels1[levels1 == 3] = 2
    levels0[levels0 == 0] = 1
    both = [np.isin(levels[:, 0], [1, 2]) for levels in (levels0, levels1)]
    kept = [
        Arm(*(one[at] for one in arm)) for arm, at in zip((control, perturbed), both, strict=True)
    ]
    found = fit_beside_covariates(control, perturbed, levels0, levels1, ALPHA)
    alone = fit_beside_covariates(*kept, levels0[both[0]], levels1[both[1]], ALPHA)
    assert found is not None
    assert alone is not None
    np.testing.assert_allclose(found.log_fold_change, alone.log_fold_change, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.standard_error, alone.standard_error, rtol=1e-12)


def test_the_information_of_strata_adds_up() -> None:
    control, perturbed, levels0, levels1 = drawn(3, [3])
    found = fit_beside_covariates(control, perturbed, levels0, levels1, ALPHA)
    assert found is not None
    y, s = (np.concatenate(pair) for pair in zip(control, perturbed, strict=True))
    levels, d = np.concatenate([levels0, levels1])[:, 0], np.repeat([0.0, 1.0], [200, 70])
    x = np.column_stack([np.eye(3)[levels], d])
    beta = highest_likelihood(y, s, x, ALPHA, np.zeros(4)).coefficients
    mu = s * np.exp(x @ beta)
    w = mu / (1 + ALPHA * mu)
    total = 0.0
    for b in range(3):
        w0, w1 = w[(levels == b) & (d == 0)].sum(), w[(levels == b) & (d == 1)].sum()
        total += w0 * w1 / (w0 + w1)
    np.testing.assert_allclose(found.standard_error, total**-0.5, rtol=1e-10)


def test_one_category_is_the_plain_fit() -> None:
    control, perturbed, levels0, levels1 = drawn(4, [1])
    found = fit_beside_covariates(control, perturbed, levels0, levels1, ALPHA)
    eta0, eta1 = (best_log_mean(arm, ALPHA, 0.0, 50, 1e-10).eta for arm in (control, perturbed))
    assert found is not None
    np.testing.assert_allclose(found.log_fold_change, eta1 - eta0, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.intercept, eta0, rtol=0, atol=1e-10)


@pytest.mark.parametrize("n_levels", [[1], [3], [2, 3]], ids=str)
def test_slopes_of_numbers_are_those_of_the_control(n_levels: list[int]) -> None:
    control, _, levels0, _ = drawn(5, n_levels)
    numbers = np.random.default_rng(0).normal(size=(200, 2))
    x = np.column_stack([design_of(levels0), numbers])
    expected = outside(control.counts, control.size_factors, x).params[-2:]
    found = control_slopes(control, levels0, numbers, ALPHA)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_a_silent_arm_has_a_finite_fold_change_and_the_likelihood_ratio() -> None:
    control, perturbed, levels0, levels1 = drawn(6, [3])
    silent = perturbed._replace(counts=np.zeros_like(perturbed.counts))
    found = fit_beside_covariates(control, silent, levels0, levels1, ALPHA)
    assert found is not None
    assert -12 < found.log_fold_change < -2
    # The ratio is the limit of that of ever stronger knock-downs.
    y, s = (np.concatenate(pair) for pair in zip(control, silent, strict=True))
    levels, d = np.concatenate([levels0, levels1])[:, 0], np.repeat([0.0, 1.0], [200, 70])
    z = np.eye(3)[levels]
    null = outside(y, s, z).llf
    full = outside(y[d == 0], s[d == 0], z[d == 0]).llf
    np.testing.assert_allclose(found.silent_z, -np.sqrt(2 * (full - null)), rtol=1e-9)


def test_aliased_columns_get_nothing() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 3))
    matrix = np.column_stack([x, x[:, 0] + x[:, 1], rng.normal(size=30)])
    right = rng.normal(size=5)
    solution = solve_pivoting(matrix.T @ matrix, right)
    assert solution[3] == 0
    kept = [0, 1, 2, 4]
    reduced = matrix[:, kept]
    np.testing.assert_allclose(
        solution[kept], np.linalg.solve(reduced.T @ reduced, right[kept]), rtol=1e-9
    )


@pytest.mark.parametrize("n_levels", [[1], [4], [3, 2]], ids=str)
def test_the_likelihood_ratio_is_that_of_statsmodels(n_levels: list[int]) -> None:
    control, perturbed, levels0, levels1 = drawn(6, n_levels)
    y, s = (np.concatenate(pair) for pair in zip(control, perturbed, strict=True))
    z = design_of(np.concatenate([levels0, levels1]))
    d = np.repeat([0.0, 1.0], [len(levels0), len(levels1)])
    full, null = outside(y, s, np.column_stack([z, d])), outside(y, s, z)
    found = fit_beside_covariates(control, perturbed, levels0, levels1, ALPHA, with_ratio=True)
    assert found is not None
    assert found.ratio_z > 0
    np.testing.assert_allclose(found.ratio_z**2, 2 * (full.llf - null.llf), rtol=1e-9)
    turned = fit_beside_covariates(perturbed, control, levels1, levels0, ALPHA, with_ratio=True)
    assert turned is not None
    np.testing.assert_allclose(turned.ratio_z, -found.ratio_z, rtol=1e-9)


def test_beside_one_category_the_likelihood_ratio_is_that_of_two_arms() -> None:
    control, perturbed, levels0, levels1 = drawn(7, [1])
    found = fit_beside_covariates(control, perturbed, levels0, levels1, ALPHA, with_ratio=True)
    silent = perturbed._replace(counts=np.zeros_like(perturbed.counts))
    alone = fit_beside_covariates(control, silent, levels0, levels1, ALPHA, with_ratio=True)
    assert found is not None
    assert alone is not None
    for fit, arm in ((found, perturbed), (alone, silent)):
        expected = likelihood_ratio_root(control, arm, ALPHA)
        np.testing.assert_allclose(fit.ratio_z, expected, rtol=1e-9)
