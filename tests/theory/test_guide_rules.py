"""Guide rules against their definitions and crispat's published assignments."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from reference.guide_rules import assign_max, assign_quantiles, assign_ratio, assign_umi

guide_counts = arrays(np.int64, (4, 3), elements=st.integers(0, 12))
RULES = [assign_umi, assign_max, assign_ratio]
ALL_RULES = [*RULES, assign_quantiles]


@given(guide_counts, st.integers(0, 8))
@settings(deadline=None)
def test_umi_assigns_every_guide_at_or_above_the_threshold(counts, threshold) -> None:
    expected = [[y >= threshold and y > 0 for y in cell] for cell in counts.tolist()]
    assert assign_umi(counts, threshold).tolist() == expected


@given(guide_counts, st.integers(0, 8))
@settings(deadline=None)
def test_max_assigns_the_only_winner_above_the_floor(counts, floor) -> None:
    expected = [
        [y > 0 and y >= floor and y == max(cell) and cell.count(y) == 1 for y in cell]
        for cell in counts.tolist()
    ]
    assert assign_max(counts, floor).tolist() == expected


@given(guide_counts, st.integers(0, 99))
@settings(deadline=None, max_examples=300)
def test_ratio_compares_exact_fractions(counts, percent) -> None:
    expected = [
        [y > 0 and y == max(cell) and Fraction(y, sum(cell)) > Fraction(percent, 100) for y in cell]
        for cell in counts.tolist()
    ]
    assert assign_ratio(counts, percent / 100).tolist() == expected


def test_ratio_is_strict_at_every_exact_fraction() -> None:
    # The largest of s UMIs is exactly the threshold k / 100 wherever 100 divides k s.
    for k in range(51, 100):
        for s in range(1, 601):
            if k * s % 100 == 0:
                y = k * s // 100
                assert not assign_ratio([[y, s - y]], k / 100).any()
                assert assign_ratio([[y + 1, s - y - 1]], k / 100).tolist() == [[True, False]]


def test_product_with_the_threshold_would_not_be_strict() -> None:
    # 57 UMIs of 100 are not more than 0.57, but 57 > 0.57 * 100 = 56.99999999999999 in float64.
    assert 57 > 0.57 * 100
    assert not assign_ratio([[57, 43]], 0.57).any()


def test_ties_are_dropped_by_max_and_kept_by_ratio() -> None:
    counts = np.array([[4, 4, 1], [5, 4, 1]])
    assert assign_max(counts).tolist() == [[False] * 3, [True, False, False]]
    assert assign_ratio(counts).tolist() == [[True, True, False], [True, False, False]]


def test_guide_below_the_maximum_is_not_assigned_by_ratio() -> None:
    # 4 of 9 are above 0.3 but not the largest proportion.
    assert assign_ratio([[5, 4, 0]]).tolist() == [[True, False, False]]


@pytest.mark.parametrize("rule", RULES)
def test_cell_without_guide_counts_has_no_guide(rule: Callable) -> None:
    assert not rule(np.zeros((2, 3), dtype=np.int64), 0).any()


@pytest.mark.parametrize("rule", ALL_RULES)
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_tables_without_cells_or_guides(rule: Callable, shape: tuple[int, int]) -> None:
    assigned = rule(np.zeros(shape, dtype=np.uint32))
    assert assigned.shape == shape
    assert assigned.dtype == bool


@pytest.mark.parametrize("rule", ALL_RULES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.int64, np.float32])
def test_dtype_of_the_counts_does_not_matter(rule: Callable, dtype: type) -> None:
    counts = np.random.default_rng(2).poisson(3, (200, 5))
    assert np.array_equal(rule(counts.astype(dtype)), rule(counts))


@pytest.mark.parametrize(
    ("published", "assign"),
    [
        ("umi_t5", lambda counts: assign_umi(counts, 5)),
        ("max_umi3", lambda counts: assign_max(counts, 3)),
        ("ratio_t0.3", lambda counts: assign_ratio(counts, 0.3)),
        ("quantiles_t0.1", lambda counts: assign_quantiles(counts, 0.1)),
    ],
    ids=["umi", "max", "ratio", "quantiles"],
)
def test_equals_crispat_on_the_schraivogel_screen(
    data_dir: Path, published: str, assign: Callable
) -> None:
    guides = ad.read_h5ad(data_dir / "schraivogel_gRNA_counts.h5ad")
    cell, guide = np.nonzero(assign(guides.X.toarray()))
    ours = set(zip(guides.obs_names[cell], guides.var_names[guide], strict=True))
    table = pd.read_csv(data_dir / "crispat_reference" / f"{published}.csv.gz")
    theirs = set(zip(table["cell"], table["gRNA"], strict=True))
    assert len(theirs) > 5_000
    assert ours == theirs


@given(guide_counts, st.integers(1, 100))
@settings(deadline=None)
def test_quantiles_take_the_floor_of_the_exact_fraction(counts, percent) -> None:
    assigned = assign_quantiles(counts, percent / 100)
    seen = np.count_nonzero(counts, axis=0)
    assert assigned.sum(axis=0).tolist() == [int(percent * n) // 100 for n in seen]
    assert not (assigned & (counts == 0)).any()


@given(guide_counts, st.integers(1, 100))
@settings(deadline=None)
def test_quantiles_leave_no_cell_with_a_higher_proportion(counts, percent) -> None:
    assigned = assign_quantiles(counts, percent / 100)
    for guide in range(counts.shape[1]):
        shares = {
            cell: Fraction(int(counts[cell, guide]), int(counts[cell].sum()))
            for cell in np.flatnonzero(counts[:, guide])
        }
        taken = [share for cell, share in shares.items() if assigned[cell, guide]]
        left = [share for cell, share in shares.items() if not assigned[cell, guide]]
        assert not taken or not left or min(taken) >= max(left)


def test_quantile_is_read_as_it_is_written() -> None:
    # 0.29 * 100 is 28.999999999999996 in float64.
    assert math.floor(0.29 * 100) == 28
    counts = np.random.default_rng(0).integers(1, 50, (100, 2))
    assert assign_quantiles(counts, 0.29).sum(axis=0).tolist() == [29, 29]


def test_quantiles_break_ties_by_the_order_of_the_cells() -> None:
    counts = np.array([[1, 3], [2, 2], [3, 3], [3, 3]])
    # Proportions 1/4, 1/2, 1/2, 1/2.
    assert np.flatnonzero(assign_quantiles(counts, 0.25)[:, 0]).tolist() == [1]
    assert np.flatnonzero(assign_quantiles(counts, 0.5)[:, 0]).tolist() == [1, 2]
