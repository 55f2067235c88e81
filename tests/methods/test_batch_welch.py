"""The compiled t-test within batches against the reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import grouped, membership_of
from strategies import Design, designs

from crispyx._jobs.batches import Batches
from crispyx._kernels.layout import GroupedGenes
from crispyx._stats.batch_welch import batch_welch_tests
from crispyx._stats.moments import comparison_arms
from crispyx._stats.van_elteren import SIDES
from crispyx._stats.welch import welch_tests
from reference.batch_welch import welch_in_batches

ALTERNATIVES = st.sampled_from(sorted(SIDES))
ORDINARY = st.sampled_from([0, 0, 0] + [float(np.log1p(x)) for x in range(1, 9)])


def in_batches(values: np.ndarray, design: Design, batch_of_cell: list[int]) -> list[GroupedGenes]:
    """Return the genes of every batch, as the comparisons see them."""
    n_batches = max(batch_of_cell, default=0) + 1
    batches = Batches("batch", tuple(map(str, range(n_batches))), np.array(batch_of_cell))
    membership = membership_of(design.groups, design.n_groups, design.pool)
    block = grouped(values, batches.beside(membership))
    return [block.part((1 + b) * design.n_groups, design.n_groups) for b in range(n_batches)]


@given(designs(), st.data(), ALTERNATIVES)
def test_all_tables_are_the_references_for_the_cells_of_each_batch(
    design: Design, data, alternative: str
) -> None:
    n = len(design.groups)
    values = np.array([data.draw(st.lists(ORDINARY, min_size=n, max_size=n))], dtype=float).T
    batch = data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    blocks = in_batches(values, design, batch)
    found = np.array(batch_welch_tests(blocks, alternative, "compiled", 2))
    for k, g in np.ndindex(found.shape[1:]):
        arms = [
            tuple(
                values[[i for i in cells if batch[i] == b], g]
                for cells in (design.control_of(k + 1), design.cells(k + 1))
            )
            for b in range(max(batch) + 1)
        ]
        expected = welch_in_batches(arms, alternative)
        difference, statistic, pvalue, df = found[:, k, g]
        # 24 additions of values below 2.3 and a standard error above 0.01; 1e-12 where means meet.
        np.testing.assert_allclose(difference, expected.difference, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(statistic, expected.statistic, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(pvalue, expected.pvalue, rtol=1e-9)
        if not np.isnan(statistic):
            np.testing.assert_allclose(df, expected.degrees_of_freedom, rtol=1e-10)


@given(designs(), st.data(), ALTERNATIVES)
def test_reference_engine_is_the_reference(design: Design, data, alternative: str) -> None:
    n = len(design.groups)
    values = np.array([data.draw(st.lists(ORDINARY, min_size=n, max_size=n))], dtype=float).T
    block = design.block(values)
    found = batch_welch_tests([block, block], alternative, "reference")
    for k, g in np.ndindex(found[0].shape):
        arms = values[design.control_of(k + 1), g], values[design.cells(k + 1), g]
        test = welch_in_batches([arms, arms], alternative)
        expected = test.difference, test.statistic, test.pvalue, test.degrees_of_freedom
        np.testing.assert_allclose([table[k, g] for table in found], expected, rtol=1e-13)


@given(designs(), st.data())
def test_one_batch_is_welchs_test_to_the_last_bit(design: Design, data) -> None:
    n = len(design.groups)
    values = np.array([data.draw(st.lists(ORDINARY, min_size=n, max_size=n))], dtype=float).T
    block = design.block(values)
    [batch] = in_batches(values, design, [0] * n)
    control, perturbed = comparison_arms(block, "compiled")
    difference, statistic, pvalue, _ = batch_welch_tests([batch], "two-sided", "compiled")
    expected = welch_tests(block, control, perturbed, "compiled")
    np.testing.assert_array_equal((statistic, pvalue), expected[:2])
    tested = (control.n_cells >= 2) & (perturbed.n_cells >= 2) & np.ones(statistic.shape, bool)
    np.testing.assert_array_equal(difference[tested], (perturbed.mean - control.mean)[tested])


@pytest.mark.parametrize("alternative", ["greater", "less"])
def test_halves_of_a_two_sided_p_lie_on_the_side_of_the_statistic(alternative: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.poisson(1.0, (60, 9)).astype(float)
    design = Design([[int(k)] for k in rng.integers(0, 4, 60)], 4)
    blocks = in_batches(values, design, rng.integers(0, 3, 60).tolist())
    _, t, both, _ = batch_welch_tests(blocks, "two-sided", "compiled")
    _, _, one, _ = batch_welch_tests(blocks, alternative, "compiled")
    towards = (t > 0) == (alternative == "greater")
    np.testing.assert_allclose(one, np.where(towards, both / 2, 1 - both / 2), rtol=1e-12)
