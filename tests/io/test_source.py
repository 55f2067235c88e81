"""Matrices are read whole and unchanged, or refused with the place of the fault."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from layouts import NUMBER_TYPES, count_screen, in_memory, log_screen, write_h5ad
from strategies import matrices

from crispyx._io.compressed import CompressedStorage, as_kernel_values
from crispyx._io.source import open_source, without_lock
from crispyx._kernels.layout import CompressedBlock
from crispyx.errors import InputError, InputTypeError, MissingFileError

LAYOUTS = ["csr", "csc", "dense"]
VALUES, LABELS = log_screen(n_cells=9, n_genes=5)


def dense(blocks: list[CompressedBlock], n_minor: int) -> np.ndarray:
    rows = [
        sp.csr_matrix((b.values, b.minor, b.ptr), shape=(b.n_major, n_minor)).toarray()
        for b in blocks
    ]
    return np.concatenate(rows)


# What is read


@given(matrices(7), st.sampled_from(LAYOUTS), st.integers(1, 20), st.integers(1, 9))
def test_rows_come_whole_and_in_order(values, layout: str, max_values: int, max_rows: int) -> None:
    form = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "dense": np.ascontiguousarray}[layout]
    adata = in_memory(values, ["a"] * 7, form)
    with open_source(adata) as source:
        blocks = list(source.row_blocks(max_values=max_values, max_rows=max_rows))
    assert [b.start for b in blocks] == [0, *[b.stop for b in blocks[:-1]]]
    assert blocks[-1].stop == 7
    assert all(b.n_major <= max_rows for b in blocks)
    np.testing.assert_array_equal(dense(blocks, values.shape[1]), values)
    for block in blocks:
        for i in range(block.n_major):
            assert np.all(np.diff(block.minor[block.ptr[i] : block.ptr[i + 1]]) > 0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("scratch", [True, False])
def test_scratch_folder_is_left_empty(layout: str, scratch: bool, tmp_path: Path) -> None:
    path = write_h5ad(tmp_path / "screen.h5ad", VALUES, LABELS, layout=layout)
    folder = tmp_path / "scratch"
    folder.mkdir()
    with open_source(path) as source:
        blocks = list(source.row_blocks(scratch_dir=folder if scratch else None))
    np.testing.assert_array_equal(dense(blocks, 5), VALUES)
    assert list(folder.iterdir()) == []


def test_block_holds_at_most_the_values_asked_for_or_one_row(tmp_path: Path) -> None:
    path = write_h5ad(tmp_path / "screen.h5ad", VALUES, LABELS)
    with open_source(path) as source:
        blocks = list(source.native_blocks(max_values=2))
    assert len(blocks) > 4
    assert all(len(b.values) <= 2 or b.n_major == 1 for b in blocks)


@pytest.mark.parametrize("dtype", [*NUMBER_TYPES, "?", "f2"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_number_type_is_read_exactly(layout: str, dtype: str, tmp_path: Path) -> None:
    values = np.minimum(count_screen(9, 5)[0], 1 if dtype == "?" else 100)
    path = write_h5ad(tmp_path / "screen.h5ad", values, LABELS, layout=layout, dtype=dtype)
    with open_source(path) as source:
        blocks = list(source.row_blocks())
    assert blocks[0].values.dtype == (np.float64 if dtype == "f8" else np.float32)
    np.testing.assert_array_equal(dense(blocks, 5), values)


@pytest.mark.parametrize("dtype", ["i4", "u4", "i8", "u8"])
def test_integers_take_float64_only_where_float32_would_round(dtype: str) -> None:
    for largest, expected in ((2**24, np.float32), (2**24 + 1, np.float64)):
        values = as_kernel_values(np.array([3, largest], dtype=dtype), "X")
        assert values.dtype == expected
        assert values.tolist() == [3, largest]


@pytest.mark.parametrize("value", [2**53 + 1, 2**63 - 1, -(2**53) - 1])
def test_integer_that_float64_would_round_is_refused(value: int) -> None:
    with pytest.raises(InputError, match=r"file \[X\] holds the integer .*, above 2\^53"):
        as_kernel_values(np.array([1, value]), "file [X]")


@pytest.mark.parametrize("values", [np.array(["a"]), np.array([1j]), np.array([None])])
def test_what_is_no_number_is_refused(values: np.ndarray) -> None:
    with pytest.raises(InputError, match=f"holds {values.dtype} values; numbers are needed"):
        as_kernel_values(values, "X")


class Synthetic:
    """A stored array too long to exist: value i is ``of(i)``."""

    def __init__(self, length: int, dtype: str, of: Callable[[np.ndarray], np.ndarray]) -> None:
        self.shape, self.dtype, self._of = (length,), np.dtype(dtype), of

    def __getitem__(self, part: slice) -> np.ndarray:
        return self._of(np.arange(part.start, part.stop)).astype(self.dtype)


def test_more_than_two_to_the_31_values_are_addressed() -> None:
    n_rows, per_row = 3_000_000, 1_000
    n_values = n_rows * per_row
    assert n_values > 2**31
    storage = CompressedStorage(
        Synthetic(n_values, "f4", lambda i: i % 7 + 1),
        Synthetic(n_values, "i8", lambda i: i % per_row),
        np.arange(n_rows + 1) * per_row,
        n_rows,
        per_row,
        "X",
    )
    (block,) = storage.blocks(n_rows - 2, n_rows, max_values=10**6, max_major=10)
    assert storage.n_stored == n_values
    np.testing.assert_array_equal(block.ptr, [0, 1000, 2000])
    np.testing.assert_array_equal(block.values, np.arange(n_values - 2000, n_values) % 7 + 1)


# What a pass over the matrix finds out


@pytest.mark.parametrize("layout", LAYOUTS)
def test_summary_holds_library_sizes_and_tells_counts(layout: str, tmp_path: Path) -> None:
    counts, labels = count_screen()
    for values, expected in ((counts, True), (counts * 0, False), (counts - 1, False)):
        path = write_h5ad(tmp_path / "screen.h5ad", values, labels, layout=layout, dtype="i4")
        with open_source(path) as source:
            summary = source.empty_summary()
            for _ in source.native_blocks(summary, max_values=50):
                pass
        assert summary.complete
        assert summary.looks_like_counts == expected
        np.testing.assert_array_equal(summary.library_sizes, values.sum(axis=1))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_value_that_is_no_count_is_named(layout: str, tmp_path: Path) -> None:
    counts, labels = count_screen()
    for value in (0.5, -2.0):
        values = counts.copy()
        values[40, 7] = value
        path = write_h5ad(tmp_path / "screen.h5ad", values, labels, layout=layout)
        with open_source(path) as source:
            summary = source.empty_summary()
            for _ in source.native_blocks(summary, max_values=50):
                pass
            assert summary.offending == (40, 7, value)
            with pytest.raises(InputError) as error:
                source.require_counts(summary, "this method")
        for part in (str(path), f"{value:g}", "'cell40'", "'gene7'", "this method needs counts"):
            assert part in str(error.value)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("cell", "gene"), [(0, 0), (60, 12), (33, 4)])
def test_value_that_is_no_number_is_named(layout, value, cell, gene, tmp_path: Path) -> None:
    values, labels = log_screen()
    values[cell, gene] = value
    path = write_h5ad(tmp_path / "screen.h5ad", values, labels, layout=layout)
    # A few values a block: the fault is found in the first, a middle and the last block.
    with open_source(path) as source, pytest.raises(InputError) as error:
        list(source.native_blocks(max_values=20))
    for part in (str(path), "[X]", str(value), f"'cell{cell}'", f"row {cell}", f"'gene{gene}'"):
        assert part in str(error.value)


# What cannot be opened


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"nowhere\.h5ad' does not exist"):
        open_source(tmp_path / "nowhere.h5ad")


def test_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        open_source(tmp_path)


@pytest.mark.parametrize("data", [3, None, np.zeros((2, 2)), {1: 2}])
def test_object_of_another_kind_is_refused(data: Any) -> None:
    with pytest.raises(InputTypeError, match=f"got a {type(data).__name__}; give a path"):
        open_source(data)


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.95])
def test_file_cut_short_is_refused(keep: float, tmp_path: Path) -> None:
    path = write_h5ad(tmp_path / "screen.h5ad", *log_screen(300, 50))
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(InputError, match=r"screen\.h5ad' cannot be read as HDF5"):
        open_source(path)


@pytest.mark.parametrize("first", [nullcontext, without_lock])
@pytest.mark.parametrize("then", [nullcontext, without_lock])
def test_file_is_opened_twice_with_a_lock_and_without(first, then, tmp_path: Path) -> None:
    screen = write_h5ad(tmp_path / "screen.h5ad", *log_screen())
    with first():
        held = open_source(screen)
    with then():
        again = open_source(screen)
    assert again.identity() == held.identity()
    held.close()
    assert next(again.row_blocks()).n_major > 0
    again.close()


def test_file_that_is_open_for_writing_is_refused(tmp_path: Path) -> None:
    screen = write_h5ad(tmp_path / "screen.h5ad", *log_screen())
    with open(screen, "rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)  # as HDF5 does
        with pytest.raises(InputError, match="open for writing elsewhere"):
            open_source(screen)
    open_source(screen).close()


def test_text_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.h5ad"
    path.write_text("cell,gene\n" * 500)
    with pytest.raises(InputError, match=r"table\.h5ad' cannot be read as HDF5"):
        open_source(path)


def test_hdf5_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5ad", "w") as file:
        file["X"] = np.zeros((2, 2))
    with pytest.raises(InputError, match="has no 'obs'; it is not an AnnData"):
        open_source(tmp_path / "other.h5ad")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_damaged_chunk_is_reported_with_its_place(layout: str, tmp_path: Path) -> None:
    values, labels = log_screen(200, 40)
    path = write_h5ad(tmp_path / "s.h5ad", values, labels, layout=layout, compression="gzip")
    with h5py.File(path) as file:
        data = file["X"] if layout == "dense" else file["X/data"]
        chunk = data.id.get_chunk_info(data.id.get_num_chunks() - 1)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\xff" * chunk.size
    path.write_bytes(content)
    with (
        open_source(path) as source,
        pytest.raises(InputError, match=r"s\.h5ad \[X\]: (row|column)s .* cannot be read"),
    ):
        list(source.native_blocks())


def replace(file: h5py.File, name: str, values: Any) -> None:
    del file[name]
    file[name] = values


def change(name: str, position: int, value: Any) -> Callable[[h5py.File], None]:
    """Return a damage: one entry of a dataset, counted from the end when negative."""

    def apply(file: h5py.File) -> None:
        values = file[name][()]
        values[position] = value
        replace(file, name, values)

    return apply


def shape(*values: Any) -> Callable[[h5py.File], None]:
    return lambda file: file["X"].attrs.__setitem__("shape", np.array(values))


# What is done to a good CSR file of 9 x 5, and what the message says.
DAMAGES: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "X absent": (lambda f: f.__delitem__("X"), "has no X; it has no matrix at all"),
    "only a layer": (lambda f: f.move("X", "layers/raw"), "has no X; it has layer 'raw'"),
    "var absent": (lambda f: f.__delitem__("var"), "has no 'var'"),
    "indptr absent": (lambda f: f.__delitem__("X/indptr"), "lacks 'indptr'"),
    "indptr falls": (change("X/indptr", 3, 0), "indptr runs from 3 to 0 at row 2 of 9"),
    "indptr below 0": (change("X/indptr", 0, -1), "indptr runs from -1"),
    "indptr past the end": (change("X/indptr", -1, 10**6), "to 1000000 at row 8 of 9"),
    "indptr beyond 2^63": (
        lambda f: replace(f, "X/indptr", np.full(10, 2**64 - 1, dtype="u8")),
        "indptr runs from -1",
    ),
    "indptr short": (lambda f: replace(f, "X/indptr", [0, 1]), r"shape \(2,\) .* needs \(10,\)"),
    "indptr of fractions": (
        lambda f: replace(f, "X/indptr", np.linspace(0, 9, 10)),
        "indptr holds float64 where whole numbers",
    ),
    "index below 0": (change("X/indices", 2, -1), "row 1 has a value in column -1"),
    "index past the end": (change("X/indices", -1, 5), "has a value in column 5, but there are 5"),
    "index beyond 2^32": (
        lambda f: replace(f, "X/indices", f["X/indices"][()] + np.int64(1 << 32)),
        "has a value in column 42949672",
    ),
    "indices of NaN": (
        lambda f: replace(f, "X/indices", f["X/indices"][()] * np.nan),
        "indices holds float64",
    ),
    "fewer indices": (lambda f: replace(f, "X/indices", f["X/indices"][1:]), "differ in length"),
    "data of text": (
        lambda f: replace(f, "X/data", np.full(f["X/data"].shape, b"a")),
        "numbers are needed",
    ),
    "data of two dimensions": (
        lambda f: replace(f, "X/data", f["X/data"][()][:, None]),
        "differ in length",
    ),
    "entry twice": (
        lambda f: replace(f, "X/indices", f["X/indices"][()] * 0),
        r"has two values in column 0; call sum_duplicates\(\)",
    ),
    "shape of NaN": (shape(np.nan, 5.0), r"has shape \[nan"),
    "shape below 0": (shape(-9, 5), "has shape"),
    "shape of three": (shape(9, 5, 1), "has shape"),
    "shape absent": (lambda f: f["X"].attrs.__delitem__("shape"), "has shape None"),
    "huge shape": (shape(10**15, 5), r"needs \(1000000000000001,\)"),
    "more genes than var": (shape(9, 6), r"is 9 x 6 but obs has 9 and var 5 entries"),
    "other encoding": (
        lambda f: f["X"].attrs.__setitem__("encoding-type", "coo_matrix"),
        "is stored as 'coo_matrix'",
    ),
    "one dimension": (lambda f: replace(f, "X", np.zeros(9)), "has 1 dimensions"),
    "dense of another shape": (
        lambda f: replace(f, "X", np.zeros((8, 5))),
        "is 8 x 5 but obs has 9",
    ),
    "dense text": (lambda f: replace(f, "X", np.full((9, 5), b"x")), "numbers are needed"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_matrix_is_refused_and_never_read_outside_its_bounds(name, tmp_path: Path) -> None:
    path = write_h5ad(tmp_path / "screen.h5ad", VALUES, LABELS)
    damage, message = DAMAGES[name]
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(InputError, match=message) as error, open_source(path) as source:
        list(source.native_blocks())
    assert str(path) in str(error.value)


def test_damage_of_a_csc_matrix_is_told_in_its_own_axes(tmp_path: Path) -> None:
    path = write_h5ad(tmp_path / "screen.h5ad", VALUES, LABELS, layout="csc")
    with h5py.File(path, "r+") as file:
        change("X/indices", -1, 9)(file)
    with (
        open_source(path) as source,
        pytest.raises(InputError, match="column 4 has a value in row 9"),
    ):
        list(source.native_blocks())


@given(st.data())
def test_random_damage_is_refused_or_harmless(data) -> None:
    # Any structure at all: reading must end in values or in an InputError, never in a crash.
    small = st.lists(st.integers(-2, 12), min_size=6, max_size=6)
    parts = [np.array(data.draw(small), dtype=np.int64) for _ in range(2)]
    try:
        storage = CompressedStorage(np.ones(6), parts[0], np.sort(parts[1]), 5, 4, "X")
        blocks = list(storage.blocks(0, 5, max_values=3, max_major=2))
    except InputError:
        return
    for block in blocks:
        assert block.minor.min(initial=0) >= 0
        assert block.minor.max(initial=0) < 4
    assert sum(len(b.values) for b in blocks) == np.sort(parts[1])[-1] - np.sort(parts[1])[0]


@pytest.mark.parametrize(("n_cells", "n_genes"), [(0, 5), (9, 0), (0, 0)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_matrix_without_cells_or_genes_is_refused(n_cells, n_genes, layout, tmp_path) -> None:
    values = np.zeros((n_cells, n_genes))
    path = write_h5ad(tmp_path / "screen.h5ad", values, ["a"] * n_cells, layout=layout)
    message = f"has {n_cells} cells and {n_genes} genes; there is nothing to compute"
    with pytest.raises(InputError, match=message):
        open_source(path)
    with pytest.raises(InputError, match=message):
        open_source(in_memory(values, ["a"] * n_cells, sp.csr_matrix))


def test_missing_layer_is_refused_with_those_there_are(tmp_path: Path) -> None:
    path = write_h5ad(tmp_path / "screen.h5ad", VALUES, LABELS, element="layers/counts")
    with pytest.raises(InputError, match=r"has no layers/log; it has X, layer 'counts'"):
        open_source(path, "log")
    adata = in_memory(VALUES, LABELS, sp.csr_matrix)
    adata.layers["counts"] = adata.X
    with pytest.raises(InputError, match=r"layers/log\]: no such layer; there are: counts"):
        open_source(adata, "log")
    adata.X = None
    with pytest.raises(InputError, match="X is empty; give layer=, there are: counts"):
        open_source(adata)


def test_each_look_at_data_in_memory_has_an_identity_of_its_own() -> None:
    adata = in_memory(VALUES, LABELS, sp.csr_matrix)
    identities = {open_source(adata).identity()["memory"] for _ in range(50)}
    assert len(identities) == 50
