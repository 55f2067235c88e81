"""reference.permutation_test against every relabeling of a few cells."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest

from reference.nb_coefficients import Arm
from reference.permutation_test import (
    permutation_pvalue,
    random_sets,
    rounds_up_to,
    score_residuals,
)

ALPHA = 0.3


def every_pvalue(batches: list[tuple[Arm, Arm]]) -> float:
    """Return twice the share of relabelings within batches that reach the score."""
    residuals = [score_residuals(*pair, ALPHA) for pair in batches]
    sums = [
        [r[list(chosen)].sum() for chosen in combinations(range(r.size), pair[1].counts.size)]
        for r, pair in zip(residuals, batches, strict=True)
    ]
    u = sum(r[pair[0].counts.size :].sum() for r, pair in zip(residuals, batches, strict=True))
    totals = np.array([sum(parts) for parts in product(*sums)])
    reach = totals >= u - 1e-9 if u >= 0 else totals <= u + 1e-9
    return min(1.0, 2 * reach.mean())


def pair(seed: int, n0: int, n1: int, fold: float) -> tuple[Arm, Arm]:
    rng = np.random.default_rng(seed)
    s = rng.uniform(0.5, 2, n0 + n1)
    y = rng.poisson(s * np.where(np.arange(n0 + n1) >= n0, fold, 1))
    return Arm.of(y[:n0], s[:n0]), Arm.of(y[n0:], s[n0:])


@pytest.mark.parametrize("fold", [0.2, 1.0, 3.0])
def test_random_sets_find_the_share_of_all_relabelings(fold: float) -> None:
    batches = [pair(1, 9, 5, fold)]
    p, _ = permutation_pvalue(batches, ALPHA, 4, 20_000)
    exact = every_pvalue(batches)
    # Four standard errors of 20,000 draws, doubled, and one draw for the observed labels.
    assert p == pytest.approx(exact, abs=8 * np.sqrt(exact / 20_000) + 1e-4)


def test_relabeling_stays_within_batches() -> None:
    batches = [pair(2, 5, 3, 2.0), pair(3, 3, 4, 2.0)]
    p, _ = permutation_pvalue(batches, ALPHA, 4, 20_000)
    exact = every_pvalue(batches)
    assert p == pytest.approx(exact, abs=8 * np.sqrt(exact / 20_000) + 1e-4)


def test_sets_are_subsets_of_equal_chances() -> None:
    sets = random_sets(7, 3, 6_000, 5, 0)
    assert sets.shape == (6_000, 3)
    assert (np.sort(sets, axis=1)[:, 1:] != np.sort(sets, axis=1)[:, :-1]).all()
    share = np.bincount(sets.ravel(), minlength=10) / 6_000
    # Four standard errors of a share of .3 in 6,000 sets.
    np.testing.assert_allclose(share, 0.3, atol=4 * np.sqrt(0.21 / 6_000))


def test_sets_follow_seed_and_number() -> None:
    np.testing.assert_array_equal(random_sets(7, 3, 5, 5, 2), random_sets(7, 3, 5, 5, 2))
    assert (random_sets(7, 3, 50, 5, 2) != random_sets(7, 3, 50, 5, 3)).any()
    assert (random_sets(7, 3, 50, 5, 2) != random_sets(7, 3, 50, 6, 2)).any()


def test_cells_are_taken_in_the_order_of_their_size_factors() -> None:
    control, perturbed = pair(6, 30, 10, 1.5)
    turned = [Arm(arm.counts[::-1], arm.size_factors[::-1]) for arm in (control, perturbed)]
    one, _ = permutation_pvalue([(control, perturbed)], ALPHA, 4, 1_000)
    assert permutation_pvalue([(turned[0], turned[1])], ALPHA, 4, 1_000)[0] == one


def test_rounds_grow_tenfold_up_to_the_most() -> None:
    assert rounds_up_to(1_000) == [1_000]
    assert rounds_up_to(1_001) == [1_000, 1_000]
    assert rounds_up_to(100_000) == [1_000, 9_000, 90_000]
