"""The compiled test within batches against the reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import grouped, membership_of
from strategies import Design, cases

from crispyx._jobs.batches import Batches
from crispyx._kernels.layout import GroupedGenes
from crispyx._stats.rank_sum import rank_sum_tests
from crispyx._stats.van_elteren import SIDES, van_elteren_tests
from reference.van_elteren import van_elteren

ALTERNATIVES = st.sampled_from(sorted(SIDES))


def in_batches(values: np.ndarray, design: Design, batch_of_cell: list[int]) -> list[GroupedGenes]:
    """Return the genes of every batch, as the comparisons see them."""
    n_batches = max(batch_of_cell, default=0) + 1
    batches = Batches("batch", tuple(map(str, range(n_batches))), np.array(batch_of_cell))
    plain = design.block(values)
    membership = membership_of(design.groups, design.n_groups, design.pool)
    block = grouped(values, batches.beside(membership))
    return [block.part((1 + b) * plain.n_groups, plain.n_groups) for b in range(n_batches)]


@given(cases(), st.data(), st.booleans(), ALTERNATIVES)
def test_all_tables_are_the_references_for_the_cells_of_each_batch(
    case, data, tie_correct: bool, alternative: str
) -> None:
    values, design = case
    n = len(values)
    batch = data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    blocks = in_batches(values, design, batch)
    u, z, p, effect = van_elteren_tests(blocks, tie_correct, alternative, "compiled", 2)
    for k, g in np.ndindex(u.shape):
        arms = [
            tuple(
                values[[i for i in cells if batch[i] == b], g]
                for cells in (design.control_of(k + 1), design.cells(k + 1))
            )
            for b in range(max(batch) + 1)
        ]
        expected = van_elteren(arms, tie_correct, alternative)
        np.testing.assert_allclose(u[k, g], expected.u, rtol=1e-14)
        # A few roundings of every batch, larger than z itself where batches cancel.
        np.testing.assert_allclose(z[k, g], expected.z, rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(p[k, g], expected.pvalue, rtol=1e-11)
        np.testing.assert_allclose(effect[k, g], expected.effect_size, rtol=1e-13, atol=1e-15)


@given(cases(), ALTERNATIVES)
def test_reference_engine_is_the_reference(case, alternative: str) -> None:
    values, design = case
    block = design.block(values)
    found = van_elteren_tests([block, block], True, alternative, "reference")
    for k, g in np.ndindex(found[0].shape):
        arms = values[design.control_of(k + 1), g], values[design.cells(k + 1), g]
        expected = van_elteren([arms, arms], True, alternative)
        np.testing.assert_array_equal([table[k, g] for table in found], expected)


@given(cases(), st.booleans(), st.integers(1, 3))
def test_one_batch_is_the_plain_test_to_the_last_bit(case, tie_correct, n_threads) -> None:
    values, design = case
    [batch] = in_batches(values, design, [0] * len(values))
    block = design.block(values)
    u, z, p, effect = van_elteren_tests([batch], tie_correct, "two-sided", "compiled", n_threads)
    for found, expected in zip(
        (u, z, p), rank_sum_tests(block, tie_correct, "compiled"), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    assert np.all(np.isnan(effect) == np.isnan(u))


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_number_of_threads_changes_no_bit(n_threads: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.poisson(1.0, (60, 9)).astype(float)
    design = Design([[int(k)] for k in rng.integers(0, 4, 60)], 4)
    blocks = in_batches(values, design, rng.integers(0, 3, 60).tolist())
    one = van_elteren_tests(blocks, True, "greater", "compiled", 1)
    more = van_elteren_tests(blocks, True, "greater", "compiled", n_threads)
    np.testing.assert_array_equal(one, more)
