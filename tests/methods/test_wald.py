"""The compiled tests against reference.wald."""

from __future__ import annotations

import numpy as np
import pytest
from grouped_counts import drawn_counts

from crispyx._stats.nb_coefficients import Fitting, fit_coefficients
from crispyx._stats.wald import SE_METHODS, wald_tests
from reference.wald import SE_METHODS as DEFINED

COUNTS = drawn_counts(3, [120, 40, 12, 5], 14)
ALPHA = np.exp(np.random.default_rng(1).normal(-1, 1.5, (3, 14)))
FITTINGS = [
    Fitting(False, "poisson", 0.0, 25, 1e-6, False),
    Fitting(True, "least_squares", 0.5, 250, 1e-8, True),
]


@pytest.mark.parametrize("se_method", SE_METHODS)
@pytest.mark.parametrize("fitting", FITTINGS, ids=["highest likelihood", "PyDESeq2"])
def test_compiled_tests_are_the_defined_ones(se_method: str, fitting: Fitting) -> None:
    tests = []
    for engine in ("compiled", "reference"):
        fits = fit_coefficients(COUNTS, ALPHA, fitting, engine, with_fills=True)
        tests.append(wald_tests(COUNTS, ALPHA, fits, se_method, engine))
    ours, defined = tests
    np.testing.assert_allclose(ours.standard_error, defined.standard_error, rtol=1e-10)
    np.testing.assert_allclose(ours.statistic, defined.statistic, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(np.log(ours.pvalue), np.log(defined.pvalue), rtol=1e-9, atol=1e-9)


def test_a_silent_arm_has_a_finite_statistic_of_the_right_sign() -> None:
    fits = fit_coefficients(COUNTS, ALPHA, FITTINGS[0], "compiled")
    tests = wald_tests(COUNTS, ALPHA, fits, "fisher", "compiled")
    assert tests.statistic[0, 0] < 0 < tests.statistic[0, 1]
    assert np.isfinite(tests.pvalue[:, :2]).all()
    assert np.isnan(tests.pvalue[:, 2]).all()


def test_both_engines_know_the_same_standard_errors() -> None:
    assert SE_METHODS == DEFINED
