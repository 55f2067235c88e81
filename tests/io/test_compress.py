"""Compressed copies of files: smaller, with the same numbers in every slot."""

from __future__ import annotations

import warnings

import anndata
import h5py
import layouts
import numpy as np
import pytest
import scipy.sparse as sp
import slots

import crispyx as cx
from crispyx._io import compression
from crispyx.errors import InputError


def rich(path, form=sp.csr_matrix, dtype="f8") -> anndata.AnnData:
    values, labels = layouts.count_screen(n_cells=200, n_genes=40)
    adata = slots.rich(values.astype(dtype), labels, form)
    adata.write_h5ad(path)
    return anndata.read_h5ad(path)


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, np.asarray])
@pytest.mark.parametrize("method", ["gzip", "lzf"])
def test_every_slot_keeps_its_values(tmp_path, form, method, monkeypatch) -> None:
    monkeypatch.setattr(compression, "SLAB_BYTES", 3000)
    monkeypatch.setattr(compression, "SMALL", 64)
    path = tmp_path / "wide.h5ad"
    expected = rich(path, form)
    before = path.read_bytes()
    copy = cx.data.compress_h5ad(path, compression=method, values="keep")
    assert copy.path == tmp_path / "wide_compressed.h5ad"
    found = copy.to_memory()
    slots.assert_same_slots(found, expected, added_uns=["crispyx"])
    slots.assert_same_value(found.X, expected.X, "X")
    assert path.read_bytes() == before
    with h5py.File(copy.path) as file:
        node = file["X"] if form is np.asarray else file["X/data"]
        assert node.compression == method


@pytest.mark.parametrize(("values", "dtype"), [("float32", "f4"), ("smallest", "u1")])
def test_counts_go_to_the_smaller_type_asked_for(tmp_path, values, dtype) -> None:
    path = tmp_path / "wide.h5ad"
    expected = rich(path)
    copy = cx.data.compress_h5ad(path, values=values)
    found = copy.to_memory()
    assert found.X.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found.X.toarray(), expected.X.toarray())
    assert copy.path.stat().st_size < path.stat().st_size


def test_no_type_is_taken_that_loses_a_bit(tmp_path) -> None:
    values = np.random.default_rng(0).normal(size=(100, 30))  # needs 64 bits
    path = tmp_path / "exact.h5ad"
    anndata.AnnData(values).write_h5ad(path)
    found = cx.data.compress_h5ad(path, values="smallest").to_memory()
    assert found.X.dtype == np.float64
    np.testing.assert_array_equal(found.X, values)


def test_a_copy_that_differs_never_gets_its_name(tmp_path, monkeypatch) -> None:
    path = tmp_path / "wide.h5ad"
    rich(path)
    monkeypatch.setattr(compression, "_smallest", lambda node, values: np.dtype(bool))
    monkeypatch.setattr(compression, "SMALL", 0)
    with pytest.raises(InputError, match="not copied exactly"):
        cx.data.compress_h5ad(path)
    assert [file.name for file in tmp_path.iterdir()] == ["wide.h5ad"]


@pytest.mark.parametrize("options", [{"compression": "zip"}, {"level": 10}, {"values": "f2"}])
def test_wrong_words_are_refused(tmp_path, options) -> None:
    path = tmp_path / "wide.h5ad"
    rich(path)
    with pytest.raises(InputError):
        cx.data.compress_h5ad(path, **options)


def test_stores_are_refused_with_the_way_out(tmp_path) -> None:
    pytest.importorskip("zarr")
    store = tmp_path / "screen.zarr"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of formats to come
        rich(tmp_path / "wide.h5ad").write_zarr(store)
    with pytest.raises(InputError, match=r"is a zarr store; .*convert_to_csc"):
        cx.data.compress_h5ad(store)
    file = cx.data.convert_to_csc(store, output_path=tmp_path / "o.h5ad", verbose=False)
    assert cx.data.compress_h5ad(file.path).path.name == "o_compressed.h5ad"
