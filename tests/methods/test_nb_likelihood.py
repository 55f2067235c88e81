"""The compiled likelihood against reference.nb_likelihood."""

from __future__ import annotations

import numpy as np
import pytest
from grouped_counts import drawn_counts, grouped_counts, small_counts
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import gene_block, membership_of
from strategies import cases

from crispyx._stats.nb_likelihood import Counts, cell_table, grouped_cells, likelihood_sums

# Node sums are exact to about 1e-14; alpha-slopes cancel by up to 1 / (alpha mu).
RTOL = {"slope": 1e-8, "curvature": 1e-8}


def assert_same(counts: Counts, eta: np.ndarray, alpha: np.ndarray, min_mu: float) -> None:
    compiled = likelihood_sums(counts, eta, alpha, min_mu, "compiled")
    defined = likelihood_sums(counts, eta, alpha, min_mu, "reference")
    scale = 1 + np.abs(eta) + counts.table.n_cells[:, None]
    for name, table in compiled.items():
        error = np.abs(table - defined[name])
        assert (error <= RTOL.get(name, 1e-11) * (scale + np.abs(defined[name]))).all(), name


@pytest.mark.parametrize("min_mu", [0.0, 0.5, 3.0])
def test_compiled_sums_are_the_defined_ones(min_mu: float) -> None:
    counts = drawn_counts(1, [150, 40, 12, 3], 12)
    rng = np.random.default_rng(2)
    eta = rng.normal(-0.5, 2, (4, 12))
    assert_same(counts, eta, np.exp(rng.normal(-1, 2, (4, 12))), min_mu)


@settings(max_examples=40, deadline=None)
@given(small_counts(), st.floats(-6, 4), st.floats(-8, 5), st.sampled_from([0.0, 0.5]))
def test_compiled_sums_hold_for_any_counts(
    counts: Counts, eta: float, log_alpha: float, min_mu: float
) -> None:
    shape = (counts.table.n_groups, counts.n_genes)
    assert_same(counts, np.full(shape, eta), np.full(shape, np.exp(log_alpha)), min_mu)


@pytest.mark.parametrize("spread", [0.0, 0.3, 1.2])
def test_summed_rows_stand_for_the_cells_from_any_rank_on(spread: float) -> None:
    s = np.exp(np.random.default_rng(3).normal(0, spread, 301))
    table = cell_table(s, np.array([0, 301]))
    np.testing.assert_array_equal(table.size_factors, np.sort(s))
    for x in (-4.0, 0.0, 3.0):
        at_cells, at_nodes = (
            np.log1p(np.exp(x) * v) for v in (table.size_factors, table.node_s[0])
        )
        for block in (0, 7, 37, 38):
            expected = at_cells[8 * block :].sum()
            # 33 natural logs of accuracy were asked for: 5e-15 of a sum of 301 terms.
            assert table.suffix[block] @ at_nodes == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_more_nodes_serve_a_wider_range() -> None:
    widths = [cell_table(np.exp([-h, h]), np.array([0, 2])).rows.shape[1] for h in (0.1, 1.2, 3)]
    assert widths == [16, 24, 40]


def test_ranks_follow_the_size_factors_of_each_group() -> None:
    counts = grouped_counts(
        np.array([[5.0], [0], [7], [9]]), np.array([1, 0, 0, 1]), np.array([3.0, 2, 1, 0.5])
    )
    np.testing.assert_array_equal(counts.dense(0, 0), [7, 0])
    np.testing.assert_array_equal(counts.dense(0, 1), [9, 5])
    np.testing.assert_array_equal(counts.table.of_group(1), [0.5, 3])


@given(cases(), st.integers(1, 3))
def test_every_group_holds_the_counts_of_its_cells(case: tuple, n_threads: int) -> None:
    values, design = case
    values = np.abs(values)
    groups = [own if design.pool is None else [k - 1 for k in own] for own in design.groups]
    membership = membership_of(groups, design.n_groups)
    s = 1 + np.random.default_rng(0).permutation(len(values)) / 7
    table = grouped_cells(s, membership, n_threads)
    counts = Counts.of_block(gene_block(values), membership, table, n_threads)
    for k in range(design.n_groups):
        cells = np.array([i for i, own in enumerate(groups) if k in own], dtype=int)
        by_rank = cells[np.argsort(s[cells])]
        np.testing.assert_array_equal(table.of_group(k), s[by_rank])
        for g in range(values.shape[1]):
            np.testing.assert_array_equal(counts.dense(g, k), values[by_rank, g])


def test_sums_do_not_depend_on_threads() -> None:
    counts = drawn_counts(1, [60, 20], 9)
    eta, alpha = np.zeros((2, 9)), np.full((2, 9), 0.3)
    one, three = (likelihood_sums(counts, eta, alpha, 0.5, "compiled", n) for n in (1, 3))
    for name, table in one.items():
        np.testing.assert_array_equal(table, three[name])
