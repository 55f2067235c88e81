"""Quality control against counting by hand and an independent transcription."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_array_equal

from reference.qc import (
    cells_per_gene,
    filter_cells,
    filter_genes,
    filter_perturbations,
    genes_per_cell,
    quality_control,
)

COUNTS = np.array([[1, 0, 2], [0, 0, 3], [5, 1, 0], [0, 0, 0], [1, 1, 1]])
LABELS = ["A", "ctrl", "A", "B", "B"]


def test_counting_by_hand() -> None:
    assert genes_per_cell(COUNTS).tolist() == [2, 1, 2, 0, 3]
    assert cells_per_gene(COUNTS).tolist() == [3, 2, 3]


def test_only_values_above_zero_are_expressed() -> None:
    values = np.array([[-1.0, -0.0, 0.0, 0.5]])
    assert genes_per_cell(values).tolist() == [1]
    assert cells_per_gene(values).tolist() == [0, 0, 0, 1]


def test_thresholds_are_inclusive() -> None:
    everyone = np.ones(5, dtype=bool)
    assert filter_cells(COUNTS, 2).tolist() == [True, False, True, False, True]
    assert filter_genes(COUNTS, everyone, 3).tolist() == [True, False, True]
    assert filter_perturbations(LABELS, everyone, "ctrl", 2) == {"A": True, "ctrl": True, "B": True}
    assert not filter_perturbations(LABELS, everyone, "ctrl", 3)["A"]


def test_perturbations_are_counted_among_surviving_cells() -> None:
    # B has two cells, one of which expresses nothing.
    result = quality_control(COUNTS, LABELS, "ctrl", 1, 2, 1)
    assert result.perturbation_keep == {"A": True, "ctrl": True, "B": False}
    assert result.cell_mask.tolist() == [True, True, True, False, False]


def test_genes_are_counted_in_the_remaining_cells() -> None:
    # Gene 1 is seen in two cells of the screen, but one of them goes with its perturbation.
    result = quality_control(COUNTS, LABELS, "ctrl", 1, 2, 2)
    assert result.cells_per_gene.tolist() == [2, 1, 2]
    assert result.gene_mask.tolist() == [True, False, True]
    assert result.genes_per_cell.tolist() == [2, 1, 2, 0, 3]


def test_control_is_kept_whatever_its_size() -> None:
    everyone = np.ones(5, dtype=bool)
    assert filter_perturbations(LABELS, everyone, "ctrl", 100) == {
        "A": False, "ctrl": True, "B": False,
    }  # fmt: skip
    nobody = np.zeros(5, dtype=bool)
    assert filter_perturbations(LABELS, nobody, "ctrl", 1)["ctrl"]


def test_labels_come_in_order_of_first_appearance() -> None:
    keep = quality_control(COUNTS, LABELS, "ctrl", 0, 0, 0).perturbation_keep
    assert list(keep) == ["A", "ctrl", "B"]
    assert all(type(kept) is bool for kept in keep.values())


def test_zero_thresholds_keep_everything() -> None:
    result = quality_control(COUNTS, LABELS, "ctrl", 0, 0, 0)
    assert result.cell_mask.all()
    assert result.gene_mask.all()


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_screens_without_cells_or_genes(shape: tuple[int, int]) -> None:
    result = quality_control(np.zeros(shape), ["ctrl"] * shape[0], "ctrl", 1, 1, 1)
    assert result.cell_mask.shape == shape[:1]
    assert result.gene_mask.shape == shape[1:]
    assert not result.cell_mask.any()


@given(
    arrays(np.int64, (12, 6), elements=st.integers(0, 2)),
    st.lists(st.sampled_from(["ctrl", "A", "B", "C"]), min_size=12, max_size=12),
    st.tuples(st.integers(0, 6), st.integers(0, 5), st.integers(0, 8)),
)
@settings(deadline=None)
def test_agrees_with_cell_by_cell_counting(counts, labels, thresholds) -> None:
    min_genes, min_cells, min_cells_per_gene = thresholds
    cells = [i for i in range(12) if sum(v > 0 for v in counts[i]) >= min_genes]
    size = {name: sum(labels[i] == name for i in cells) for name in labels}
    kept = {name for name in labels if name == "ctrl" or size[name] >= min_cells}
    cells = [i for i in cells if labels[i] in kept]
    genes = [j for j in range(6) if sum(counts[i, j] > 0 for i in cells) >= min_cells_per_gene]
    result = quality_control(counts, labels, "ctrl", *thresholds)
    assert_array_equal(np.flatnonzero(result.cell_mask), cells)
    assert_array_equal(np.flatnonzero(result.gene_mask), genes)
    assert {name for name, keep in result.perturbation_keep.items() if keep} == kept
