"""Zarr stores are written whole or not at all, and hold what the .h5ad file would."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anndata
import layouts
import numpy as np
import pytest
import scipy.sparse as sp
import slots

import crispyx as cx
from crispyx import data
from crispyx._io import folders
from crispyx._io.stores import changed_store
from crispyx.errors import CrispyxWarning, InputError

zarr = pytest.importorskip("zarr")

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*no Zarr V3 specification.*"),
    pytest.mark.filterwarnings("ignore:.* cells have no label:crispyx.errors.CrispyxWarning"),
]

HAS_FORMAT_3 = hasattr(zarr.Group, "create_array")
FORMS = [(2, False), (3, False), (3, True)]


@pytest.fixture(params=FORMS, ids=["format 2", "format 3", "shards"])
def form(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param[0] == 3 and not HAS_FORMAT_3:
        pytest.skip("zarr before 3")
    before = cx.settings.zarr_format, cx.settings.zarr_shards
    cx.settings.zarr_format, cx.settings.zarr_shards = request.param
    yield
    cx.settings.zarr_format, cx.settings.zarr_shards = before


@pytest.fixture(scope="module")
def screen() -> anndata.AnnData:
    return slots.rich(*layouts.count_screen())


@pytest.fixture(scope="module")
def originals(screen: anndata.AnnData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    screen.write_h5ad(folder / "screen.h5ad")
    convert(folder / "screen.h5ad", folder / "screen.zarr")
    return folder


@pytest.fixture
def file(originals: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(originals / "screen.h5ad", tmp_path))


@pytest.fixture
def store(file: Path, originals: Path) -> Path:
    return Path(shutil.copytree(originals / "screen.zarr", file.with_suffix(".zarr")))


def convert(source: Path, output: Path, **how: Any) -> Path:
    data.convert_to_csr(source, output_path=output, verbose=False, **how)
    return output


def sort(source: Path, output: Path) -> Path:
    data.sort_by_perturbation(source, control_label="control", output_path=output)
    return output


def filter_all(source: Path, output: Path) -> Path:
    cx.quality_control_summary(
        source,
        perturbation_column=layouts.COLUMN,
        control_label="control",
        min_genes=2,
        min_cells_per_perturbation=2,
        min_cells_per_gene=5,
        output_path=output,
    )
    return output


def normalize(source: Path, output: Path) -> Path:
    data.normalize_total_log1p(source, output, verbose=False)
    return output


def by_columns(source: Path, output: Path) -> Path:
    data.convert_to_csc(source, output_path=output, verbose=False)
    return output


WRITERS = [convert, by_columns, sort, filter_all, normalize]


def contents(store: Path) -> dict[Path, bytes]:
    files = (file for file in store.rglob("*") if file.is_file())
    return {file.relative_to(store): file.read_bytes() for file in files}


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.usefixtures("form")
def test_stores_hold_every_slot_of_the_file_and_back(file: Path, tmp_path: Path) -> None:
    store = convert(file, tmp_path / "s.zarr")
    again = convert(store, tmp_path / "again.h5ad")
    original = anndata.read_h5ad(file)
    for found in (anndata.read_zarr(store), anndata.read_h5ad(again)):
        slots.assert_same_slots(found, original, ["crispyx"])
        slots.assert_same_value(found.X, original.X, "X")
    assert (store / "zarr.json").exists() == (cx.settings.zarr_format == 3)


@pytest.mark.parametrize("write", WRITERS)
def test_every_writer_makes_the_store_of_what_it_writes_as_a_file(
    write: Callable[[Path, Path], Path], file: Path, store: Path, tmp_path: Path
) -> None:
    source = file if write is not convert else by_columns(file, tmp_path / "columns.h5ad")
    expected = anndata.read_h5ad(write(source, tmp_path / "o.h5ad"))
    given = store if write is not convert else source
    found = anndata.read_zarr(write(given, tmp_path / "o.zarr"))
    added = ["crispyx", "log1p", "sorting_metadata"]
    slots.assert_same_slots(found, expected, [name for name in added if name in found.uns])
    slots.assert_same_value(found.X, expected.X, "X")


@pytest.mark.skipif(not HAS_FORMAT_3, reason="zarr before 3")
def test_large_arrays_stand_in_shards_of_several_chunks(tmp_path: Path) -> None:
    from crispyx._io.transcribe import CHUNK_VALUES, SHARD_CHUNKS, copy_element

    values = np.arange(CHUNK_VALUES * SHARD_CHUNKS + 5, dtype=np.uint8)
    source = zarr.open_group(str(tmp_path / "in.zarr"), mode="w", zarr_format=3)
    source.create_array("X", data=values)
    target = zarr.open_group(str(tmp_path / "out.zarr"), mode="w", zarr_format=3)
    copy_element(source["X"], target, "X", sharded=True)
    assert target["X"].chunks == (CHUNK_VALUES,)
    assert target["X"].shards == (CHUNK_VALUES * SHARD_CHUNKS,)
    assert np.array_equal(target["X"][:], values)
    files = [path for path in (tmp_path / "out.zarr/X").rglob("*") if path.is_file()]
    assert len(files) == 1 + 2  # metadata, and two shards of 17 chunks


def test_a_store_that_is_already_so_is_returned_and_nothing_is_written(store: Path) -> None:
    before = contents(store)
    assert data.convert_to_csr(store, output_path=store, verbose=False).path == store
    assert contents(store) == before
    assert left(store.parent) == ["screen.h5ad", "screen.zarr"]


def test_same_computation_is_reloaded_and_another_one_replaces_the_store(
    file: Path, tmp_path: Path
) -> None:
    store = normalize(file, tmp_path / "n.zarr")
    before = contents(store)
    normalize(file, store)
    assert contents(store) == before
    with pytest.warns(CrispyxWarning, match="is computed again.*target_sum"):
        data.normalize_total_log1p(file, store, target_sum=100, verbose=False)
    assert contents(store) != before
    with pytest.raises(FileExistsError, match="holds the normalized_log1p result"):
        by_columns(file, store)
    assert left(tmp_path) == ["n.zarr", "screen.h5ad"]


def test_an_error_while_the_store_is_made_leaves_nothing(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "the disk is gone")

    monkeypatch.setattr(folders, "_make_durable", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        normalize(file, tmp_path / "n.zarr")
    assert left(tmp_path) == ["screen.h5ad"]


@pytest.mark.parametrize("name", ["obs", "var", "obsm", "varm", "obsp", "uns"])
def test_elements_are_replaced_and_everything_else_is_kept(
    name: str, store: Path, screen: anndata.AnnData
) -> None:
    before = contents(store)
    expected = anndata.read_zarr(store)
    n_cells, n_genes = screen.shape
    if name in ("obs", "var"):
        table = getattr(expected, name).assign(added=1.5)
        setattr(expected, name, table)
        {"obs": data.write_obs, "var": data.write_var}[name](store, table)
    else:
        n_rows = n_genes if name == "varm" else n_cells
        values: dict[str, tuple[Callable[..., None], Any]] = {
            "obsm": (data.write_obsm_to_h5ad, np.ones((n_rows, 3))),
            "varm": (data.write_varm_to_h5ad, np.ones((n_rows, 3))),
            "obsp": (data.write_obsp_to_h5ad, sp.csr_matrix(np.eye(n_cells))),
            "uns": (data.write_uns_dict_to_h5ad, {"a": 1, "b": {"c": np.arange(3)}}),
        }
        write, value = values[name]
        getattr(expected, name)["added"] = value
        write(store, "added", value)
    found = anndata.read_zarr(store)
    slots.assert_same_slots(found, expected)
    after = contents(store)
    kept = [path for path in before if path.parts[0] in ("X", "layers", "raw")]
    assert {path: after[path] for path in kept} == {path: before[path] for path in kept}
    assert left(store.parent) == ["screen.h5ad", "screen.zarr"]


def test_an_interrupted_change_leaves_the_old_store(store: Path) -> None:
    before = contents(store)

    def interrupted() -> None:
        with changed_store(store) as group:
            del group["obs"]
            group["X"]["data"][...] = 0
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert left(store.parent) == ["screen.h5ad", "screen.zarr"]
    after = contents(store)
    assert {path for path in before if before[path] != after.get(path)} == set()


def test_where_folders_cannot_be_exchanged_a_change_is_refused_before_it_begins(
    store: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Library:
        def __init__(self, *_: Any, **__: Any) -> None: ...

    monkeypatch.setattr(folders.ctypes, "CDLL", Library)
    before = contents(store)
    for change in (
        lambda: data.write_obs(store, data.load_obs(store)),
        lambda: data.normalize_total_log1p(file, store, force=True, verbose=False),
    ):
        with pytest.raises(InputError, match=r"cannot be exchanged in one step.*\.h5ad"):
            change()
    assert contents(store) == before
    assert left(store.parent) == ["screen.h5ad", "screen.zarr"]


def test_a_store_opens_with_its_matrices_on_disk(store: Path, screen: anndata.AnnData) -> None:
    opened = cx.AnnData(store)
    assert opened.shape == screen.shape
    assert not sp.issparse(opened.X)
    assert not isinstance(opened.layers["dense"], np.ndarray)
    slots.assert_same_value(opened.to_memory().X, screen.X, "X")
    assert data.get_matrix_storage_format(opened.backed) == "csr"
    with pytest.raises(InputError, match=r"opened for reading; change it with.*write_obs"):
        cx.AnnData(store, mode="r+").backed  # noqa: B018 - opens


def test_matrix_of_an_address_is_read_as_that_of_the_store(store: Path, tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    address = f"memory://{tmp_path.name}/screen.zarr"
    fsspec.filesystem("memory").put(str(store), f"/{tmp_path.name}/screen.zarr", recursive=True)
    expected = anndata.read_h5ad(normalize(store, tmp_path / "expected.h5ad"))
    found = anndata.read_h5ad(normalize(address, tmp_path / "found.h5ad"))  # type: ignore[arg-type]
    slots.assert_same_slots(found, expected, ["log1p", "crispyx"])
    slots.assert_same_value(found.X, expected.X, "X")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d, f: data.normalize_total_log1p("memory://no.zarr", d / "o.h5ad"), "memory://no"),
        (lambda d, f: data.normalize_total_log1p("nofs://a.zarr", d / "o.h5ad"), "nofs"),
        (lambda d, f: data.load_obs("memory://a.zarr"), "copy it to this machine"),
        (lambda d, f: normalize(f, Path("s3://b/o.zarr")), "to which nothing is written"),
        (lambda d, f: normalize(f, d), "is a folder"),
        (lambda d, f: normalize(f, (d / "dir.zarr")), "is a folder"),
        (lambda d, f: normalize(f, (d / "file.zarr")), "is a file, not a zarr store"),
        (
            lambda d, f: cx.t_test(f, perturbation_column=layouts.COLUMN, output_path=d / "r.zarr"),
            r"named like a zarr store.*\.h5ad",
        ),
    ],
)
def test_what_is_neither_read_nor_written_is_refused(
    call: Callable[[Path, Path], Any], message: str, file: Path, tmp_path: Path
) -> None:
    pytest.importorskip("fsspec")
    (tmp_path / "dir.zarr").mkdir()
    (tmp_path / "file.zarr").touch()
    before = left(tmp_path)
    with pytest.raises(InputError, match=message):
        call(tmp_path, file)
    assert left(tmp_path) == before


def test_settings_that_no_store_can_have_are_refused_before_work(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="zarr_format is 4"):
        cx.settings.zarr_format = 4  # type: ignore[assignment]
    monkeypatch.setattr(cx.settings, "_zarr_format", 2)
    monkeypatch.setattr(cx.settings, "zarr_shards", True)
    with pytest.raises(InputError, match=r"only zarr format 3 has shards"):
        normalize(file, tmp_path / "n.zarr")
    assert left(tmp_path) == ["screen.h5ad"]
