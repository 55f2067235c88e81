"""The compiled coefficients against reference.nb_coefficients."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from grouped_counts import drawn_counts, grouped_counts, small_counts
from hypothesis import given, settings
from hypothesis import strategies as st

from crispyx._stats.nb_coefficients import Coefficients, Fitting, fit_coefficients
from crispyx._stats.nb_likelihood import Counts

BEST = Fitting(False, "poisson", 0.0, 25, 1e-6, False)
FITTINGS = {
    "highest likelihood": BEST,
    "from zero": Fitting(False, "zero", 0.0, 40, 1e-6, False),
    "PyDESeq2": Fitting(True, "least_squares", 0.5, 250, 1e-8, True),
    "clamped": Fitting(True, "poisson", 0.5, 25, 1e-6, False),
    "clamped high, from zero": Fitting(True, "zero", 4.0, 25, 1e-6, False),
    "scoring": Fitting(True, "poisson", 0.0, 25, 1e-6, False),
}


def assert_same(compiled: Coefficients, defined: Coefficients, tolerance: float = 1e-10) -> None:
    np.testing.assert_array_equal(compiled.iterations, defined.iterations)
    np.testing.assert_array_equal(compiled.converged, defined.converged)
    for name in (f.name for f in fields(Coefficients)):
        a, b = getattr(compiled, name), getattr(defined, name)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("fitting", FITTINGS.values(), ids=FITTINGS)
def test_compiled_coefficients_are_the_defined_ones(fitting: Fitting) -> None:
    counts = drawn_counts(5, [120, 40, 12, 5], 14)
    alpha = np.exp(np.random.default_rng(0).normal(-1, 1.5, (3, 14)))
    alpha[1, 5] = np.nan
    alpha[:, 6] = 0.4
    compiled, defined = (
        fit_coefficients(counts, alpha, fitting, e, with_fills=True)
        for e in ("compiled", "reference")
    )
    assert_same(compiled, defined)
    assert np.isnan(compiled.intercept[1, 5])
    assert np.isnan(compiled.intercept[:, 2]).all()
    assert np.isfinite(compiled.log_fold_change[0, [0, 1, 3, 4, 5]]).all()


@settings(max_examples=40, deadline=None)
@given(small_counts(), st.floats(-6, 2))
def test_the_highest_likelihood_is_found_for_any_counts(counts: Counts, log_alpha: float) -> None:
    alpha = np.full((counts.table.n_groups - 1, counts.n_genes), np.exp(log_alpha))
    fitting = Fitting(False, "poisson", 0.0, 60, 1e-7, False)
    compiled, defined = (
        fit_coefficients(counts, alpha, fitting, e, with_fills=True)
        for e in ("compiled", "reference")
    )
    # The last step of either engine may fall on the other side of the tolerance.
    assert (np.abs(compiled.iterations - defined.iterations) <= 1).all()
    fitted = np.isfinite(defined.intercept)
    np.testing.assert_array_equal(np.isfinite(compiled.intercept), fitted)
    np.testing.assert_allclose(compiled.log_fold_change, defined.log_fold_change, rtol=0, atol=1e-9)
    np.testing.assert_allclose(compiled.silent_z, defined.silent_z, rtol=0, atol=1e-6)


def test_the_control_is_the_same_whichever_perturbations_are_fitted() -> None:
    rng = np.random.default_rng(9)
    labels = np.repeat([0, 1, 2], [90, 20, 25])
    y, s = rng.poisson(0.7, (135, 6)).astype(float), np.exp(rng.normal(0, 0.5, 135))
    both = fit_coefficients(
        grouped_counts(y, labels, s), np.full((2, 6), 0.3), FITTINGS["PyDESeq2"], "compiled"
    )
    kept = labels != 1
    alone = fit_coefficients(
        grouped_counts(y[kept], labels[kept] // 2, s[kept]),
        np.full((1, 6), 0.3),
        FITTINGS["PyDESeq2"],
        "compiled",
    )
    np.testing.assert_array_equal(both.intercept[1:], alone.intercept)
    np.testing.assert_array_equal(both.log_fold_change[1:], alone.log_fold_change)


def test_a_runaway_iteration_is_rescued_as_defined() -> None:
    # Without a clamp, least squares of logs start far from these few counts.
    y = np.zeros((30, 1))
    y[0], y[25] = 600, 1
    s = np.ones(30)
    s[25] = 1e-7
    labels = np.repeat([0, 1], [20, 10])
    fitting = Fitting(True, "zero", 0.0, 4, 1e-12, True)
    counts, alpha = grouped_counts(y, labels, s), np.full((1, 1), 0.5)
    compiled, defined = (
        fit_coefficients(counts, alpha, fitting, e, with_fills=True)
        for e in ("compiled", "reference")
    )
    assert_same(compiled, defined, 1e-9)


@pytest.mark.parametrize("fitting", [BEST, FITTINGS["PyDESeq2"]])
def test_coefficients_do_not_depend_on_threads(fitting: Fitting) -> None:
    counts = drawn_counts(5, [60, 20, 9], 11)
    alpha = np.full((2, 11), 0.6)
    assert_same(
        fit_coefficients(counts, alpha, fitting, "compiled", 3),
        fit_coefficients(counts, alpha, fitting, "compiled", 1),
        0,
    )
