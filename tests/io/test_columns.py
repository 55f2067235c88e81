"""Some columns of a matrix are those columns, whatever it is stored as."""

from __future__ import annotations

from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import slots
from hypothesis import given
from hypothesis import strategies as st
from layouts import count_screen
from strategies import matrices

from crispyx._io.columns import ChosenArray, choose_columns
from crispyx._io.compressed import CompressedStorage
from crispyx._io.copies import fill_copy
from crispyx._io.dense import DenseStorage
from crispyx._io.source import open_source
from crispyx._io.subset import Subset, fill_subset
from crispyx._io.writer import new_h5ad, write_compressed
from crispyx._run.fingerprint import fingerprint

LAYOUTS = ["csr", "csc", "dense"]
IDENTITY = fingerprint("copy", {"path": None}, {})
FORMS = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "dense": np.asarray}


def storage_of(values: np.ndarray, layout: str) -> CompressedStorage | DenseStorage:
    if layout == "dense":
        return DenseStorage(values, "here")
    matrix = FORMS[layout](values)
    shape = values.shape if layout == "csr" else values.shape[::-1]
    return CompressedStorage(matrix.data, matrix.indices, matrix.indptr, *shape, "here", layout)


@given(matrices(7), st.sampled_from(LAYOUTS), st.integers(1, 20), st.integers(1, 9), st.randoms())
def test_chosen_columns_are_those_of_the_matrix(
    values: np.ndarray, layout: str, max_values: int, max_major: int, random
) -> None:
    n_columns = values.shape[1]
    chosen = np.array(sorted(random.sample(range(n_columns), random.randint(1, n_columns))))
    storage = choose_columns(storage_of(values, layout), layout, chosen)
    expected = values[:, chosen] if layout != "csc" else values[:, chosen].T
    assert (storage.n_major, storage.n_minor) == expected.shape
    blocks = list(storage.blocks(0, storage.n_major, max_values=max_values, max_major=max_major))
    assert [b.start for b in blocks] == [0, *[b.stop for b in blocks[:-1]]]
    assert all(b.n_major <= max_major for b in blocks)
    found = [
        sp.csr_matrix((b.values, b.minor, b.ptr), shape=(b.n_major, storage.n_minor)).toarray()
        for b in blocks
    ]
    np.testing.assert_array_equal(np.concatenate(found), expected)
    start = random.randrange(storage.n_major)
    (part,) = storage.blocks(start, storage.n_major, max_values=1 << 62, max_major=1 << 62)
    shape = (part.n_major, storage.n_minor)
    again = sp.csr_matrix((part.values, part.minor, part.ptr), shape=shape)
    np.testing.assert_array_equal(again.toarray(), expected[start:])
    if layout == "dense":
        assert storage.n_stored == expected.size
    else:
        assert storage.n_stored == np.count_nonzero(expected)


def test_array_is_sliced_on_both_axes() -> None:
    values = np.arange(20.0).reshape(4, 5)
    array = ChosenArray(values, np.array([1, 3, 4]))
    np.testing.assert_array_equal(array[1:3], values[1:3, [1, 3, 4]])
    np.testing.assert_array_equal(array[:, 1:3], values[:, [3, 4]])
    assert array[:, 3:9].shape == (4, 0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("inside", ["", "mod/rna"])
def test_copies_of_chosen_columns_keep_every_slot(tmp_path: Path, layout: str, inside: str) -> None:
    counts, labels = count_screen(n_cells=30, n_genes=11)
    whole = slots.rich(counts, labels, FORMS[layout])
    whole.var["feature_types"] = np.where(np.arange(11) % 3 == 1, "b", "a")
    path = tmp_path / ("in.h5mu" if inside else "in.h5ad")
    whole.write_h5ad(tmp_path / "whole.h5ad")
    with h5py.File(tmp_path / "whole.h5ad") as given, h5py.File(path, "w") as file:
        target = file.require_group(inside) if inside else file
        for name in given:
            given.copy(name, target)
    cells = np.arange(30) % 4 > 0
    genes = np.array([True, False, True, True, True, False, True])
    whole = anndata.read_h5ad(tmp_path / "whole.h5ad")
    part = whole[:, whole.var["feature_types"] == "a"].copy()
    with open_source(path, feature_type="a") as source:
        assert source.shape == (30, 7)
        assert source.table("var")["symbol"].tolist() == part.var["symbol"].tolist()
        for name, subset in (("copy", None), ("cut", Subset(cells, genes))):
            with new_h5ad(tmp_path / f"{name}.h5ad") as target:
                if subset is None:
                    fill_copy(target, source, uns={}, fingerprint=IDENTITY)
                    subset = Subset.whole(source)
                else:
                    fill_subset(target, source, subset, IDENTITY)
                blocks = source.row_blocks()
                picked = list(subset.select(blocks, "csr", drop_zeros=True))
                n = sum(len(block.values) for block in picked)
                write_compressed(target, "X", picked, n, subset.shape, dtype=np.dtype("f8"))
            found = anndata.read_h5ad(tmp_path / f"{name}.h5ad")
            expected = part[subset.cells, subset.genes].copy()
            slots.assert_same_slots(found, expected, added_uns=["crispyx"])
            assert np.array_equal(
                found.X.toarray(), np.asarray(sp.csr_matrix(expected.X).todense())
            )
