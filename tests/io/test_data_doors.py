"""Doors of crispyx.data: the wrapper and its lazy tables, chunks, names, paths."""

from __future__ import annotations

import copy
import logging
import pickle
import subprocess
import sys
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
from crispyx.data import (
    AnnData,
    ensure_gene_symbol_column,
    get_matrix_storage_format,
    is_dense_storage,
    iter_matrix_chunks,
    load_obs,
    load_var,
    read_backed,
    read_h5ad_ondisk,
    resolve_data_path,
    resolve_output_path,
)
from crispyx.errors import (
    CrispyxWarning,
    InputError,
    InputTypeError,
    MissingColumnError,
    MissingFileError,
)


@pytest.fixture(scope="module")
def screen() -> tuple[np.ndarray, list[str]]:
    counts, labels = layouts.count_screen()
    return counts, ["control" if label is None else label for label in labels]


@pytest.fixture
def path(tmp_path: Path, screen: Any) -> Path:
    slots.rich(*screen).write_h5ad(tmp_path / "rich.h5ad")
    return tmp_path / "rich.h5ad"


@pytest.fixture
def expected(path: Path) -> anndata.AnnData:
    return anndata.read_h5ad(path)


def test_importing_data_and_qc_imports_nothing_heavy() -> None:
    program = (
        "import sys, crispyx.data, crispyx.qc\n"
        "heavy = ['pandas', 'anndata', 'scipy', 'scanpy', 'matplotlib', 'tqdm']\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


def test_wrapper_stands_for_the_backed_object(path: Path, expected: anndata.AnnData) -> None:
    with AnnData(path) as wrapper:
        assert wrapper.path == path
        assert wrapper.filename == str(wrapper) == str(path)
        assert repr(wrapper) == f"AnnData(path={path}, mode='r')"
        assert isinstance(wrapper.backed, anndata.AnnData)
        assert wrapper.backed is wrapper.backed
        assert wrapper.isbacked
        assert wrapper.shape == expected.shape
        assert (wrapper.n_obs, wrapper.n_vars) == expected.shape
        assert wrapper.obs_names.equals(expected.obs_names)
        np.testing.assert_array_equal(wrapper.X[3:5].toarray(), expected.X[3:5].toarray())
        assert set(wrapper.layers) == set(expected.layers)
        np.testing.assert_array_equal(wrapper.obsm["X_pca"], expected.obsm["X_pca"])
        slots.assert_same_slots(wrapper.to_memory(), expected)


def test_wrapper_opens_nothing_until_asked(path: Path) -> None:
    wrapper = AnnData(path)
    assert wrapper._backed is None
    assert "batch" in wrapper.obs
    assert "note" in wrapper.uns
    assert wrapper.isbacked
    assert wrapper._backed is None, "tables are read without the matrix"
    # The file can be replaced meanwhile: nothing holds it open.
    with h5py.File(path, "r+") as file:
        file.attrs["touched"] = True


def test_wrapper_closes_and_opens_again(path: Path) -> None:
    wrapper = AnnData(path)
    wrapper.close()
    first = wrapper.backed
    wrapper.close()
    wrapper.close()
    assert not first.file.is_open
    assert "note" in wrapper.uns
    assert "batch" in wrapper.obs
    assert wrapper.n_obs == 61
    assert wrapper.backed is not first
    wrapper.close()
    with h5py.File(path, "r+") as file:
        del file["uns/note"], file["obs/batch"]
        file["obs"].attrs["column-order"] = ["perturbation"]
    assert "note" not in wrapper.uns, "what was read before closing is forgotten"
    assert "batch" not in wrapper.obs
    wrapper.close()


def test_wrapper_writes_only_when_opened_for_it(tmp_path: Path, screen: Any) -> None:
    path = layouts.write_h5ad(tmp_path / "in.h5ad", *screen, layout="dense")
    with AnnData(path, mode="r+") as wrapper:
        wrapper.backed.X[0, 0] = 5.0
    assert anndata.read_h5ad(path).X[0, 0] == 5.0
    with AnnData(path) as wrapper, pytest.raises((OSError, RuntimeError, ValueError)):
        wrapper.backed.X[0, 0] = 6.0
    assert anndata.read_h5ad(path).X[0, 0] == 5.0


def test_wrapper_can_be_copied_and_pickled(path: Path) -> None:
    with AnnData(path, mode="r+") as wrapper:
        assert wrapper.n_obs == 61
        for twin in (
            pickle.loads(pickle.dumps(wrapper)),
            copy.copy(wrapper),
            copy.deepcopy(wrapper),
        ):
            assert repr(twin) == repr(wrapper)
            assert twin._backed is None


def test_wrapper_names_what_it_cannot_do(tmp_path: Path, path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"no\.h5ad"):
        AnnData(tmp_path / "no.h5ad")
    with pytest.raises(InputError, match=r"mode is 'w'; give 'r' .* or 'r\+'"):
        AnnData(path, mode="w")
    wrapper = AnnData(path)
    with pytest.raises(AttributeError, match="'AnnData' object has no attribute 'foo'"):
        wrapper.foo  # noqa: B018
    with pytest.raises(AttributeError):
        wrapper.obs = None
    with pytest.raises(TypeError):
        wrapper[0]
    with pytest.raises(TypeError):
        len(wrapper)
    wrapper.close()
    text = tmp_path / "text.h5ad"
    text.write_text("not HDF5")
    with pytest.raises(InputError, match=r"text\.h5ad.*cannot be read as HDF5"):
        AnnData(text).backed  # noqa: B018
    with h5py.File(tmp_path / "other.h5ad", "w"):
        pass
    for use in (lambda w: w.backed, lambda w: w.obs.load()):
        with pytest.raises(InputError, match=r"other\.h5ad.* has no obs and no var"):
            use(AnnData(tmp_path / "other.h5ad"))


def test_lazy_table_behaves_like_its_frame(path: Path, expected: anndata.AnnData) -> None:
    wrapper = AnnData(path)
    obs, frame = wrapper.obs, expected.obs
    assert obs is wrapper.obs
    assert obs.load() is obs.load()
    pd.testing.assert_frame_equal(obs.load(), frame)
    pd.testing.assert_frame_equal(obs.head(3), frame.head(3))
    pd.testing.assert_frame_equal(wrapper.var.load(), expected.var)
    assert len(obs) == 61
    assert list(obs) == list(frame)
    assert "batch" in obs
    assert "no such column" not in obs
    pd.testing.assert_series_equal(obs["batch"], frame["batch"])
    pd.testing.assert_frame_equal(obs[["batch", "depth"]], frame[["batch", "depth"]])
    pd.testing.assert_series_equal(obs.batch, frame.batch)
    assert obs.shape == frame.shape
    assert obs.iloc[2]["depth"] == frame.iloc[2]["depth"]
    assert obs.index.equals(frame.index)
    assert np.asarray(obs).shape == frame.shape
    assert str(obs) == f"<obs preview>\n{frame.head(5)}"
    assert repr(wrapper.var).startswith("<var preview>")
    with pytest.raises(KeyError, match="zz"):
        obs["zz"]
    with pytest.raises(AttributeError, match="'DataFrame' object has no attribute 'foo'"):
        obs.foo  # noqa: B018


def test_assigning_a_column_leaves_the_file_alone(path: Path) -> None:
    before = path.read_bytes()
    wrapper = AnnData(path)
    wrapper.obs["new"] = 1
    assert (wrapper.obs["new"] == 1).all()
    assert path.read_bytes() == before
    assert "new" not in AnnData(path).obs


def test_lazy_uns_reads_entry_by_entry(path: Path, expected: anndata.AnnData) -> None:
    uns = AnnData(path).uns
    assert set(uns) == set(expected.uns)
    assert len(uns) == len(expected.uns)
    assert "note" in uns
    assert uns.get("nothing", 7) == 7
    note = uns["note"]
    assert note is uns["note"]
    assert note["text"] == "kept"
    assert set(note.keys()) == {"text", "numbers", "nested"}
    assert note.get("absent") is None
    assert len(note) == 3
    assert "text" in note
    assert sorted(note) == ["nested", "numbers", "text"]
    slots.assert_same_value(note.load(), expected.uns["note"], "uns/note")
    assert note.load() is note.load()
    assert repr(note) == note.preview() == repr(note.load())
    np.testing.assert_array_equal(
        np.asarray(uns["perturbation_colors"]), expected.uns["perturbation_colors"]
    )
    assert "perturbation_colors" in repr(uns)
    with pytest.raises(KeyError):
        uns["nothing"]
    with pytest.raises(TypeError):
        uns["note"] = 1  # type: ignore[index]


def test_uns_text_compares_with_text(tmp_path: Path, screen: Any) -> None:
    adata = layouts.in_memory(*screen, sp.csr_matrix)
    adata.uns["method"] = "t_test"
    adata.write_h5ad(tmp_path / "in.h5ad")
    uns = AnnData(tmp_path / "in.h5ad").uns
    assert uns["method"] == "t_test"
    assert uns["method"] != "wilcoxon"
    empty = layouts.write_h5ad(tmp_path / "empty.h5ad", *screen)
    assert repr(AnnData(empty).uns) == "<uns: empty>"


def test_read_backed_returns_a_plain_backed_object(tmp_path: Path, path: Path) -> None:
    adata = read_backed(str(path))
    assert type(adata) is anndata.AnnData
    assert adata.isbacked
    adata.file.close()
    with pytest.raises(FileNotFoundError, match=r"no\.h5ad"):
        read_backed(tmp_path / "no.h5ad")
    cut = tmp_path / "cut.h5ad"
    cut.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"cut\.h5ad.*cut short"):
        read_backed(cut)
    with pytest.raises(InputError, match="is a folder"):
        read_backed(tmp_path)


def test_reading_on_disk_prints_what_is_there(
    path: Path, expected: anndata.AnnData, capsys: pytest.CaptureFixture[str]
) -> None:
    view = read_h5ad_ondisk(path, n_obs=2, n_vars=3)
    printed = capsys.readouterr().out
    assert isinstance(view, AnnData)
    assert repr(expected).splitlines()[0] in printed
    assert f"backed at {str(path)!r}" in printed
    first_obs, first_var = printed.split("First obs rows:")[1].split("First var rows:")
    assert "cell1" in first_obs
    assert "cell2" not in first_obs
    assert "gene2" in first_var
    assert "gene3" not in first_var
    with pytest.raises(InputError, match="n_obs is -1"):
        read_h5ad_ondisk(path, n_obs=-1)
    view.close()


@pytest.mark.parametrize("form", ["path", "text", "wrapper", "backed"])
def test_tables_load_without_the_matrix(path: Path, expected: anndata.AnnData, form: str) -> None:
    with h5py.File(path, "r+") as file:
        file["X/data"][:] = np.nan  # no one looks at it
    data = {
        "path": lambda: path,
        "text": lambda: str(path),
        "wrapper": lambda: AnnData(path),
        "backed": lambda: anndata.read_h5ad(path, backed="r"),
    }[form]()
    pd.testing.assert_frame_equal(load_obs(data), expected.obs)
    pd.testing.assert_frame_equal(load_var(data), expected.var)


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_storage_format_is_told(tmp_path: Path, screen: Any, layout: str) -> None:
    path = layouts.write_h5ad(tmp_path / "in.h5ad", *screen, layout=layout)
    for data in (path, str(path), AnnData(path)):
        assert get_matrix_storage_format(data) == layout
        assert is_dense_storage(data) is (layout == "dense")


@given(
    layout=st.sampled_from(["csr", "csc", "dense"]),
    dtype=st.sampled_from(["u1", "u2", "i4", "i8", "f4", "f8"]),
    axis=st.sampled_from([0, 1]),
    chunk_size=st.integers(1, 70),
    dense=st.booleans(),
    stored_zeros=st.booleans(),
    unsorted=st.booleans(),
)
def test_chunks_put_together_are_the_matrix(
    tmp_path_factory: pytest.TempPathFactory,
    screen: Any,
    layout: str,
    dtype: str,
    axis: int,
    chunk_size: int,
    dense: bool,
    **storage: Any,
) -> None:
    storage = {} if layout == "dense" else storage
    path = tmp_path_factory.mktemp("chunks") / "in.h5ad"
    layouts.write_h5ad(path, *screen, layout=layout, dtype=dtype, **storage)
    parts = []
    at = 0
    for span, chunk in iter_matrix_chunks(
        AnnData(path), axis=axis, chunk_size=chunk_size, convert_to_dense=dense
    ):
        assert (span.start, span.stop) == (at, min(at + chunk_size, screen[0].shape[axis]))
        at = span.stop
        assert chunk.dtype == np.dtype(dtype)
        assert chunk.shape[axis] == span.stop - span.start
        if dense or layout == "dense":
            assert isinstance(chunk, np.ndarray)
        else:
            assert chunk.format == layout
        parts.append(chunk if isinstance(chunk, np.ndarray) else chunk.toarray())
    np.testing.assert_array_equal(np.concatenate(parts, axis=axis), screen[0])


@pytest.mark.parametrize("kind", sorted(set(layouts.OBJECTS) - {"memory view"}))
def test_chunks_come_from_every_object(tmp_path: Path, screen: Any, kind: str) -> None:
    data = layouts.OBJECTS[kind](*screen, tmp_path)
    for axis in (0, 1):
        parts = [chunk for _, chunk in iter_matrix_chunks(data, axis=axis, chunk_size=9)]
        np.testing.assert_array_equal(np.concatenate(parts, axis=axis), screen[0])


def test_chunks_across_the_stored_axis_from_a_scratch_file_are_the_same(
    tmp_path: Path, screen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = layouts.write_h5ad(tmp_path / "in.h5ad", *screen)
    monkeypatch.setattr("crispyx._io.segments.working_memory", lambda: 0)
    parts = [chunk for _, chunk in iter_matrix_chunks(path, axis=1, chunk_size=4)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), screen[0])


def test_chunk_arguments_are_checked_at_once(path: Path) -> None:
    with pytest.raises(InputError, match=r"axis is 2; give 0 .* or 1"):
        iter_matrix_chunks(path, axis=2)
    with pytest.raises(InputError, match="chunk_size is 0"):
        iter_matrix_chunks(path, chunk_size=0)


def test_chunks_left_early_close_the_file(path: Path) -> None:
    chunks = iter_matrix_chunks(path, chunk_size=5)
    next(chunks)
    chunks.close()
    with h5py.File(path, "r+"):
        pass


def test_gene_symbols_come_from_the_column_or_the_index(
    path: Path, expected: anndata.AnnData, caplog: pytest.LogCaptureFixture
) -> None:
    for data in (expected, AnnData(path), anndata.read_h5ad(path, backed="r")):
        symbols = ensure_gene_symbol_column(data, "symbol")
        assert symbols.name == "symbol"
        assert symbols.dtype == object
        assert symbols.tolist() == [f"SYM{j}" for j in range(13)]
        with caplog.at_level(logging.INFO, logger="crispyx.data"):
            assert ensure_gene_symbol_column(data, None).tolist() == expected.var_names.tolist()
        assert "var_names" in caplog.text
    with pytest.raises(MissingColumnError, match="'nope' is not in var; its columns are: 'symbol'"):
        ensure_gene_symbol_column(expected, "nope")


def test_ensembl_names_are_accepted_with_a_note(
    screen: Any, caplog: pytest.LogCaptureFixture
) -> None:
    adata = layouts.in_memory(*screen, sp.csr_matrix)
    adata.var_names = [f"ENSG{j:011d}.{j}" for j in range(13)]
    with caplog.at_level(logging.INFO, logger="crispyx.data"):
        names = ensure_gene_symbol_column(adata, None)
    assert names.tolist() == adata.var_names.tolist()
    assert "13 of 13" in caplog.text
    caplog.clear()
    adata.var_names = [f"ENSA{j}" for j in range(13)]  # a gene symbol, no identifier
    with caplog.at_level(logging.INFO, logger="crispyx.data"):
        ensure_gene_symbol_column(adata, None)
    assert "Ensembl" not in caplog.text


def test_gene_without_symbol_goes_by_its_index_name(screen: Any) -> None:
    adata = layouts.in_memory(*screen, sp.csr_matrix)
    adata.var["symbol"] = ["A", None, np.nan, *[f"S{j}" for j in range(10)]]
    with pytest.warns(CrispyxWarning, match="2 of 13 genes have no entry in var column 'symbol'"):
        names = ensure_gene_symbol_column(adata, "symbol")
    assert names.tolist()[:4] == ["A", "gene1", "gene2", "S0"]


def test_path_behind_a_data_set_is_found(tmp_path: Path, path: Path, screen: Any) -> None:
    for data in (path, str(path), AnnData(path), anndata.read_h5ad(path, backed="r")):
        assert resolve_data_path(data) == path
    assert resolve_data_path(tmp_path / "no.h5ad", require_exists=False) == tmp_path / "no.h5ad"
    with pytest.raises(MissingFileError, match=r"no\.h5ad"):
        resolve_data_path(tmp_path / "no.h5ad")
    with pytest.raises(InputTypeError, match="write_h5ad"):
        resolve_data_path(layouts.in_memory(*screen, sp.csr_matrix))
    with pytest.raises(InputTypeError, match="int"):
        resolve_data_path(3)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"suffix": "t"}, "sub/crispyx_t.h5ad"),
        ({"suffix": "t", "data_name": "a"}, "sub/crispyx_a_t.h5ad"),
        ({"suffix": "t", "data_name": "crispyx_a_t"}, "sub/crispyx_a_t.h5ad"),
        ({"suffix": "t", "data_name": "b", "module": "mod"}, "sub/mod_b_t.h5ad"),
        ({"suffix": "t", "output_dir": "out"}, "out/crispyx_t.h5ad"),
    ],
)
def test_output_names_follow_the_convention(options: dict[str, Any], name: str) -> None:
    assert resolve_output_path("sub/in.h5ad", **options) == Path(name)


def test_tables_and_names_are_those_of_an_anndata_in_memory() -> None:
    values, labels = layouts.count_screen()
    adata = layouts.in_memory(values, [f"sg{label}" for label in labels], sp.csr_matrix)
    adata.var["gene"] = [f"mt-{j}.2" for j in range(adata.n_vars)]
    before = cx.load_obs(adata)
    before["more"] = 1
    assert "more" not in adata.obs
    pd.testing.assert_frame_equal(cx.load_var(adata), adata.var)
    names = cx.data.standardise_gene_names(adata, column="gene", inplace=False)
    assert names is not None
    assert list(names) == [f"MT-{j}.2" for j in range(adata.n_vars)]
    assert cx.data.standardise_gene_names(adata, column="gene") is None
    assert list(adata.var["gene"]) == list(names)
    how = {"strip_prefixes": ["sg"], "canonical_control": "ctrl"}
    assert cx.data.normalise_perturbation_labels(adata, layouts.COLUMN, **how) is None
    assert {"ctrl", "MYC"} < set(adata.obs[layouts.COLUMN])


def test_symbols_of_a_path_are_those_of_its_anndata(tmp_path: Path) -> None:
    values, labels = layouts.count_screen()
    adata = layouts.in_memory(values, [str(label) for label in labels], sp.csr_matrix)
    adata.var["symbol"] = [f"SYM{j}" for j in range(adata.n_vars)]
    adata.write_h5ad(tmp_path / "screen.h5ad")
    found = cx.ensure_gene_symbol_column(tmp_path / "screen.h5ad", "symbol")
    assert list(found) == list(adata.var["symbol"])
