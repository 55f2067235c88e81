"""Filtered files: every slot survives, nothing depends on how the work is done, nothing is lost."""

from __future__ import annotations

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
from crispyx._io.source import open_source
from crispyx.data import write_filtered_subset
from crispyx.errors import CrispyxWarning, DiskSpaceError, InputError, OutputExistsError
from crispyx.qc import _ChunkCache, quality_control_summary

LIMITS = {"min_genes": 14, "min_cells_per_perturbation": 13, "min_cells_per_gene": 30}
FORMS = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "dense": np.asarray}


@pytest.fixture(scope="module")
def screen() -> tuple[np.ndarray, list[str]]:
    counts, labels = layouts.count_screen(n_cells=90, n_genes=17)
    return counts, ["control" if label is None else label for label in labels]


def write_rich(path: Path, screen: Any, layout: str = "csr", dtype: str = "f4") -> Path:
    counts, labels = screen
    slots.rich(counts.astype(dtype), labels, FORMS[layout]).write_h5ad(path)
    return path


def masks(screen: Any, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    cells = (rng.random(90) < 0.6) & (np.array(screen[1]) != "MYC")
    return {"cell_mask": cells, "gene_mask": rng.random(17) < 0.5}


def qc(data: Any, **options: Any) -> Any:
    return quality_control_summary(data, perturbation_column="perturbation", **LIMITS, **options)


def x_of(path: Path) -> tuple[str, list[np.ndarray]]:
    """Return encoding and arrays of X as stored."""
    with h5py.File(path) as file:
        node = file["X"]
        kind = node.attrs["encoding-type"]
        if kind == "array":
            return kind, [node[()]]
        return kind, [node[part][()] for part in ("data", "indices", "indptr")]


def assert_same_x(found: Path, expected: Path) -> None:
    (kind, have), (wanted_kind, want) = x_of(found), x_of(expected)
    assert kind == wanted_kind
    for a, b in zip(have, want, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "u2"])
@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
@pytest.mark.parametrize("on_disk", [True, False])
def test_quality_control_keeps_layout_type_values_and_every_slot(
    tmp_path: Path, screen: Any, layout: str, dtype: str, on_disk: bool
) -> None:
    path = write_rich(tmp_path / "in.h5ad", screen, layout, dtype)
    before = path.read_bytes()
    data = path if on_disk else slots.rich(screen[0].astype(dtype), screen[1], FORMS[layout])
    result = qc(data, output_dir=tmp_path / "out", gene_name_column="symbol")
    assert path.read_bytes() == before
    found = result.filtered.to_memory()
    expected = anndata.read_h5ad(path)[result.cell_mask, result.gene_mask].copy()
    expected.var["gene_symbols"] = expected.var["symbol"].astype(object)
    assert not result.perturbation_keep["KLF1"], "a perturbation must be dropped"
    assert "KLF1" not in found.obs["perturbation"].cat.categories
    assert len(found.uns["perturbation_colors"]) == len(found.obs["perturbation"].cat.categories)
    slots.assert_same_slots(found, expected, added_uns=["crispyx"])
    assert found.X.dtype == np.dtype(dtype)
    slots.assert_same_value(found.X, expected.X, "X")


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_filtered_file_does_not_depend_on_strategy(
    tmp_path: Path, screen: Any, layout: str
) -> None:
    storage = {} if layout == "dense" else {"stored_zeros": True, "unsorted": True}
    path = layouts.write_h5ad(tmp_path / "in.h5ad", *screen, layout=layout, dtype="i4", **storage)
    expected = qc(path, output_path=tmp_path / "memory.h5ad").filtered_path
    for cache in ("memory", "memmap", "none"):
        for delta in (0.0, 1.0):
            result = qc(
                path,
                output_path=tmp_path / f"{cache}{delta}.h5ad",
                cache_mode=cache,
                delta_threshold=delta,
                force_streaming=True,
                chunk_size=11,
            )
            assert_same_x(result.filtered_path, expected)
    memory = layouts.in_memory(screen[0].astype("i4"), screen[1], FORMS[layout])
    assert_same_x(qc(memory, output_path=tmp_path / "object.h5ad").filtered_path, expected)
    with cx.use_engine("reference"):
        result = qc(path, output_path=tmp_path / "reference.h5ad")
    assert_same_x(result.filtered_path, expected)


@given(
    counts=st.lists(
        st.lists(st.sampled_from([0, 0, 1, 2, 200]), min_size=5, max_size=5), min_size=1, max_size=9
    ),
    layout=st.sampled_from(["csr", "csc", "dense"]),
    dtype=st.sampled_from(["u1", "u2", "i4", "i8", "f4", "f8"]),
    chunk_size=st.integers(1, 10),
    unsorted=st.booleans(),
    stored_zeros=st.booleans(),
    index=st.sampled_from(["i4", "i8"]),
    seed=st.integers(0, 99),
)
def test_any_subset_of_any_form_is_the_subset(
    tmp_path_factory: pytest.TempPathFactory,
    counts: list[list[int]],
    layout: str,
    dtype: str,
    chunk_size: int,
    seed: int,
    **storage: Any,
) -> None:
    matrix = np.array(counts)
    folder = tmp_path_factory.mktemp("subset")
    storage = {} if layout == "dense" else storage
    path = layouts.write_h5ad(
        folder / "in.h5ad", matrix, ["control"] * len(matrix), layout=layout, dtype=dtype, **storage
    )
    rng = np.random.default_rng(seed)
    cells, genes = rng.random(len(matrix)) < 0.7, rng.random(5) < 0.7
    cells[rng.integers(len(matrix))] = genes[rng.integers(5)] = True
    write_filtered_subset(
        path,
        cell_mask=cells,
        gene_mask=genes,
        output_path=folder / "out.h5ad",
        chunk_size=chunk_size,
    )
    found = anndata.read_h5ad(folder / "out.h5ad")
    expected = matrix[cells][:, genes].astype(dtype)
    if layout != "dense":
        assert found.X.format == layout
        assert found.X.nnz == np.count_nonzero(expected), "stored zeros are left out"
        assert found.X.has_sorted_indices
    values = found.X if layout == "dense" else found.X.toarray()
    assert values.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(values, expected)
    assert found.obs_names.tolist() == [f"cell{i}" for i in np.flatnonzero(cells)]
    assert found.var_names.tolist() == [f"gene{j}" for j in np.flatnonzero(genes)]


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_written_subset_keeps_every_slot(tmp_path: Path, screen: Any, layout: str) -> None:
    path = write_rich(tmp_path / "in.h5ad", screen, layout)
    before = path.read_bytes()
    keep = masks(screen)
    n_genes = int(keep["gene_mask"].sum())
    assert (
        write_filtered_subset(
            path,
            **keep,
            output_path=tmp_path / "out.h5ad",
            var_assignments={"symbol": [f"new{j}" for j in range(n_genes)], "rank": range(n_genes)},
        )
        is None
    )
    expected = anndata.read_h5ad(path)[keep["cell_mask"], keep["gene_mask"]].copy()
    expected.var["symbol"] = [f"new{j}" for j in range(n_genes)]
    expected.var["rank"] = np.arange(n_genes)
    found = anndata.read_h5ad(tmp_path / "out.h5ad")
    slots.assert_same_slots(found, expected, added_uns=["crispyx"])
    slots.assert_same_value(found.X, expected.X, "X")
    assert path.read_bytes() == before


def test_layers_streamed_in_many_blocks_are_kept(
    tmp_path: Path, screen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crispyx._io import subset

    path = write_rich(tmp_path / "in.h5ad", screen)
    keep = masks(screen)
    write_filtered_subset(path, **keep, output_path=tmp_path / "one.h5ad")
    monkeypatch.setattr(subset, "READ_VALUES", 40)
    write_filtered_subset(path, **keep, output_path=tmp_path / "many.h5ad")
    slots.assert_same_slots(
        *(anndata.read_h5ad(tmp_path / name) for name in ("many.h5ad", "one.h5ad"))
    )


def test_old_categories_and_compressed_files_are_kept(tmp_path: Path, screen: Any) -> None:
    path = layouts.write_h5ad(
        tmp_path / "old.h5ad", *screen, label_kind="anndata 0.7", compression="gzip", index="i8"
    )
    with h5py.File(path, "r+") as file:
        file["obs"].attrs["encoding-version"] = "0.1.0"  # as anndata 0.7 did
    result = qc(path, output_dir=tmp_path)
    found = result.filtered.to_memory()
    kept = np.array(screen[1])[result.cell_mask]
    assert found.obs["perturbation"].tolist() == kept.tolist()
    assert set(found.obs["perturbation"].cat.categories) == set(kept)
    np.testing.assert_array_equal(
        found.X.toarray(), screen[0][result.cell_mask][:, result.gene_mask]
    )


def test_nullable_text_is_kept(tmp_path: Path, screen: Any) -> None:
    path = write_rich(tmp_path / "in.h5ad", screen)
    note = pd.array([None if i % 5 == 0 else f"n{i}" for i in range(90)], dtype="string")
    with (
        anndata.settings.override(allow_write_nullable_strings=True),
        h5py.File(path, "r+") as file,
    ):
        obs = anndata.io.read_elem(file["obs"])
        obs["note"] = note
        del file["obs"]
        anndata.io.write_elem(file, "obs", obs)
    result = qc(path, output_dir=tmp_path)
    assert not anndata.settings.allow_write_nullable_strings
    found = result.filtered.to_memory().obs["note"]
    assert isinstance(found.dtype, pd.StringDtype)
    assert found.isna().any()
    np.testing.assert_array_equal(found.isna(), pd.isna(note)[result.cell_mask])
    assert found.dropna().tolist() == [n for n in note[result.cell_mask] if n is not pd.NA]


def test_existing_gene_symbols_are_left_alone_unless_a_column_is_named(
    tmp_path: Path, screen: Any
) -> None:
    adata = slots.rich(*screen)
    adata.var["gene_symbols"] = [f"mine{j}" for j in range(17)]
    adata.write_h5ad(tmp_path / "in.h5ad")
    kept = qc(tmp_path / "in.h5ad", output_path=tmp_path / "kept.h5ad")
    assert kept.filtered.var["gene_symbols"].str.startswith("mine").all()
    named = qc(tmp_path / "in.h5ad", output_path=tmp_path / "named.h5ad", gene_name_column="symbol")
    assert named.filtered.var["gene_symbols"].str.startswith("SYM").all()
    plain = layouts.write_h5ad(tmp_path / "plain.h5ad", *screen)
    names = qc(plain, output_path=tmp_path / "names.h5ad").filtered.var
    assert names["gene_symbols"].tolist() == names.index.tolist()


def test_gene_without_symbol_goes_by_its_name(tmp_path: Path, screen: Any) -> None:
    adata = layouts.in_memory(*screen, sp.csr_matrix)
    adata.var["symbol"] = pd.Categorical([None, *[f"SYM{j}" for j in range(1, 17)]])
    with pytest.warns(CrispyxWarning, match="1 of 17 genes have no entry in var column 'symbol'"):
        result = qc(adata, output_dir=tmp_path, gene_name_column="symbol")
    assert result.filtered.var["gene_symbols"].iloc[0] == "gene0"


def test_counted_nonzeros_replace_the_counting_pass(
    tmp_path: Path, screen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crispyx._io.subset import Subset

    path = layouts.write_h5ad(tmp_path / "in.h5ad", *screen, stored_zeros=True)
    keep = masks(screen)
    write_filtered_subset(path, **keep, output_path=tmp_path / "counted.h5ad")
    row_nnz = np.count_nonzero(screen[0][keep["cell_mask"]][:, keep["gene_mask"]], axis=1)
    known = {"row_nnz": row_nnz, "total_nnz": int(row_nnz.sum()), "data_dtype": np.float32}
    monkeypatch.delattr(Subset, "count")
    write_filtered_subset(path, **keep, output_path=tmp_path / "known.h5ad", **known)
    assert_same_x(tmp_path / "known.h5ad", tmp_path / "counted.h5ad")


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_wrong_numbers_of_nonzeros_are_an_error(tmp_path: Path, screen: Any, layout: str) -> None:
    path = layouts.write_h5ad(tmp_path / "in.h5ad", *screen, layout=layout)
    keep = masks(screen)
    right = np.count_nonzero(screen[0][keep["cell_mask"]][:, keep["gene_mask"]], axis=1)
    total = int(right.sum())
    wrong = right.copy()
    wrong[3] += 1
    for row_nnz, total_nnz, message in [
        (right[:-1], total, r"row_nnz has shape"),
        (right, total + 1, r"row_nnz sums to \d+ and total_nnz is"),
        (right.astype(float), total, r"whole numbers"),
        (wrong, total + 1, r"kept cell 3|values were|were announced"),
    ]:
        with pytest.raises(InputError, match=message):
            write_filtered_subset(
                path,
                **keep,
                output_path=tmp_path / "out.h5ad",
                row_nnz=row_nnz,
                total_nnz=total_nnz,
                data_dtype=np.float32,
            )
    assert [file.name for file in tmp_path.iterdir()] == ["in.h5ad"]


def test_type_of_the_output_holds_every_value_or_is_refused(tmp_path: Path, screen: Any) -> None:
    path = layouts.write_h5ad(tmp_path / "in.h5ad", *screen, dtype="f8")
    keep = masks(screen)
    write_filtered_subset(path, **keep, output_path=tmp_path / "out.h5ad", data_dtype="u2")
    found = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert found.X.dtype == np.uint16
    np.testing.assert_array_equal(
        found.X.toarray(), screen[0][keep["cell_mask"]][:, keep["gene_mask"]]
    )
    half = layouts.write_h5ad(tmp_path / "half.h5ad", screen[0] / 2, screen[1])
    with pytest.raises(InputError, match=r"uint16 cannot hold \d+\.5 .*keep float32"):
        write_filtered_subset(half, **keep, output_path=tmp_path / "no.h5ad", data_dtype="u2")
    assert not (tmp_path / "no.h5ad").exists()


@pytest.mark.parametrize("mode", ["memory", "memmap", "none"])
@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_cached_blocks_give_the_same_file(
    tmp_path: Path, screen: Any, mode: str, layout: str
) -> None:
    path = layouts.write_h5ad(tmp_path / "in.h5ad", *screen, layout=layout)
    keep = masks(screen)
    write_filtered_subset(path, **keep, output_path=tmp_path / "plain.h5ad")
    with open_source(path) as source, _ChunkCache(source, mode) as cache:
        for _ in cache.blocks():
            pass
        write_filtered_subset(path, **keep, output_path=tmp_path / "b.h5ad", chunk_cache=cache)
        assert_same_x(tmp_path / "b.h5ad", tmp_path / "plain.h5ad")
        other = layouts.write_h5ad(tmp_path / "other.h5ad", *screen)
        with pytest.raises(InputError, match="chunk_cache does not hold"):
            write_filtered_subset(other, **keep, output_path=tmp_path / "c.h5ad", chunk_cache=cache)


def test_cached_blocks_are_not_read_again(tmp_path: Path, screen: Any) -> None:
    path = layouts.write_h5ad(tmp_path / "in.h5ad", *screen)
    for mode in ("memory", "memmap"):
        with open_source(path) as source, _ChunkCache(source, mode) as cache:
            first = [block.values.tobytes() for block in cache.blocks()]
            source.storage.data = None  # reading it fails
            assert [block.values.tobytes() for block in cache.blocks()] == first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell_mask": np.ones(89, bool)}, r"cell_mask has shape \(89,\).*in\.h5ad has 90 cells"),
        ({"gene_mask": np.ones(18, bool)}, r"gene_mask has shape \(18,\).*has 17 genes"),
        ({"gene_mask": np.arange(17)}, "gene_mask has type int64"),
        ({"cell_mask": np.zeros(90, bool)}, "keep 0 cells and"),
        ({"gene_mask": np.zeros(17, bool)}, "and 0 genes"),
        ({"chunk_size": 0}, "chunk_size is 0"),
        ({"var_assignments": {"q": np.ones(17)}}, r"var_assignments\['q'\] has shape \(17,\)"),
        ({"chunk_cache": object()}, "chunk_cache does not hold"),
    ],
)
def test_argument_that_does_not_fit_is_refused(
    tmp_path: Path, screen: Any, change: dict[str, Any], message: str
) -> None:
    path = layouts.write_h5ad(tmp_path / "in.h5ad", *screen)
    options = {**masks(screen), "output_path": tmp_path / "out.h5ad", **change}
    with pytest.raises(InputError, match=message):
        write_filtered_subset(path, **options)
    assert [file.name for file in tmp_path.iterdir()] == ["in.h5ad"]


def test_nothing_of_the_users_is_overwritten(tmp_path: Path, screen: Any) -> None:
    path = layouts.write_h5ad(tmp_path / "in.h5ad", *screen)
    mine = layouts.write_h5ad(tmp_path / "mine.h5ad", *screen)
    before = path.read_bytes()
    with pytest.raises(InputError, match="is the input itself"):
        write_filtered_subset(path, **masks(screen), output_path=path, force=True)
    with pytest.raises(OutputExistsError, match=r"mine\.h5ad' exists"):
        write_filtered_subset(path, **masks(screen), output_path=mine)
    assert path.read_bytes() == mine.read_bytes() == before
    output = tmp_path / "out.h5ad"
    write_filtered_subset(path, **masks(screen), output_path=output)
    written = output.stat().st_mtime_ns
    write_filtered_subset(path, **masks(screen), output_path=output)
    assert output.stat().st_mtime_ns == written
    with pytest.warns(CrispyxWarning, match="computed again"):
        write_filtered_subset(path, **masks(screen, seed=1), output_path=output)


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("indices", 17, r"column 17.*damaged"),
        ("indices", -1, r"column -1.*damaged"),
        ("indptr", 10**6, r"indptr.*damaged"),
    ],
)
def test_damaged_layer_is_an_error_and_never_read_beyond_its_end(
    tmp_path: Path, screen: Any, part: str, value: int, message: str
) -> None:
    path = write_rich(tmp_path / "in.h5ad", screen)
    with h5py.File(path, "r+") as file:
        file["layers/sparse rows"][part][3] = value
    with pytest.raises(InputError, match=r"in\.h5ad \[layers/sparse rows\].*" + message):
        qc(path, output_dir=tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["in.h5ad"]


def test_disk_that_fills_up_leaves_nothing(
    tmp_path: Path, tmp_path_factory: Any, screen: Any
) -> None:
    path = layouts.write_h5ad(tmp_path / "in.h5ad", np.tile(screen[0], (60, 1)), screen[1] * 60)
    before = path.read_bytes()
    packed = tmp_path_factory.mktemp("packed") / "in.h5ad"
    layouts.write_h5ad(packed, np.tile(screen[0], (60, 1)), screen[1] * 60, compression="gzip")
    program = f"""
import resource, signal
from crispyx.errors import DiskSpaceError
from crispyx.data import normalize_total_log1p
from crispyx.qc import quality_control_summary
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
options = dict(perturbation_column="perturbation", min_genes=1, output_dir={str(tmp_path)!r})
for call in (
    lambda: normalize_total_log1p({str(path)!r}, verbose=False),
    lambda: quality_control_summary({str(path)!r}, **options),
    lambda: quality_control_summary({str(packed)!r}, force_streaming=True, **options),
):
    try:
        call()
    except DiskSpaceError as error:
        print(error)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert len(lines) == 3, run.stdout
    for line, name in zip(
        lines,
        ["crispyx_normalized_log1p.h5ad", "crispyx_filtered.h5ad", "the scratch file of"],
        strict=True,
    ):
        assert name in line
        assert "bytes free" in line
    assert [file.name for file in tmp_path.iterdir()] == ["in.h5ad"]
    assert path.read_bytes() == before


def test_disk_space_error_is_an_oserror() -> None:
    assert issubclass(DiskSpaceError, OSError)
