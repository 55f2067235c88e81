"""What the calibration tool draws, writes and counts is what the definition says."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

import reference.calibration as definition
from crispyx._io.source import open_source
from crispyx._stats import calibration as engine
from crispyx.de.calibration_tables import N_QUANTILES, quantiles_of, shares_of
from crispyx.de.null_designs import Cells, Design, depth_designs, split_designs
from crispyx.de.null_files import write_thinned

CELLS = Cells(
    names=("a", "b", "c"),
    in_batch=np.array([[4, 2], [3, 9], [6, 1]]),
    ratio=np.array([0.5, 1.0, 1.6]),
    batch=np.array([0, 1] * 20),
)


def test_there_is_one_definition() -> None:
    for name in engine.__all__:
        assert getattr(engine, name) is getattr(definition, name)


@pytest.mark.parametrize("split", range(4))
def test_splits_are_those_of_the_definition(split: int) -> None:
    design = list(split_designs(CELLS, 4, 2, True, random_state=7))[split]
    rng = definition.split_generator(7, "splits", split)
    chosen, sizes = definition.groups_that_fit(
        CELLS.in_batch, np.bincount(CELLS.batch), rng.permutation(3).tolist(), 2
    )
    labels = definition.split_within_batches(CELLS.batch, sizes, rng)
    np.testing.assert_array_equal(design.labels, labels)
    assert design.names == tuple(CELLS.names[k] for k in chosen)
    assert design.kept.tolist() == [1.0, *np.minimum(CELLS.ratio[chosen], 1)]


def test_depths_are_met_by_thinning_groups_or_the_control() -> None:
    shifted = np.array([True, False, True])
    shallow, deep = depth_designs(CELLS, shifted, 1, 5, random_state=0)
    assert (shallow.names, shallow.kept.tolist()) == (("a",), [1.0, 0.5])
    assert (deep.names, deep.kept.tolist()) == (("c",), [1 / 1.6, 1.0])


def test_written_cells_are_thinned_one_by_one_as_the_definition_says(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).poisson(2.0, (40, 6))
    anndata.AnnData(sp.csr_matrix(counts.astype(np.float32))).write_h5ad(tmp_path / "control.h5ad")
    labels = np.array([0, 1, 2, 1] * 10)
    design = Design("depth", 3, ("a", "b"), labels, np.array([1.0, 0.4, 0.7]))
    with open_source(tmp_path / "control.h5ad") as control:
        genes = np.array([f"g{j}" for j in range(6)])
        write_thinned(control, genes, design, None, 5, tmp_path / "thinned.h5ad")
    found = anndata.read_h5ad(tmp_path / "thinned.h5ad").X.toarray()
    for cell, label in enumerate(labels):
        stored = counts[cell] > 0
        expected = counts[cell].copy()
        if label:
            rng = definition.cell_generator(5, "depth", 3, cell)
            expected[stored] = definition.thinned(counts[cell][stored], design.kept[label], rng)
        np.testing.assert_array_equal(found[cell], expected)
    assert found.sum() < counts.sum()


def test_tables_hold_the_numbers_of_the_definition() -> None:
    p = np.random.default_rng(1).random(500) ** 1.1
    row = shares_of(p)
    for level, name in ((0.05, "05"), (0.01, "01"), (0.001, "001")):
        columns = (row[f"share_{name}"], row[f"low_{name}"], row[f"high_{name}"])
        assert columns == definition.share_below(p, level)
    assert row["tests"] == 500
    assert row["inflation"] == definition.inflation(p)
    table = quantiles_of(p)
    expected = definition.quantiles(p, definition.ranks_of(500, N_QUANTILES))
    assert list(table) == ["expected", "observed", "low", "high"]
    for found, column in zip(table.values(), expected, strict=True):
        np.testing.assert_array_equal(found, column)
