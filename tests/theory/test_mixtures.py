"""What the mixtures share: the gate, the first splits, EM and Newton's method."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from reference.mixtures import (
    Climb,
    best_fit,
    expectation_maximization,
    gate,
    hard_splits,
    log_beta_density,
    log_lognormal_density,
    log_normal_density,
    newton_maximum,
    status_of_guide,
)


@pytest.mark.parametrize(
    ("counts", "status"),
    [
        ([], "no_counts"),
        ([0, 0, 0], "no_counts"),
        ([0, 50, 0], "too_few"),
        ([1, 1, 0, 1], "no_separation"),
        ([7] * 50, "no_separation"),
        ([0, 9, 60], None),
    ],
)
def test_gate_says_why_a_guide_cannot_be_fitted(counts: list[int], status: str | None) -> None:
    assert gate(np.array(counts, dtype=np.int64)) == status


def test_status_prefers_convergence_to_the_number_of_cells() -> None:
    still, moving = Climb(np.zeros(1), 0.0, 3, True), Climb(np.zeros(1), 0.0, 3, False)
    assert status_of_guide([0, 1, 9], still) == "weak"
    assert status_of_guide([0, 1, 9], moving) == "not_converged"
    assert status_of_guide([0] + [3] * 10, still) == "ok"


def test_splits_have_both_sides_and_are_different() -> None:
    splits = [tuple(split) for split in hard_splits([0, 1, 4, 60])]
    assert splits == [(0, 0, 1, 1), (0, 0, 0, 1), (0, 1, 1, 1)]


@pytest.mark.parametrize("lowest", [200, 100_000])
def test_splits_reach_counts_far_above_the_fixed_cuts(lowest: int) -> None:
    splits = list(hard_splits(np.array([lowest, lowest * 30])))
    assert [split.tolist() for split in splits] == [[0.0, 1.0]]


def test_newton_finds_the_maximum_of_a_concave_function() -> None:
    def log_of_exponentials(x):
        e = np.exp(x)
        return float(3.0 * x[0] + x[1] - e.sum()), np.array([3.0, 1.0]) - e, -np.diag(e)

    found = newton_maximum(log_of_exponentials, np.array([-5.0, 9.0]))
    assert found == pytest.approx([math.log(3.0), 0.0], abs=1e-12)


def test_newton_climbs_where_the_function_is_not_concave() -> None:
    def hat(x):  # log of a Cauchy density: convex beyond 1
        q = 1.0 + x[0] ** 2
        return -math.log(q), -2 * x / q, np.array([[(2 * x[0] ** 2 - 2) / q**2]])

    assert newton_maximum(hat, np.array([30.0])) == pytest.approx(0.0, abs=1e-8)


def test_newton_stops_at_a_bound_and_moves_on_along_it() -> None:
    a = np.array([[2.0, 1.0], [1.0, 3.0]])

    def bowl(x):
        away = x - np.array([4.0, 1.0])
        return float(-away @ a @ away / 2), -a @ away, -a

    found = newton_maximum(bowl, np.zeros(2), (np.full(2, -2.0), np.full(2, 2.0)))
    # x_0 stays at 2; then x_1 = 1 + a_01 / a_11 * 2.
    assert found == pytest.approx([2.0, 1.0 + 2.0 / 3.0], abs=1e-12)


def test_em_reports_when_it_runs_out_of_iterations() -> None:
    def halve(theta):
        return theta / 2

    short = expectation_maximization(np.ones(1), halve, lambda t: -t[0], 1e-10, 5)
    assert (short.n_iterations, short.converged) == (5, False)
    long = expectation_maximization(np.ones(1), halve, lambda t: -t[0], 1e-10, 500)
    assert long.converged
    assert long.theta[0] < 1e-12


def test_best_fit_takes_the_largest_objective_and_the_first_of_equals() -> None:
    climbs = [Climb(np.array([float(k)]), value, k, True) for k, value in enumerate([1, 3, 3, 2])]
    fit = best_fit("m", climbs, lambda c: "ok", lambda t: {"x": t[0]}, lambda t: -t[0])
    assert (fit.parameters, fit.objective, fit.log_likelihood) == ({"x": 1.0}, 3, -1.0)
    none = best_fit("m", [], lambda c: "ok", lambda t: {}, lambda t: 0.0)
    assert none.status == "no_separation"
    assert math.isnan(none.objective)


@pytest.mark.parametrize("x", [1e-9, 0.3, 0.999])
def test_log_densities_are_those_of_scipy(x: float) -> None:
    # Relative to rounding of sums of a few terms.
    assert log_beta_density(x, 0.1, 0.9) == pytest.approx(stats.beta.logpdf(x, 0.1, 0.9), rel=1e-10)
    dirichlet = stats.dirichlet.logpdf([1 - x, x], [0.9, 0.1])
    assert log_beta_density(x, 0.1, 0.9) == pytest.approx(dirichlet, rel=1e-7)
    lognormal = stats.lognorm.logpdf(x, 2.0, scale=math.e)
    assert log_lognormal_density(x, 1.0, 2.0) == pytest.approx(lognormal, rel=1e-12)
    normal = stats.norm.logpdf(x, 3.0, 2.0)
    assert float(log_normal_density(x, 3.0, 2.0)) == pytest.approx(normal, rel=1e-12)
