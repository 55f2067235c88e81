"""Molecules drawn from files: engines, layouts, slots, exact numbers."""

from __future__ import annotations

import layouts
import numpy as np
import pytest
import slots

import crispyx as cx
from crispyx.data import downsample
from crispyx.errors import InputError

WAYS = [
    {"counts_per_cell": 20},
    {"counts_per_cell": 20, "replace": True},
    {"total_counts": 500},
    {"quantile": 0.2},
]


def drawn(data, output, **options) -> np.ndarray:
    copy = cx.pp.downsample_counts(data, output_path=output, **options)
    return copy.to_memory().X.toarray()


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_engines_layouts_blocks_and_threads_draw_the_same_molecules(
    tmp_path, way, monkeypatch
) -> None:
    screen = layouts.count_screen()
    path = layouts.write_h5ad(tmp_path / "csr.h5ad", *screen)
    expected = drawn(path, tmp_path / "expected.h5ad", **way)
    with cx.use_engine("reference"):
        np.testing.assert_array_equal(drawn(path, tmp_path / "reference.h5ad", **way), expected)
    monkeypatch.setattr(downsample, "STREAM_VALUES", 37)
    monkeypatch.setattr(cx.settings, "n_threads", 3)
    for layout in ("csc", "dense"):
        other = layouts.write_h5ad(tmp_path / f"{layout}.h5ad", *screen, layout=layout)
        np.testing.assert_array_equal(
            drawn(other, tmp_path / f"{layout}_out.h5ad", **way), expected
        )


def test_numbers_are_exact(tmp_path) -> None:
    values, labels = layouts.count_screen()
    path = layouts.write_h5ad(tmp_path / "screen.h5ad", values, labels)
    totals = values.sum(axis=1)
    kept = drawn(path, tmp_path / "cells.h5ad", counts_per_cell=20)
    np.testing.assert_array_equal(kept.sum(axis=1), np.minimum(totals, 20))
    assert (kept <= values).all()
    assert drawn(path, tmp_path / "total.h5ad", total_counts=500).sum() == 500
    each = np.arange(len(totals))
    kept = drawn(path, tmp_path / "each.h5ad", counts_per_cell=each)
    np.testing.assert_array_equal(kept.sum(axis=1), np.minimum(totals, each))


def test_other_slots_and_the_type_are_kept(tmp_path) -> None:
    values, labels = layouts.count_screen()
    adata = slots.rich(values.astype(np.int32), labels)
    copy = cx.pp.downsample_counts(adata, counts_per_cell=20, output_path=tmp_path / "o.h5ad")
    found = copy.to_memory()
    assert found.X.dtype == np.int32
    assert set(found.layers) == set(adata.layers)
    assert found.obs["depth"].tolist() == adata.obs["depth"].tolist()


@pytest.mark.parametrize(
    "way", [{}, {"total_counts": 5, "replace": True}, {"counts_per_cell": [1, 2]}, {"quantile": 2}]
)
def test_impossible_requests_are_refused(tmp_path, way) -> None:
    adata = layouts.in_memory(*layouts.count_screen(), np.asarray)
    with pytest.raises(InputError):
        cx.pp.downsample_counts(adata, output_path=tmp_path / "o.h5ad", **way)
    assert not (tmp_path / "o.h5ad").exists()


def test_values_that_are_no_counts_are_refused(tmp_path) -> None:
    path = layouts.write_h5ad(tmp_path / "log.h5ad", *layouts.log_screen())
    with pytest.raises(InputError, match="downsample_counts needs counts"):
        cx.pp.downsample_counts(path, counts_per_cell=5)
