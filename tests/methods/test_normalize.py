"""Normalization: the compiled engine against the reference, every input form, scanpy, bad input."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import anndata
import h5py
import layouts
import numpy as np
import pytest
import scipy.sparse as sp
import slots
from hypothesis import given
from hypothesis import strategies as st

import reference.normalize
from crispyx._io.chunk_cache import BlockBounds, ChunkCache
from crispyx._io.source import open_source
from crispyx._stats.normalize import Scaling, scaled_values
from crispyx.data import AnnData, normalize_total_block, normalize_total_log1p
from crispyx.errors import (
    CrispyxWarning,
    DiskSpaceError,
    InputError,
    MissingFileError,
    OutputExistsError,
)
from crispyx.settings import settings, use_engine

STEPS = [(True, True), (True, False), (False, True)]
COUNTS = st.sampled_from([0, 0, 0, 1, 1, 2, 7, 250])


@st.composite
def count_matrices(draw: Any) -> np.ndarray:
    n_cells, n_genes = draw(st.integers(1, 12)), draw(st.integers(1, 8))
    size = n_cells * n_genes
    return np.array(draw(st.lists(COUNTS, min_size=size, max_size=size))).reshape(n_cells, n_genes)


def defined(counts: np.ndarray, normalize: bool, log1p: bool, target_sum: float) -> np.ndarray:
    """Return the definition, float64."""
    values = np.asarray(counts, dtype=np.float64)
    if normalize:
        values = reference.normalize.normalize_total(values, target_sum)
    return np.log1p(values) if log1p else values


def in_file(path: Path) -> tuple[np.ndarray, ...]:
    """Return data, indices and indptr as stored."""
    with h5py.File(path) as file:
        assert file["X"].attrs["encoding-type"] == "csr_matrix"
        return tuple(file["X"][part][()] for part in ("data", "indices", "indptr"))


def quiet(data: Any, output: Path, **options: Any) -> AnnData:
    return normalize_total_log1p(data, output, verbose=False, **options)


@pytest.fixture(scope="module")
def screen() -> tuple[np.ndarray, list[str | None]]:
    counts, labels = layouts.count_screen()
    counts[4] = 0  # a cell without any count
    return counts, labels


@pytest.fixture
def path(tmp_path: Path, screen: Any) -> Path:
    return layouts.write_h5ad(tmp_path / "screen.h5ad", *screen)


@given(
    counts=count_matrices(),
    steps=st.sampled_from(STEPS),
    target_sum=st.sampled_from([1e4, 1.0, 1e6, 123.5]),
    layout=st.sampled_from(["csr", "csc", "dense"]),
    dtype=st.sampled_from(["u1", "u2", "i4", "i8", "f4", "f8"]),
    index=st.sampled_from(["i4", "i8"]),
    unsorted=st.booleans(),
    stored_zeros=st.booleans(),
    chunk_size=st.integers(1, 13),
)
def test_file_is_the_definition_rounded_to_float32(
    tmp_path_factory: pytest.TempPathFactory,
    counts: np.ndarray,
    steps: tuple[bool, bool],
    target_sum: float,
    layout: str,
    dtype: str,
    chunk_size: int,
    **storage: Any,
) -> None:
    folder = tmp_path_factory.mktemp("normalize")
    kind = {"layout": layout} if layout == "dense" else {"layout": layout, **storage}
    labels = ["control"] * len(counts)
    path = layouts.write_h5ad(folder / "in.h5ad", counts, labels, dtype=dtype, **kind)
    normalize, log1p = steps
    quiet(
        path,
        folder / "out.h5ad",
        normalize=normalize,
        log1p=log1p,
        target_sum=target_sum,
        chunk_size=chunk_size,
    )
    with h5py.File(folder / "out.h5ad") as file:
        group = file["X"]
        found = sp.csr_matrix(
            (group["data"][()], group["indices"][()], group["indptr"][()]), shape=counts.shape
        )
    assert found.dtype == np.float32
    assert found.nnz == np.count_nonzero(counts), "zeros are not stored"
    # float64 log1p of two libraries differs in the last bit at most, so that one rounding to
    # float32 may fall on the other side.
    expected = defined(counts, normalize, log1p, target_sum).astype(np.float32)
    np.testing.assert_array_max_ulp(found.toarray(), expected, maxulp=1)


@given(counts=count_matrices(), steps=st.sampled_from(STEPS), n_threads=st.integers(1, 3))
def test_compiled_block_equals_the_reference_block(
    counts: np.ndarray, steps: tuple[bool, bool], n_threads: int
) -> None:
    adata = layouts.in_memory(counts, ["control"] * len(counts), sp.csr_matrix)
    with open_source(adata) as source:
        block = next(ChunkCache(source, bounds=BlockBounds()).blocks())
    args = (block, counts.sum(axis=1).astype(float), counts.shape[1], Scaling(*steps, 1e4))
    np.testing.assert_array_max_ulp(
        scaled_values(*args, "compiled", n_threads), scaled_values(*args, "reference"), maxulp=1
    )


@pytest.mark.parametrize("form", sorted(name for name in layouts.FILES if "layer" not in name))
@pytest.mark.parametrize("steps", STEPS)
def test_every_form_of_a_file_gives_the_same_bits(
    tmp_path: Path, screen: Any, form: str, steps: tuple[bool, bool]
) -> None:
    options = {"normalize": steps[0], "log1p": steps[1]}
    plain = layouts.write_h5ad(tmp_path / "plain.h5ad", *screen, dtype="f8")
    other = layouts.write_h5ad(tmp_path / "other.h5ad", *screen, **layouts.FILES[form])
    quiet(plain, tmp_path / "a.h5ad", **options)
    quiet(other, tmp_path / "b.h5ad", **options)
    for expected, found in zip(
        in_file(tmp_path / "a.h5ad"), in_file(tmp_path / "b.h5ad"), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype


@pytest.mark.parametrize("kind", sorted(set(layouts.OBJECTS) - {"memory view"}))
def test_every_object_gives_the_same_bits(tmp_path: Path, screen: Any, kind: str) -> None:
    plain = layouts.write_h5ad(tmp_path / "plain.h5ad", *screen)
    quiet(plain, tmp_path / "a.h5ad")
    quiet(layouts.OBJECTS[kind](*screen, tmp_path), tmp_path / "out.h5ad")
    for expected, found in zip(
        in_file(tmp_path / "a.h5ad"), in_file(tmp_path / "out.h5ad"), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_fractional_values_give_the_same_bits_for_every_layout_block_size_and_thread_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    values, labels = layouts.log_screen(n_cells=97, n_genes=31)
    bits = set()
    for chunk_size, n_threads in [(4096, 1), (1, 1), (13, 2), (97, 3)]:
        monkeypatch.setattr(settings, "_n_threads", n_threads)
        path = layouts.write_h5ad(tmp_path / "in.h5ad", values, labels, layout=layout)
        with pytest.warns(CrispyxWarning, match="not a count"):
            quiet(path, tmp_path / "out.h5ad", chunk_size=chunk_size, force=True)
        bits.add(b"".join(part.tobytes() for part in in_file(tmp_path / "out.h5ad")))
    with pytest.warns(CrispyxWarning, match="not a count"):
        quiet(layouts.in_memory(values, labels, np.asarray), tmp_path / "memory.h5ad")
    bits.add(b"".join(part.tobytes() for part in in_file(tmp_path / "memory.h5ad")))
    assert len(bits) == 1


def test_csc_turned_around_in_a_scratch_file_gives_the_same_bits(
    tmp_path: Path, screen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = layouts.write_h5ad(tmp_path / "in.h5ad", *screen, layout="csc")
    quiet(path, tmp_path / "memory.h5ad")
    monkeypatch.setattr("crispyx._io.segments.working_memory", lambda: 0)
    quiet(path, tmp_path / "scratch.h5ad")
    for a, b in zip(
        in_file(tmp_path / "memory.h5ad"), in_file(tmp_path / "scratch.h5ad"), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "in.h5ad",
        "memory.h5ad",
        "scratch.h5ad",
    ]


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_reference_engine_runs_the_same_call(tmp_path: Path, screen: Any, layout: str) -> None:
    path = layouts.write_h5ad(tmp_path / "in.h5ad", *screen, layout=layout)
    compiled = quiet(path, tmp_path / "compiled.h5ad").to_memory()
    with use_engine("reference"):
        slow = quiet(path, tmp_path / "reference.h5ad", chunk_size=7)
    record = json.loads(slow.uns["crispyx"]["fingerprint"])
    assert record["parameters"]["engine"] == "reference"
    found = slow.to_memory()
    np.testing.assert_array_equal(found.X.indices, compiled.X.indices)
    np.testing.assert_array_max_ulp(found.X.data, compiled.X.data, maxulp=1)


def test_cell_without_counts_stays_empty(tmp_path: Path, path: Path) -> None:
    result = quiet(path, tmp_path / "out.h5ad").to_memory()
    assert result.X[4].nnz == 0
    totals = np.expm1(result.X.toarray().astype(float)).sum(axis=1)
    # float32 keeps 24 bits of each value.
    np.testing.assert_allclose(np.delete(totals, 4), 1e4, rtol=1e-6)


def test_result_agrees_with_scanpy_on_a_real_screen(tmp_path: Path, data_dir: Path) -> None:
    import scanpy as sc

    path = data_dir / "papalexi_eccite_299genes.h5ad"
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    found = quiet(path, tmp_path / "out.h5ad").to_memory()
    expected = anndata.read_h5ad(path)
    expected.X = expected.X.astype(np.float32)
    sc.pp.normalize_total(expected, target_sum=1e4)
    sc.pp.log1p(expected)
    np.testing.assert_array_equal(found.X.indptr, expected.X.indptr)
    # scanpy rounds to float32 after every step; log values stay below 10, where 2^-20 is one step.
    np.testing.assert_allclose(found.X.data, expected.X.data, rtol=0, atol=2**-20)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


def test_scanpy_takes_the_result_as_natural_logarithms(tmp_path: Path, path: Path) -> None:
    import scanpy as sc

    adata = quiet(path, tmp_path / "out.h5ad").to_memory()
    assert adata.uns["log1p"].get("base") is None
    adata = adata[adata.obs["perturbation"].isin(["KLF1", "control"])].copy()
    sc.tl.rank_genes_groups(adata, "perturbation", reference="control", method="wilcoxon")
    assert len(sc.get.rank_genes_groups_df(adata, "KLF1")) == adata.n_vars


@pytest.mark.parametrize("on_disk", [True, False])
def test_every_other_slot_is_kept(tmp_path: Path, screen: Any, on_disk: bool) -> None:
    counts, labels = screen
    adata = slots.rich(counts, ["control" if label is None else label for label in labels])
    adata.write_h5ad(tmp_path / "in.h5ad")
    written = anndata.read_h5ad(tmp_path / "in.h5ad")
    source = tmp_path / "in.h5ad" if on_disk else adata
    result = quiet(source, tmp_path / "out.h5ad").to_memory()
    assert "unused" in result.obs["perturbation"].cat.categories
    slots.assert_same_slots(result, written, added_uns=["log1p", "crispyx"])


def test_names_of_the_output(tmp_path: Path, path: Path) -> None:
    names = {
        "crispyx_normalized_log1p.h5ad": {},
        "crispyx_normalized.h5ad": {"log1p": False},
        "crispyx_log1p.h5ad": {"normalize": False},
        "crispyx_nm_normalized_log1p.h5ad": {"data_name": "nm"},
    }
    for name, options in names.items():
        result = normalize_total_log1p(path, verbose=False, **options)
        assert result.path == tmp_path / name
    result = normalize_total_log1p(path, verbose=False, output_dir=tmp_path / "deep" / "er")
    assert result.path == tmp_path / "deep" / "er" / "crispyx_normalized_log1p.h5ad"


def test_verbose_says_what_is_done_and_quiet_says_nothing(
    tmp_path: Path, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet(path, tmp_path / "quiet.h5ad")
    assert capsys.readouterr().out == ""
    normalize_total_log1p(path, tmp_path / "loud.h5ad")
    assert "61 cells x 13 genes" in capsys.readouterr().out


def test_same_computation_is_reloaded(tmp_path: Path, path: Path) -> None:
    output = tmp_path / "out.h5ad"
    quiet(path, output)
    before = output.stat().st_mtime_ns
    quiet(path, output, chunk_size=3)
    assert output.stat().st_mtime_ns == before
    quiet(path, output, force=True)
    assert output.stat().st_mtime_ns > before


def test_other_parameters_are_computed_again_and_said_so(tmp_path: Path, path: Path) -> None:
    output = tmp_path / "out.h5ad"
    quiet(path, output)
    with pytest.warns(CrispyxWarning, match="target_sum 10000"):
        again = quiet(path, output, target_sum=1e6)
    assert np.expm1(again.to_memory().X[0].toarray().astype(float)).sum() == pytest.approx(1e6)


@pytest.mark.parametrize("existing", ["another input's result", "a file of the user's"])
def test_file_of_another_origin_is_not_overwritten(
    tmp_path: Path, path: Path, screen: Any, existing: str
) -> None:
    output = tmp_path / "out.h5ad"
    if existing == "a file of the user's":
        layouts.write_h5ad(output, *screen)
    else:
        other = layouts.write_h5ad(tmp_path / "other.h5ad", *screen)
        quiet(other, output)
    before = output.read_bytes()
    with pytest.raises(OutputExistsError, match="output_path="):
        quiet(path, output)
    assert output.read_bytes() == before


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
@pytest.mark.parametrize("value", [-3.0, np.nan, np.inf])
def test_value_that_is_no_count_is_named_in_whatever_block_it_stands(
    tmp_path: Path, screen: Any, layout: str, value: float
) -> None:
    counts = screen[0].copy()
    counts[57, 11] = value
    path = layouts.write_h5ad(tmp_path / "in.h5ad", counts, screen[1], layout=layout)
    with pytest.raises(InputError, match=r"in\.h5ad.*cell57.*row 57.*gene11.*11") as caught:
        quiet(path, tmp_path / "out.h5ad", chunk_size=2)
    assert f"{value:g}" in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["in.h5ad"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalize": False, "log1p": False}, "at least one must be True"),
        ({"target_sum": 0}, "target_sum is 0"),
        ({"target_sum": np.nan}, "target_sum is nan"),
        ({"target_sum": None}, "target_sum is None"),
        ({"chunk_size": 0}, "chunk_size is 0"),
        ({"chunk_size": 2.5}, r"chunk_size is 2\.5"),
        ({"chunk_size": True}, "chunk_size is True"),
    ],
)
def test_argument_out_of_range_is_refused_before_work(
    tmp_path: Path, path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        quiet(path, tmp_path / "out.h5ad", **options)
    assert not (tmp_path / "out.h5ad").exists()


def test_output_must_not_be_the_input(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(InputError, match="is the input itself"):
        quiet(path, path, force=True)
    assert path.read_bytes() == before


def test_matrix_in_memory_needs_a_place_for_the_output(screen: Any) -> None:
    adata = layouts.in_memory(*screen, sp.csr_matrix)
    with pytest.raises(InputError, match="output_path= or output_dir="):
        normalize_total_log1p(adata)


def test_missing_and_broken_inputs_are_named(tmp_path: Path, path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"no\.h5ad"):
        quiet(tmp_path / "no.h5ad", tmp_path / "out.h5ad")
    cut = tmp_path / "cut.h5ad"
    cut.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"cut\.h5ad.*cut short"):
        quiet(cut, tmp_path / "out.h5ad")
    with pytest.raises(InputError, match="is a folder"):
        quiet(tmp_path, tmp_path / "out.h5ad")


def test_data_that_say_they_are_logged_are_warned_about(tmp_path: Path, path: Path) -> None:
    quiet(path, tmp_path / "once.h5ad", normalize=False)
    with (
        pytest.warns(CrispyxWarning, match="log-transformed already"),
        pytest.warns(CrispyxWarning, match="not a count"),
    ):
        quiet(tmp_path / "once.h5ad", tmp_path / "twice.h5ad")


def test_full_disk_is_seen_before_work(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 100

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)
    with pytest.raises(DiskSpaceError, match=r"needs .* but .* free"):
        quiet(path, tmp_path / "out.h5ad")
    assert [file.name for file in tmp_path.iterdir()] == ["screen.h5ad"]


@given(counts=count_matrices(), target_sum=st.sampled_from([1e4, 1.0, 77.25]))
def test_dense_block_is_the_definition(counts: np.ndarray, target_sum: float) -> None:
    expected = reference.normalize.normalize_total(counts, target_sum)
    for block in (counts, sp.csr_matrix(counts), sp.csc_matrix(counts), counts.astype(np.float32)):
        for engine in ("compiled", "reference"):
            with use_engine(engine):
                found, sizes = normalize_total_block(block, target_sum=target_sum)
            np.testing.assert_array_equal(found, expected)
            np.testing.assert_array_equal(sizes, counts.sum(axis=1))


def test_dense_block_takes_given_library_sizes_and_type() -> None:
    counts = np.array([[1, 3], [0, 0], [2, 2]])
    found, sizes = normalize_total_block(
        counts, library_size=[8, 0, 4], target_sum=8.0, dtype=np.float32
    )
    np.testing.assert_array_equal(found, [[1, 3], [0, 0], [4, 4]])
    assert found.dtype == sizes.dtype == np.float32
    np.testing.assert_array_equal(sizes, [8, 0, 4])


@pytest.mark.parametrize(
    ("block", "options", "message"),
    [
        ([[1.0, -2.0]], {}, "-2 at row 0, column 1"),
        ([[1.0, np.nan]], {}, "nan at row 0, column 1"),
        ([[1.0, 2.0]], {"library_size": [3.0, 3.0]}, r"shape \(2,\) but the block has 1 cells"),
        ([[0.0], [2.0]], {"library_size": [1.0, 0.0]}, "row 1 of the block has counts"),
        ([[1.0]], {"target_sum": -1}, "target_sum is -1"),
        ([1.0], {}, "1 dimensions"),
    ],
)
def test_bad_block_is_refused(block: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        normalize_total_block(np.array(block), **options)
