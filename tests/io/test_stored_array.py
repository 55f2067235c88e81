"""Arrays read beside HDF5 are those that HDF5 reads, value for value and error for error."""

from __future__ import annotations

import fcntl
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import log_screen, write_h5ad

import crispyx as cx
from crispyx._io.chunk_filters import ChunkError, Filters
from crispyx._io.source import open_source
from crispyx._io.stored_array import ChunkedArray, ContiguousArray, stored_array
from crispyx._kernels import chunk_filters
from crispyx.errors import InputError

NUMBER_TYPES = ["?", "i1", "u1", "<i2", ">u2", "f2", "<i4", ">i4", "u8", ">i8", "<f4", ">f8"]
COMPRESSION: dict[str, dict[str, Any]] = {
    "none": {},
    "gzip": {"compression": "gzip"},
    "shuffled gzip": {"compression": "gzip", "shuffle": True},
    "lzf": {"compression": "lzf"},
    "shuffled lzf": {"compression": "lzf", "shuffle": True},
}
OPTIONAL: dict[str, Callable[[Any], Any]] = {
    "blosc lz4": lambda plugin: plugin.Blosc(cname="lz4"),
    "blosc zstd bits": lambda plugin: plugin.Blosc(cname="zstd", shuffle=plugin.Blosc.BITSHUFFLE),
    "blosc not shuffled": lambda plugin: plugin.Blosc(shuffle=plugin.Blosc.NOSHUFFLE),
    "zstd": lambda plugin: plugin.Zstd(),
}
CHUNKS = [(1,), (7,), (60,), (64,), (61, 13), (7, 5), (1, 13), (61, 1), (64, 16)]


def numbers(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    generator = np.random.default_rng(4)
    # Runs and repeats, so that every branch of the decompressors is taken.
    values = np.repeat(generator.integers(0, 5, np.prod(shape)), 3)[: np.prod(shape)]
    values[::11] = generator.integers(0, 100, len(values[::11]))
    return values.reshape(shape).astype(dtype)


def create(path: Path, values: np.ndarray, chunks: tuple[int, ...], **how: Any) -> h5py.File:
    with h5py.File(path, "w") as file:
        maximum = tuple(2 * n for n in values.shape)
        file.create_dataset("x", data=values, chunks=chunks, maxshape=maximum, **how)
    return h5py.File(path)


@pytest.mark.parametrize("how", OPTIONAL)
@pytest.mark.parametrize("dtype", ["i1", ">u2", "<i4", "<f4", ">f8"])
def test_blosc_and_zstd_are_undone_beside_hdf5(how: str, dtype: str, tmp_path: Path) -> None:
    plugin = pytest.importorskip("hdf5plugin")
    pytest.importorskip("numcodecs")
    values = np.tile(numbers((61, 13), dtype), (9, 1))
    with create(tmp_path / "x.h5", values, (64, 16), **OPTIONAL[how](plugin)) as file:
        array = stored_array(file["x"])
        assert isinstance(array, ChunkedArray)
        for start, stop in [(0, 549), (0, 7), (60, 70), (548, 549)]:
            found = array._read(start, stop)  # which does not ask HDF5 when it fails
            np.testing.assert_array_equal(found, values[start:stop])


@pytest.mark.parametrize("how", OPTIONAL)
@given(place=st.integers(0, 10_000), change=st.integers(1, 255))
def test_damaged_chunk_of_blosc_or_zstd_is_left_to_hdf5(how: str, place: int, change: int) -> None:
    plugin = pytest.importorskip("hdf5plugin")
    pytest.importorskip("numcodecs")
    values = numbers((61, 13), "<i4")
    with h5py.File("damaged", "w", driver="core", backing_store=False) as file:
        stored = file.create_dataset("x", data=values, chunks=(61, 13), **OPTIONAL[how](plugin))
        packed = bytearray(stored.id.read_direct_chunk((0, 0))[1])
        filters = Filters.of(stored)
    assert filters is not None
    packed[place % len(packed)] ^= change
    for damaged in (packed, packed[: place % len(packed)]):
        plain = np.zeros(values.nbytes, dtype=np.uint8)
        # Neither format has a checksum: other values may come out, but never more or fewer.
        with suppress(ChunkError):
            filters.undo(damaged, 0, plain)


@pytest.mark.parametrize("how", COMPRESSION)
@pytest.mark.parametrize("dtype", NUMBER_TYPES)
def test_compression_type_and_chunks_change_no_bit(how: str, dtype: str, tmp_path: Path) -> None:
    for chunks in CHUNKS:
        values = numbers((61, 13)[: len(chunks)], dtype)
        with create(tmp_path / "x.h5", values, chunks, **COMPRESSION[how]) as file:
            array = stored_array(file["x"])
            assert isinstance(array, ChunkedArray)
            assert (array.shape, array.dtype) == (values.shape, np.dtype(dtype))
            for start, stop in [(0, 61), (0, 7), (6, 8), (7, 60), (60, 61), (5, 5), (40, 999)]:
                found = array[start:stop]
                assert found.dtype == np.dtype(dtype)
                np.testing.assert_array_equal(found, values[start:stop], err_msg=str(chunks))


@given(
    edges=st.lists(st.integers(0, 5000), min_size=2, max_size=8),
    n_threads=st.integers(1, 3),
    how=st.sampled_from(sorted(COMPRESSION)),
)
def test_threads_and_cuts_change_no_bit(tmp_path_factory, edges, n_threads, how) -> None:
    values = numbers((5000,), "<i4")
    before = cx.settings.n_threads
    try:
        cx.settings.n_threads = n_threads
        path = tmp_path_factory.mktemp("cuts") / "x.h5"
        with create(path, values, (311,), **COMPRESSION[how]) as file:
            array = stored_array(file["x"])
            for start, stop in zip(sorted(edges)[:-1], sorted(edges)[1:], strict=True):
                np.testing.assert_array_equal(array[start:stop], values[start:stop])
    finally:
        cx.settings.n_threads = before


@pytest.mark.parametrize("shape", [(700_000,), (3000, 200)])
@pytest.mark.parametrize("dtype", ["<f4", ">f8"])
def test_contiguous_array_is_read_in_parts(shape: tuple[int, ...], dtype: str, tmp_path) -> None:
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["before"], file["x"] = np.ones(3), values
    with h5py.File(tmp_path / "x.h5") as file:
        array = stored_array(file["x"])
        assert isinstance(array, ContiguousArray)
        for start, stop in [(0, len(values)), (17, 2999), (2999, 3000)]:
            np.testing.assert_array_equal(array[start:stop], values[start:stop])


def test_chunk_that_was_never_written_holds_the_fill_value(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        node = file.create_dataset("x", (100,), "i4", chunks=(10,), compression="gzip", fillvalue=7)
        node[35:52] = 1
    with h5py.File(tmp_path / "x.h5") as file:
        np.testing.assert_array_equal(stored_array(file["x"])[:], file["x"][:])


@pytest.mark.parametrize("mask", [0, 1, 2, 3])
def test_filters_that_a_chunk_leaves_out_are_not_undone(mask: int, tmp_path: Path) -> None:
    values = np.arange(50, dtype="<i4")
    raw = values.tobytes()
    shuffled = values.view(np.uint8).reshape(50, 4).T.tobytes()
    stored = {0: zlib.compress(shuffled), 1: zlib.compress(raw), 2: shuffled, 3: raw}[mask]
    with h5py.File(tmp_path / "x.h5", "w") as file:
        node = file.create_dataset(
            "x", (50,), "<i4", chunks=(50,), compression="gzip", shuffle=True
        )
        node.id.write_direct_chunk((0,), stored, filter_mask=mask)
    with h5py.File(tmp_path / "x.h5") as file:
        np.testing.assert_array_equal(file["x"][:], values)
        np.testing.assert_array_equal(stored_array(file["x"])[3:49], values[3:49])


@pytest.mark.parametrize(
    "how",
    [
        {"compression": "gzip", "fletcher32": True},
        {"scaleoffset": 0},
        {"compression": "gzip", "dtype": h5py.enum_dtype({"A": 1, "B": 2}, basetype="i4")},
    ],
)
def test_unusual_storage_is_left_to_hdf5(how: dict[str, Any], tmp_path: Path) -> None:
    values = np.tile(np.array([1, 2], dtype="i4"), 30)
    with create(tmp_path / "x.h5", values, (7,), **how) as file:
        np.testing.assert_array_equal(stored_array(file["x"])[3:50], values[3:50])


def test_file_in_memory_or_behind_a_user_block_is_left_to_hdf5(tmp_path: Path) -> None:
    values = np.arange(30)
    with h5py.File("none", "w", driver="core", backing_store=False) as file:
        file["x"] = values
        assert isinstance(stored_array(file["x"]), h5py.Dataset)
    with h5py.File(tmp_path / "x.h5", "w", userblock_size=512) as file:
        file["x"] = values
    with h5py.File(tmp_path / "x.h5") as file:
        assert isinstance(stored_array(file["x"]), h5py.Dataset)


def test_file_replaced_while_open_is_read_as_it_was_opened(tmp_path: Path) -> None:
    values = np.arange(3000)
    path = tmp_path / "x.h5"
    with create(path, values, (100,), compression="gzip") as file:
        create(tmp_path / "y.h5", values + 1, (100,), compression="gzip").close()
        (tmp_path / "y.h5").replace(path)
        np.testing.assert_array_equal(stored_array(file["x"])[:], values)


def test_nothing_holds_the_file_when_it_is_closed(tmp_path: Path) -> None:
    with create(tmp_path / "x.h5", np.arange(3000), (100,), compression="gzip") as file:
        array = stored_array(file["x"])
        assert array[5:7].tolist() == [5, 6]
    with open(tmp_path / "x.h5", "rb+") as raw:
        fcntl.flock(raw, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("how", sorted(set(COMPRESSION) - {"none"}))
@pytest.mark.parametrize("element", ["data", "indices"])
def test_damaged_chunk_is_reported_as_hdf5_reports_it(how: str, element: str, tmp_path) -> None:
    path = write_h5ad(tmp_path / "s.h5ad", *log_screen(200, 40))
    with h5py.File(path, "r+") as file:
        values = file["X"][element][()]
        del file["X"][element]
        node = file["X"].create_dataset(element, data=values, chunks=(97,), **COMPRESSION[how])
        chunk = node.id.get_chunk_info(node.id.get_num_chunks() - 1)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\xff" * chunk.size
    path.write_bytes(content)
    with (
        open_source(path) as source,
        pytest.raises(InputError, match=r"s\.h5ad \[X\]: rows .* cannot be read \(.*filter"),
    ):
        list(source.native_blocks())


@given(st.binary(max_size=300), st.integers(1, 400))
def test_any_bytes_are_expanded_within_bounds_or_refused(packed: bytes, n_bytes: int) -> None:
    plain = np.full(n_bytes + 8, 99, dtype=np.uint8)
    source = np.frombuffer(packed, dtype=np.uint8)
    n_found = chunk_filters.decompress_lzf(source, plain[:n_bytes])
    assert -1 <= n_found <= n_bytes
    assert (plain[n_bytes:] == 99).all()


def test_zlib_stands_in_where_the_fast_library_is_missing(tmp_path: Path, monkeypatch) -> None:
    values = numbers((500,), "<i4")
    monkeypatch.setattr(
        "crispyx._io.chunk_filters._inflater", lambda: (zlib.decompress, zlib.error)
    )
    with create(tmp_path / "x.h5", values, (37,), compression="gzip", shuffle=True) as file:
        np.testing.assert_array_equal(stored_array(file["x"])[5:480], values[5:480])
