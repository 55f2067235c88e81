"""Compiled Welch tests and fold changes against the reference and SciPy."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import grouped, membership_of
from scipy import special, stats
from strategies import Design, cases, designs

from crispyx._kernels import welch as kernel
from crispyx._stats.moments import comparison_arms
from crispyx._stats.van_elteren import SIDES
from crispyx._stats.welch import log_fold_changes, log_student_tails, welch_tests
from reference.welch import welch_t

EPS = np.finfo(float).eps


def both_engines(values: np.ndarray, design: Design):
    """Yield arms, t, p and fold changes by the compiled and by the reference engine."""
    block = design.block(values)
    for engine in ("compiled", "reference"):
        arms = comparison_arms(block, engine)
        yield arms, *welch_tests(block, *arms, engine)[:2], log_fold_changes(*arms, engine)


def partition(label: Iterable[int], n_groups: int) -> Design:
    return Design([[int(k)] for k in label], n_groups)


@given(cases())
def test_t_and_p_agree_with_the_reference(case) -> None:
    values, design = case
    (_, t, p, _), (arms, exact_t, exact_p, _) = both_engines(values, design)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(sum(arm.variance / arm.n_cells for arm in arms))
    # Means are off by one rounding of the largest value for each addition. Where the standard error
    # is as small as that (2^53 - 1 beside 2^53) float64 cannot tell t.
    rounding = len(values) * EPS * np.abs(values).max(axis=0)
    known = ~(error < 1e7 * rounding) | (error == 0) & (design.pool is None)
    np.testing.assert_array_equal(np.isnan(t)[known], np.isnan(exact_t)[known])
    known &= np.isfinite(exact_t)
    bound = 1e-6 * np.abs(exact_t) * error + 4 * rounding
    assert np.all((np.abs(t - exact_t) * error)[known] <= bound[known])
    # d ln p is at most (df + 1) d ln t with df < 24, and an absolute error near t = 0.
    np.testing.assert_allclose(p[known], exact_p[known], rtol=3e-5, atol=1e-6)


@given(designs(), st.data())
def test_ordinary_values_agree_to_the_last_digits(design: Design, data) -> None:
    ordinary = st.sampled_from([0, 0, 0] + [float(np.log1p(x)) for x in range(1, 9)])
    n_cells = len(design.groups)
    column = data.draw(st.lists(ordinary, min_size=n_cells, max_size=n_cells))
    values = np.array([column], dtype=float).T
    (_, t, p, change), (_, exact_t, exact_p, exact_change) = both_engines(values, design)
    # 24 additions of values below 2.3 and a standard error above 0.01; 1e-12 where the means meet.
    np.testing.assert_allclose(t, exact_t, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(p, exact_p, rtol=3e-11)
    np.testing.assert_allclose(change, exact_change, rtol=1e-12, atol=1e-6)


@given(designs(), st.data())
def test_degrees_of_freedom_are_the_references(design: Design, data) -> None:
    ordinary = st.sampled_from([0, 0, 0] + [float(np.log1p(x)) for x in range(1, 9)])
    n_cells = len(design.groups)
    column = data.draw(st.lists(ordinary, min_size=n_cells, max_size=n_cells))
    block = design.block(np.array([column], dtype=float).T)
    found = [
        welch_tests(block, *comparison_arms(block, engine), engine)[2]
        for engine in ("compiled", "reference")
    ]
    assert {table.dtype for table in found} == {np.dtype("f4")}
    expected = [
        welch_t(block.dense_control(0, k), block.dense(0, k)).degrees_of_freedom
        for k in range(1, block.n_groups)
    ]
    # Half a unit in the last place of float32, and the roundings of the variances.
    np.testing.assert_allclose(found[0][:, 0], expected, rtol=1e-7)
    np.testing.assert_array_equal(found[1][:, 0], np.float32(expected))


@pytest.mark.parametrize("seed", range(5))
def test_t_and_p_agree_with_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.log1p(rng.poisson(rng.gamma(1, 1, 20), (3000, 20)) * rng.uniform(0.5, 2, (3000, 1)))
    label = rng.choice(3, 3000, p=[0.6, 0.39, 0.01])
    values[label == 1] *= 1.3
    (_, t, p, _), _ = both_engines(values, partition(label, 3))
    for k in (1, 2):
        theirs = stats.ttest_ind(values[label == k], values[label == 0], equal_var=False)
        # The absolute term is for means that nearly meet.
        np.testing.assert_allclose(t[k - 1], theirs.statistic, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(p[k - 1], theirs.pvalue, rtol=1e-10)


@pytest.mark.parametrize("engine", ["compiled", "reference"])
@pytest.mark.parametrize(
    ("control", "perturbed"), [([1, 1], [2, 2]), ([0, 0], [0, 0]), ([1], [1, 2]), ([], [1, 2])]
)
def test_without_two_cells_or_variation_there_is_no_t(control, perturbed, engine) -> None:
    groups = [[0]] * len(control) + [[1]] * len(perturbed)
    block = grouped(np.array([[*control, *perturbed]], dtype=float).T, membership_of(groups, 2))
    assert np.isnan(welch_tests(block, *comparison_arms(block, engine), engine)).all()


def test_tiny_variances_keep_their_degrees_of_freedom() -> None:
    # The squares of variances of 1e-200 are 0 in float64.
    values = np.array([[0.0, 2, 3, 5, 7]]).T
    design = partition([0, 0, 1, 1, 1], 2)
    (_, _, plain, _), _ = both_engines(values, design)
    (_, _, tiny, _), _ = both_engines(values * 1e-100, design)
    np.testing.assert_allclose(tiny, plain, rtol=1e-13)


def test_far_tails_do_not_vanish() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1, 500), rng.normal(3, 1, 500)])[:, None]
    (_, _, p, _), _ = both_engines(values, partition(np.arange(1000) // 500, 2))
    expected = stats.ttest_ind(values[500:, 0], values[:500, 0], equal_var=False)
    assert 0 < p[0, 0] < 1e-200
    # A relative error e of t = 47 moves ln p by about t^2 e = 2000 e.
    assert p[0, 0] == pytest.approx(expected.pvalue, rel=1e-10)


def test_fold_change_is_scanpys() -> None:
    # log2((expm1(mean) + 1e-9) / (expm1(mean) + 1e-9)): means ln 2 and ln 5 are counts 1 and 4.
    values = np.array([[np.log(2), np.log(2), np.log(5), np.log(5), 0, 0]]).T
    (_, _, _, change), _ = both_engines(values, partition(np.arange(6) // 2, 3))
    assert change[0, 0] == pytest.approx(2, abs=2e-9)
    assert change[1, 0] == pytest.approx(-np.log2(1e9), abs=1e-8)


def student(t: object, df: object, alternative: str = "two-sided") -> np.ndarray:
    """Return tails of the compiled engine, of arrays of one shape."""
    t, df = np.broadcast_arrays(np.atleast_2d(t).astype(float), df)
    pvalue = np.empty(t.shape)
    place = np.ascontiguousarray(t), np.ascontiguousarray(df, dtype=float)
    kernel.student_tails(*place, SIDES[alternative], pvalue, 1)
    return pvalue


# t, degrees of freedom, and p of mpmath 1.4 with 40 digits.
EXACT_TAILS = [
    (0.158384, 1, 0.90000027345942298),
    (1.0, 1, 0.5),
    (6.31375, 1, 0.10000002359742297),
    (636.619, 1, 0.0010000003907648223),
    (636620000000.0, 1, 9.9999964243596077e-13),
    (6.3662e99, 1, 9.9999964243596079e-101),
    (0.651795, 1.5, 0.60000024080071514),
    (0.897404, 1.5, 0.49000006953387049),
    (1785.03, 1.5, 1.0000026343428075e-5),
    (0.425891, 2.88, 0.70000006647670208),
    (1.26031, 2.88, 0.29999890563263529),
    (31.0033, 2.88, 0.00010000020131599079),
    (33090400000.0, 2.88, 1.0000037145678867e-30),
    (0.013172, 5, 0.98999998836447975),
    (1.47588, 5, 0.20000103884586615),
    (28.4785, 5, 9.9999536535127205e-7),
    (1.80161e20, 5, 9.9999986852593469e-101),
    (0.696819, 11.3, 0.50000008969360585),
    (1.36112, 11.3, 0.20000134363577574),
    (2.19388, 11.3, 0.049999726788504902),
    (14.7293, 11.3, 9.9997989570494969e-9),
    (1.07116, 15.99, 0.29999981496707444),
    (4.01553, 15.99, 0.0010000042744067489),
    (0.127671, 16, 0.90000019989695123),
    (1.07114, 16, 0.29999876313506489),
    (4.015, 16, 0.00099999228099361693),
    (14.733, 16, 9.9995048552161662e-11),
    (11425600000000.0, 16, 9.999867045867116e-201),
    (0.0012666, 23.7, 0.99900000088606756),
    (1.71175, 23.7, 0.10000025740270078),
    (6.52967, 23.7, 9.9999442293931071e-7),
    (13.6586, 23.7, 9.9999700115818108e-13),
    (0.678533, 61, 0.49999998267672964),
    (2.65886, 61, 0.009999923750327408),
    (7.21223, 61, 1.0000183373332802e-9),
    (33.1583, 61, 1.0000731219252488e-40),
    (3.39776, 93.4, 0.0010000046465762464),
    (11.0875, 93.4, 9.9985148904544547e-19),
    (40.167, 93.4, 9.9994343605280145e-61),
    (15330.4, 93.4, 1.0002295568019093e-300),
    (0.25351, 415, 0.79999967536750345),
    (3.92874, 415, 0.0001000005514057562),
    (12.5189, 415, 9.9986816129925405e-31),
    (78.3178, 415, 9.9977795319605638e-251),
    (1.96026, 8100.25, 0.049999636790163957),
    (7.14193, 8100.25, 1.0000129246035661e-12),
    (21.6086, 8100.25, 1.0007513653406322e-100),
    (1.03643, 1000000.0, 0.30000183120054724),
    (4.4172, 1000000.0, 9.999817983000319e-6),
    (14.9803, 1000000.0, 1.0003257049022707e-50),
    (37.0785, 1000000.0, 1.0011759942186336e-300),
]


def test_tails_have_twelve_digits_down_to_the_smallest_numbers() -> None:
    t, df, exact = np.array(EXACT_TAILS).T
    # Far out a rounding of log(1 + t^2 / df) is multiplied by up to 700.
    np.testing.assert_allclose(student(t, df)[0], exact, rtol=3e-13)


def test_tails_are_scipys_over_all_degrees_of_freedom() -> None:
    rng = np.random.default_rng(0)
    df = np.exp(rng.uniform(0, 15, 60_000))
    p = 10.0 ** -(rng.uniform(0, 250, len(df)) ** rng.uniform(0, 1, len(df)))
    t = stats.t.isf(p / 2, df)
    here = np.isfinite(t) & (t > 0) & (t < 1e100)
    theirs = 2 * special.stdtr(df[here], -t[here])
    assert np.count_nonzero(here) > 50_000
    np.testing.assert_allclose(student(t[here], df[here])[0], theirs, rtol=1e-12)


def test_tails_join_where_the_method_changes() -> None:
    below, at = np.nextafter(16, 0), 16.0
    t = np.linspace(0.01, 30, 400)
    np.testing.assert_allclose(student(t, below), student(t, at), rtol=1e-13)
    for df in (16.0, 40.0, 93.4, 415.0):
        edge = np.sqrt(df * np.expm1(1.25)) * (1 + np.array([-1e-15, 1e-15]))
        low, high = student(edge, df)[0]
        # The density there moves p by df times the step of 2e-15.
        assert low == pytest.approx(high, rel=1e-12)


def test_a_tail_does_not_depend_on_its_neighbors() -> None:
    rng = np.random.default_rng(1)
    t, df = rng.normal(0, 5, 700), np.exp(rng.uniform(0, 9, 700))
    together = student(t, df)[0]
    alone = [student(a, b)[0, 0] for a, b in zip(t, df, strict=True)]
    np.testing.assert_array_equal(together, alone)


def test_tails_at_the_edges() -> None:
    found = student([0, 0, -0.0, np.inf, -np.inf, 1e200, np.nan, 1.0], [5, 500, 3, 4, 90, 50, 7, 1])
    np.testing.assert_array_equal(found[0], [1, 1, 1, 0, 0, 0, np.nan, 0.5])
    assert np.isnan(student(1.0, np.nan)[0, 0])


def test_normal_tails_are_the_limit_of_many_degrees_of_freedom() -> None:
    t = np.linspace(0.1, 37, 300)
    # The difference of the tails is t^4 / (4 df) of them.
    np.testing.assert_allclose(student(t, 1e25)[0], special.erfc(t / np.sqrt(2)), rtol=3e-13)


def test_one_sided_tails_add_up_to_one() -> None:
    t, df = np.array([-40, -2.0, 0, 0.5, 3]), np.array([30, 4.5, 8, 100, 1e4])
    greater, less = student(t, df, "greater")[0], student(t, df, "less")[0]
    np.testing.assert_allclose(greater, special.stdtr(df, -t), rtol=1e-13)
    np.testing.assert_allclose(less, special.stdtr(df, t), rtol=1e-13)
    np.testing.assert_allclose(greater + less, 1, rtol=1e-15)


# t, degrees of freedom, and ln p of mpmath 1.4 with 40 digits.
EXACT_LOGS = [
    (1e160, 1.5, -552.90255914581587),
    (3.5e100, 2.88, -666.06918715130515),
    (1e70, 5, -802.96137913154257),
    (1e200, 11.3, -5191.6024627636505),
    (1e21, 15.99, -752.65059772279179),
    (1e20, 16, -716.27422056854532),
    (1e12, 61, -1562.3959616762328),
    (200.0, 93.4, -285.59470557052791),
    (60.0, 415, -474.11043455281148),
    (300.0, 415, -1120.394784202668),
    (38.0, 8100.25, -668.18059480752154),
    (500.0, 8100.25, -14024.02764664424),
    (2000.0, 8100.25, -25132.419962862401),
    (39.0, 1e6, -763.81147524938936),
    (1500.0, 1e6, -589334.44785575907),
    (40.0, 1e9, -803.9146540341259),
    (5.0, 30, -10.667199462146628),
]


def test_logs_of_tails_go_on_below_the_smallest_number() -> None:
    t, df, exact = np.array(EXACT_LOGS).T
    for engine in ("compiled", "reference"):
        found = log_student_tails(t, df, "two-sided", engine)
        np.testing.assert_allclose(found, exact, rtol=3e-13 if engine == "compiled" else 1e-11)


@given(
    st.floats(0.1, 1e150),
    st.floats(0, 17).map(np.exp),
    st.booleans(),
    st.sampled_from(sorted(SIDES)),
)
def test_logs_of_tails_are_the_references(t: float, df: float, falls: bool, side: str) -> None:
    at = np.array([-t if falls else t]), np.array([df])
    compiled, exact = (log_student_tails(*at, side, engine) for engine in ("compiled", "reference"))
    # A p of SciPy has 1e-12 of its value, see above; far out the reference takes differences of
    # lgamma of up to 1e7, beside logs of 460 and more.
    np.testing.assert_allclose(compiled, exact, rtol=2e-11, atol=2e-12)


@given(st.floats(-1e5, 1e5), st.floats(1, 1e6), st.sampled_from(sorted(SIDES)))
def test_logs_of_tails_are_logs_of_the_p_values(t: float, df: float, side: str) -> None:
    p = student(t, df, side)[0]
    if p[0] > 1e-300:
        logs = log_student_tails(np.array([t]), np.array([df]), side, "compiled")
        # A p has 3e-13 of its value, see above; 1 - p / 2 rounds to 1e-16.
        np.testing.assert_allclose(logs, np.log(p), rtol=1e-12, atol=4e-13)


def test_logs_of_tails_fall_with_t_where_the_method_changes() -> None:
    for df in (2.0, 15.9, 16.0, 93.4, 1e4, 1e7):
        t = np.geomspace(1, 1e6, 4_000)
        logs = log_student_tails(t, np.full(len(t), df), "two-sided", "compiled")
        assert np.all(np.diff(logs) < 0)


def test_logs_of_tails_at_the_edges() -> None:
    t = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1, 1])
    df = np.array([5, 500, 4, 90, 7, np.nan, 0])
    found = log_student_tails(t, df, "two-sided", "compiled")
    np.testing.assert_array_equal(found, [0, 0, -np.inf, -np.inf, np.nan, np.nan, np.nan])
