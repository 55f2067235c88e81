"""Matrices stored by the other axis, or with the cells sorted, hold the same values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import h5py
import layouts
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import slots
from hypothesis import given
from hypothesis import strategies as st

import crispyx as cx
from crispyx._io.other_axis import OtherAxis
from crispyx._io.rearranged import Rearranged
from crispyx._io.source import open_source
from crispyx._jobs.runs import contiguity, perturbation_slices
from crispyx.data import (
    AnnData,
    convert_to_csc,
    convert_to_csr,
    get_perturbation_slice,
    needs_sorting_for_nbglm,
    sort_by_perturbation,
    write_filtered_subset,
)
from crispyx.errors import CrispyxWarning, InputError, MemoryBudgetError, OutputExistsError

CONVERT = {"csc": convert_to_csc, "csr": convert_to_csr}
IN_X = [name for name, how in layouts.FILES.items() if "element" not in how]
QUIET = {"verbose": False}


@pytest.fixture(scope="module")
def screen() -> Any:
    return layouts.count_screen()


@pytest.mark.parametrize("layout", ["csc", "csr"])
@pytest.mark.parametrize("name", IN_X)
def test_conversion_keeps_every_value_and_its_type(layout, name, screen, tmp_path) -> None:
    path = layouts.write_h5ad(tmp_path / "in.h5ad", *screen, **layouts.FILES[name])
    found = CONVERT[layout](path, **QUIET)
    with open_source(path) as source:
        same = source.layout == layout
        dtype = source.dtype
    if same:
        assert found.path == path
        return
    assert found.path == tmp_path / f"crispyx_{layout}.h5ad"
    matrix = anndata.read_h5ad(found.path).X
    assert matrix.format == layout
    assert matrix.dtype == dtype.newbyteorder("=")
    assert matrix.has_canonical_format
    np.testing.assert_array_equal(matrix.toarray(), screen[0])


# SciPy has no sparse matrices of float16.
@pytest.mark.parametrize("dtype", ["?", *sorted(set(layouts.NUMBER_TYPES) - {"f2"})])
def test_values_are_moved_and_never_computed_with(dtype: str, screen, tmp_path) -> None:
    values = screen[0].astype(dtype)
    largest = np.iinfo(dtype).max if values.dtype.kind in "iu" else values.max()
    values[3, 4] = largest
    if values.dtype.kind == "f":
        values[2, 1] = np.nan
    path = layouts.write_h5ad(tmp_path / "in.h5ad", values, screen[1], dtype=dtype)
    found = anndata.read_h5ad(convert_to_csc(path, **QUIET).path).X
    np.testing.assert_array_equal(found.toarray(), values)


@pytest.mark.parametrize("layout", ["csc", "csr"])
def test_stored_zeros_stay_stored(layout: str, screen, tmp_path) -> None:
    other = "csr" if layout == "csc" else "csc"
    path = layouts.write_h5ad(tmp_path / "in.h5ad", *screen, layout=other, stored_zeros=True)
    found = anndata.read_h5ad(CONVERT[layout](path, **QUIET).path).X
    assert found.nnz == anndata.read_h5ad(path).X.nnz > np.count_nonzero(screen[0])


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, np.asarray])
def test_conversion_keeps_every_other_slot(form: Any, screen, tmp_path) -> None:
    adata = slots.rich(*screen, form)
    adata.write_h5ad(tmp_path / "in.h5ad")
    layout = "csr" if form is sp.csc_matrix else "csc"
    expected = anndata.read_h5ad(tmp_path / "in.h5ad")
    for data, output in ((tmp_path / "in.h5ad", "a.h5ad"), (adata, "b.h5ad")):
        found = CONVERT[layout](data, output_path=tmp_path / output, **QUIET)
        slots.assert_same_slots(anndata.read_h5ad(found.path), expected, ["crispyx"])


@given(
    layout=st.sampled_from(["csr", "csc", "dense"]),
    turned=st.booleans(),
    budget=st.integers(13_000, 60_000),
    max_major=st.integers(1, 70),
    n_threads=st.integers(1, 3),
    permuted=st.booleans(),
)
def test_budget_blocks_and_threads_change_no_bit(
    screen, layout, turned, budget, max_major, n_threads, permuted
) -> None:
    form = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "dense": np.asarray}[layout]
    values = screen[0] if layout != "csc" else screen[0].T
    before = cx.settings.n_threads
    try:
        cx.settings.n_threads = n_threads
        with open_source(layouts.in_memory(screen[0], screen[1], form)) as source:
            expected = values.T if turned else values
            n = len(expected)
            place = np.random.default_rng(0).permutation(n) if permuted else None
            matrix = Rearranged(
                source.storage, turned=turned, place=place, budget=budget, max_major=max_major
            )
            blocks = list(matrix.blocks())
            later = list(matrix.blocks(first=n // 2))
    finally:
        cx.settings.n_threads = before
    found = sp.vstack(
        [sp.csr_matrix((b.values, b.minor, b.ptr), (b.n_major, expected.shape[1])) for b in blocks]
    ).toarray()
    np.testing.assert_array_equal(found if place is None else found[place], expected)
    np.testing.assert_array_equal(
        np.concatenate([b.values for b in later]),
        np.concatenate([b.values for b in blocks])[matrix.ptr[n // 2] :],
    )
    assert all((np.diff(b.minor[b.ptr[i] : b.ptr[i + 1]]) > 0).all() for b in blocks for i in [0])


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "u2", "?"])
@pytest.mark.parametrize("layout", ["csc", "csr"])
def test_matrix_in_one_piece_is_turned_where_it_lies_into_the_same_file(
    layout: str, dtype: str, screen, tmp_path, monkeypatch
) -> None:
    other = "csr" if layout == "csc" else "csc"
    values = screen[0].astype(dtype)
    path = layouts.write_h5ad(tmp_path / "in.h5ad", values, screen[1], layout=other, dtype=dtype)
    with open_source(path) as source:
        assert OtherAxis.of(source.storage, 2) is not None
    there = CONVERT[layout](path, output_path=tmp_path / "there.h5ad", **QUIET)
    monkeypatch.setattr("crispyx._io.other_axis.mapped", lambda *_: None)
    panels = CONVERT[layout](path, output_path=tmp_path / "panels.h5ad", **QUIET)
    with h5py.File(there.path) as one, h5py.File(panels.path) as another:
        for part in ("data", "indices", "indptr"):
            found, expected = one["X"][part], another["X"][part]
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found[()], expected[()])


@pytest.mark.parametrize("name", ["csr unsorted", "csr gzip", "csr int64 index"])
def test_matrix_that_is_not_in_order_or_not_in_one_piece_is_not_turned_in_place(
    name: str, screen, tmp_path
) -> None:
    path = layouts.write_h5ad(tmp_path / "in.h5ad", *screen, **layouts.FILES[name])
    with open_source(path) as source:
        assert OtherAxis.of(source.storage, 2) is None


def test_matrix_that_changes_after_it_was_checked_is_refused(screen, tmp_path) -> None:
    path = layouts.write_h5ad(tmp_path / "in.h5ad", *screen)
    with open_source(path) as source:
        there = OtherAxis.of(source.storage, 2)
        assert there is not None
        list(there.blocks(0, 100))
        offset = source.storage.indices.dataset.id.get_offset()
        stored = np.memmap(path, "i4", "r+", offset, (source.storage.n_stored,))
        stored[stored == 0] = 1
        with pytest.raises(InputError, match="changed while it was read"):
            list(there.blocks(0, 100))


def test_budget_below_one_vector_is_refused_before_work_starts(screen, tmp_path) -> None:
    path = layouts.write_h5ad(tmp_path / "in.h5ad", *screen)
    with pytest.raises(MemoryBudgetError, match="give memory_limit_gb="):
        convert_to_csc(path, memory_limit_gb=0.001, **QUIET)
    assert [p.name for p in tmp_path.iterdir()] == ["in.h5ad"]


def test_conversion_is_reused_and_never_replaces_another_file(screen, tmp_path) -> None:
    path = layouts.write_h5ad(tmp_path / "in.h5ad", *screen)
    first = convert_to_csc(path, data_name="a", **QUIET)
    assert first.path.name == "crispyx_a_csc.h5ad"
    stamp = first.path.stat().st_mtime_ns
    assert convert_to_csc(path, data_name="a", **QUIET).path.stat().st_mtime_ns == stamp
    assert cx.pp.convert_to_csc(path, data_name="a", **QUIET).path.stat().st_mtime_ns == stamp
    convert_to_csc(path, data_name="a", force=True, **QUIET)
    assert first.path.stat().st_mtime_ns > stamp
    other = layouts.write_h5ad(tmp_path / "other.h5ad", *screen)
    with pytest.raises(OutputExistsError, match=r"holds the csc result of .*in\.h5ad"):
        convert_to_csc(other, output_path=first.path, **QUIET)
    with pytest.raises(InputError, match="is the input itself"):
        convert_to_csc(path, output_path=path, **QUIET)
    assert cx.pp.convert_to_csr(first.path, **QUIET).path.name == "crispyx_csr.h5ad"


@pytest.mark.filterwarnings("ignore:.* have no label")
def test_damaged_matrix_is_refused_and_leaves_nothing(screen, tmp_path) -> None:
    path = layouts.write_h5ad(tmp_path / "in.h5ad", *screen)
    for position, value, message in ((5, 99, "column 99"), (5, -1, "column -1")):
        with h5py.File(path, "r+") as file:
            before = file["X/indices"][position]
            file["X/indices"][position] = value
        for convert in (convert_to_csc, sort_by_perturbation):
            more = QUIET if convert is convert_to_csc else {"control_label": "control"}
            with pytest.raises(InputError, match=f"{message}.*damaged"):
                convert(path, **more)
        with h5py.File(path, "r+") as file:
            file["X/indices"][position] = before
    assert [p.name for p in tmp_path.iterdir()] == ["in.h5ad"]


# Sorting


def expected_order(labels: list[str | None]) -> list[int]:
    def rank(i: int) -> tuple[bool, bool, str]:
        return labels[i] is None, labels[i] != "control", labels[i] or ""

    return sorted(range(len(labels)), key=rank)


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, np.asarray])
@pytest.mark.parametrize("place", ["file", "memory"])
@pytest.mark.filterwarnings("ignore:.* have no label")
def test_sorting_moves_every_slot_with_its_cells(form, place, screen, tmp_path) -> None:
    counts, labels = screen
    adata = slots.rich(counts, labels, form)
    adata.write_h5ad(tmp_path / "in.h5ad")
    found_path = sort_by_perturbation(
        tmp_path / "in.h5ad" if place == "file" else adata,
        layouts.COLUMN,
        output_path=None if place == "file" else tmp_path / "in_sorted.h5ad",
        chunk_size=7,
    )
    assert found_path == tmp_path / "in_sorted.h5ad"
    found = anndata.read_h5ad(found_path)
    order = expected_order(list(labels))
    with anndata.settings.override(remove_unused_categories=False):
        expected = anndata.read_h5ad(tmp_path / "in.h5ad")[order].copy()
    assert found.uns["sorting_metadata"]["sort_order"].tolist() == order
    dense = found.X if isinstance(found.X, np.ndarray) else found.X.toarray()
    np.testing.assert_array_equal(dense, counts[order])
    assert isinstance(found.X, np.ndarray) or found.X.format == "csr"
    assert found.X.dtype == expected.X.dtype
    if place == "file":
        expected.layers["sparse columns"] = expected.layers["sparse columns"].tocsr()
    slots.assert_same_slots(found, expected, ["crispyx", "sorting_metadata"])


def test_sorted_file_says_how_it_was_sorted(tmp_path: Path) -> None:
    labels = ["B", "ctrl", "A", "ctrl", "A/x", "B", "A"]
    path = layouts.write_h5ad(tmp_path / "in.h5ad", np.arange(14.0).reshape(7, 2), labels)
    with pytest.raises(InputError, match="control label 'NT' is not in"):
        sort_by_perturbation(path, control_label="NT")
    found = sort_by_perturbation(str(path))
    note = anndata.read_h5ad(found).uns["sorting_metadata"]
    assert note["original_path"] == str(path)
    assert (note["sorted_by"], note["control_label"]) == ("perturbation", "ctrl")
    assert note["n_perturbations"] == 4
    assert pd.Timestamp(note["timestamp"]).year > 2000
    assert note["sort_order"].tolist() == [1, 3, 2, 6, 4, 0, 5]
    bounds = {name: rows.tolist() for name, rows in note["perturbation_boundaries"].items()}
    assert bounds == {"ctrl": [0, 2], "A": [2, 4], "A\u2215x": [4, 5], "B": [5, 7]}
    for data in (found, AnnData(found), anndata.read_h5ad(found)):
        assert get_perturbation_slice(data, "A/x") == (slice(4, 5), True)
        assert get_perturbation_slice(data, "B") == (slice(5, 7), True)
    assert get_perturbation_slice(found, "unknown") == (None, False)
    assert get_perturbation_slice(found, "B", "another column") == (None, False)
    assert get_perturbation_slice(path, "B") == (None, False)


def test_stale_note_of_sorting_is_not_believed(tmp_path: Path) -> None:
    labels = ["ctrl", "B", "ctrl", "A", "B"]
    path = layouts.write_h5ad(tmp_path / "in.h5ad", np.ones((5, 2)), labels)
    adata = anndata.read_h5ad(sort_by_perturbation(path))
    fewer = adata[1:].copy()
    assert get_perturbation_slice(fewer, "B") == (slice(2, 4), True), "rows of what is there now"
    mixed = adata[[0, 3, 1, 2, 4]].copy()
    assert get_perturbation_slice(mixed, "B") == (None, False)


def test_sorted_file_is_reused_until_something_changes(screen, tmp_path: Path) -> None:
    path = layouts.write_h5ad(tmp_path / "in.h5ad", *screen)
    with pytest.warns(CrispyxWarning, match="2 of 61 cells have no label .* they come last"):
        found = sort_by_perturbation(path)
    stamp = found.stat().st_mtime_ns
    with pytest.warns(CrispyxWarning, match="no label"):
        sort_by_perturbation(path)
    assert found.stat().st_mtime_ns == stamp
    with pytest.warns(CrispyxWarning, match="no label"):
        sort_by_perturbation(path, force=True)
    assert found.stat().st_mtime_ns > stamp


def test_small_budget_sorts_in_several_passes(screen, tmp_path, monkeypatch) -> None:
    path = layouts.write_h5ad(tmp_path / "in.h5ad", *screen)
    labels = {"control_label": "control", "force": True}
    with pytest.warns(CrispyxWarning, match="no label"):
        free = sort_by_perturbation(path, output_path=tmp_path / "free.h5ad", **labels)
    monkeypatch.setattr("crispyx._jobs.rearranged_job.working_memory", lambda _: 13_000)
    with pytest.warns(CrispyxWarning, match="no label"):
        tight = sort_by_perturbation(path, output_path=tmp_path / "tight.h5ad", **labels)
    with h5py.File(free) as one, h5py.File(tight) as other:
        for part in ("data", "indices", "indptr"):
            np.testing.assert_array_equal(one["X"][part][()], other["X"][part][()])


@given(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=12))
def test_slices_are_given_exactly_when_every_label_stands_in_one_piece(labels) -> None:
    array = np.array(labels, dtype=object)
    found = perturbation_slices(array)
    in_one_piece = all(share == 1 for share in contiguity(array).values())
    assert (found is not None) == in_one_piece
    if found is not None:
        assert set(found) == set(labels) - {None}
        for label, rows in found.items():
            assert set(array[rows]) == {label}
            assert rows.stop - rows.start == labels.count(label)


def test_sorting_is_recommended_for_large_screens_with_scattered_cells(tmp_path: Path) -> None:
    labels = ["ctrl", "A", "B"] * 4
    path = layouts.write_h5ad(tmp_path / "in.h5ad", np.ones((12, 2)), labels)
    assert not needs_sorting_for_nbglm(path), "too small by default"
    small = {"min_cells": 12, "min_perturbations": 3}
    assert needs_sorting_for_nbglm(path, **small)
    assert not needs_sorting_for_nbglm(path, min_cells=13, min_perturbations=3)
    assert not needs_sorting_for_nbglm(path, min_cells=12, min_perturbations=4)
    # One cell of four stands in the longest run of each label.
    assert not needs_sorting_for_nbglm(path, **small, contiguity_threshold=0.25)
    assert needs_sorting_for_nbglm(path, **small, contiguity_threshold=0.26)
    assert not needs_sorting_for_nbglm(sort_by_perturbation(path), **small)
    with pytest.raises(KeyError, match="nothing"):
        needs_sorting_for_nbglm(path, "nothing")


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
@pytest.mark.parametrize("what", ["converted", "sorted", "filtered"])
def test_tables_of_the_oldest_files_are_written_as_those_of_today(
    what: str, suffix: str, tmp_path: Path
) -> None:
    if suffix == ".zarr":
        pytest.importorskip("zarr")
    values, labels = layouts.count_screen()
    labels = [label or "control" for label in labels]
    path = tmp_path / "old.h5ad"
    layouts.write_h5ad(path, values, labels, label_kind="anndata 0.6", old_sparse=True)
    output = tmp_path / f"new{suffix}"
    cells = np.ones(len(labels), dtype=bool)
    {
        "converted": lambda: convert_to_csc(path, output_path=output, verbose=False),
        "sorted": lambda: sort_by_perturbation(path, control_label="control", output_path=output),
        "filtered": lambda: write_filtered_subset(
            path, cell_mask=cells, gene_mask=values[0] >= 0, output_path=output
        ),
    }[what]()
    found = anndata.read_zarr(output) if suffix == ".zarr" else anndata.read_h5ad(output)
    expected = dict(zip([f"cell{i}" for i in range(len(labels))], labels, strict=True))
    assert found.obs[layouts.COLUMN].astype(str).to_dict() == expected
    assert list(found.var_names) == [f"gene{j}" for j in range(values.shape[1])]
