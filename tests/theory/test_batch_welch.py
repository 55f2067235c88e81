"""The t-test within batches against statsmodels, SciPy and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from reference.batch_welch import student_tail, welch_in_batches
from reference.welch import welch_t

VALUES = st.lists(st.floats(-50, 50, width=32), max_size=6)


def example(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return batches of unequal sizes, levels and variances."""
    rng = np.random.default_rng(seed)
    sizes = [(40, 5), (12, 20), (25, 2), (3, 9)]
    return [
        (rng.normal(b, 0.5 + b, n0), rng.normal(b + 0.3, 1 + 0.5 * b, n1))
        for b, (n0, n1) in enumerate(sizes)
    ]


def stacked(batches) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return values, batch and arm of every cell."""
    arms = [(values, b, arm) for b, pair in enumerate(batches) for arm, values in enumerate(pair)]
    sizes = [len(values) for values, _, _ in arms]
    return (
        np.concatenate([values for values, _, _ in arms]),
        np.repeat([b for _, b, _ in arms], sizes),
        np.repeat([arm for _, _, arm in arms], sizes),
    )


@pytest.mark.parametrize("seed", range(5))
def test_difference_is_the_coefficient_of_a_model_with_an_intercept_per_batch(seed: int) -> None:
    y, batch, arm = stacked(example(seed))
    design = np.column_stack([arm, *(batch == b for b in range(4))]).astype(float)
    expected = sm.OLS(y, design).fit().params[0]
    assert welch_in_batches(example(seed)).difference == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_t_is_that_of_a_contrast_of_all_arms_with_variances_of_their_own(seed: int) -> None:
    batches = example(seed)
    y, batch, arm = stacked(batches)
    cells = [(batch == b) & (arm == k) for b in range(4) for k in range(2)]
    # With one mean per arm of each batch, HC2 estimates each arm's variance without bias.
    fit = sm.OLS(y, np.column_stack(cells).astype(float)).fit(cov_type="HC2")
    n0, n1 = np.array([[len(c), len(p)] for c, p in batches]).T
    weights = n0 * n1 / (n0 + n1)
    contrast = np.column_stack([-weights, weights]).ravel() / weights.sum()
    expected = fit.t_test(contrast)
    found = welch_in_batches(batches)
    assert found.statistic == pytest.approx(float(expected.tvalue.item()), rel=1e-10)
    assert found.difference / found.statistic == pytest.approx(float(expected.sd.item()), rel=1e-10)


@given(VALUES, VALUES)
def test_one_batch_is_welchs_test(control, perturbed) -> None:
    found = welch_in_batches([(control, perturbed)])
    np.testing.assert_array_equal(found[1:], welch_t(control, perturbed))


@given(VALUES, VALUES, st.floats(-9, 9), st.booleans())
def test_batches_with_one_cell_of_an_arm_say_nothing(control, perturbed, alone, above) -> None:
    lonely = ([alone], [1.0, 2.0]) if above else ([1.0, 2.0], [alone])
    found = welch_in_batches([(control, perturbed), lonely])
    np.testing.assert_array_equal(found, welch_in_batches([(control, perturbed)]))


def test_no_batch_with_both_arms_is_no_test() -> None:
    assert all(map(math.isnan, welch_in_batches([([], [1.0, 2.0]), ([1.0, 2.0], [])])))


def test_arms_that_do_not_vary_have_a_difference_but_no_test() -> None:
    found = welch_in_batches([([1, 1], [2, 2]), ([0, 0], [3, 3])])
    assert found.difference == 2
    assert math.isnan(found.statistic)
    assert math.isnan(found.pvalue)


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_one_sided_tests_are_those_of_scipy(alternative: str) -> None:
    rng = np.random.default_rng(3)
    control, perturbed = rng.normal(0, 1, 30), rng.normal(0.4, 2, 12)
    expected = stats.ttest_ind(perturbed, control, equal_var=False, alternative=alternative)
    found = welch_in_batches([(control, perturbed)], alternative)
    assert found.statistic == pytest.approx(expected.statistic, rel=1e-12)
    assert found.pvalue == pytest.approx(expected.pvalue, rel=1e-10)


def test_p_is_uniform_without_an_effect_whatever_the_batches() -> None:
    rng = np.random.default_rng(4)
    pvalues = [
        welch_in_batches(
            [(rng.normal(b, 1 + b, n0), rng.normal(b, 2, n1)) for b, n0, n1 in SIZES]
        ).pvalue
        for _ in range(600)
    ]
    assert stats.kstest(pvalues, "uniform").pvalue > 0.01


SIZES = [(0, 40, 8), (3, 12, 20), (1, 25, 25)]


def test_unknown_alternative_is_refused() -> None:
    with pytest.raises(ValueError, match="two-sided"):
        student_tail(1.0, 5.0, "both")
