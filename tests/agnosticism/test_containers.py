"""Stores are read, kept and refused as files are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import scipy.sparse as sp
from containers import CONTAINERS, LAYOUTS, N_CELLS, N_GENES, screen, types_in, write
from layouts import COLUMN

import crispyx as cx
from crispyx import data
from crispyx.errors import CrispyxWarning, InputError

zarr = pytest.importorskip("zarr")

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*holds counts.*:crispyx.errors.CrispyxWarning"),
    pytest.mark.filterwarnings("ignore:.*tests one arm.*:crispyx.errors.CrispyxWarning"),
    pytest.mark.filterwarnings("ignore:.*no Zarr V3 specification.*"),
]


@pytest.mark.parametrize("container", CONTAINERS)
def test_layout_and_type_are_seen_and_kept(container: str, stored: dict[Any, Path]) -> None:
    for layout in LAYOUTS:
        for kind in types_in(container):
            path = stored[container, layout, kind]
            assert data.get_matrix_storage_format(path) == layout
            assert data.is_dense_storage(path) == (layout == "dense")
            output = path.with_name("kept.h5ad")
            cells, genes = np.ones(N_CELLS, dtype=bool), np.ones(N_GENES, dtype=bool)
            data.write_filtered_subset(path, output_path=output, cell_mask=cells, gene_mask=genes)
            assert anndata.read_h5ad(output).X.dtype == kind
            output.unlink()


def test_a_store_is_changed_by_what_adds_to_its_input_and_by_nothing_else(
    stored: dict[Any, Path], tmp_path: Path
) -> None:
    path = Path(shutil.copytree(stored["zarr 3", "csr", "float32"], tmp_path / "s.zarr"))
    before = contents(path)
    copied = cx.pp.pca(path, n_comps=2, copy=True)
    assert copied.path.suffix == ".h5ad"
    assert copied.to_memory().obsm["X_pca"].shape == (N_CELLS, 2)
    assert contents(path) == before
    cx.pp.pca(path, n_comps=2)
    changed = anndata.read_zarr(path)
    np.testing.assert_array_equal(changed.obsm["X_pca"], copied.to_memory().obsm["X_pca"])
    after = contents(path)
    assert {file: after[file] for file in before if file.parts[0] == "X"} == {
        file: content for file, content in before.items() if file.parts[0] == "X"
    }


def contents(store: Path) -> dict[Path, bytes]:
    files = (file for file in store.rglob("*") if file.is_file())
    return {file.relative_to(store): file.read_bytes() for file in files}


def test_result_of_a_store_is_reloaded_until_the_store_changes(
    stored: dict[Any, Path], tmp_path: Path
) -> None:
    path = stored["zarr 2", "csr", "uint16"]
    first = cx.wilcoxon_test(path, groupby=COLUMN, output_dir=tmp_path)
    written = first.result_path.stat().st_mtime_ns
    cx.wilcoxon_test(path, groupby=COLUMN, output_dir=tmp_path)
    assert first.result_path.stat().st_mtime_ns == written
    group = zarr.open_group(str(path), mode="r+")
    group["X"]["data"][0] = group["X"]["data"][0] + 1
    with pytest.warns(CrispyxWarning, match="is computed again: input mtime_ns"):
        cx.wilcoxon_test(path, groupby=COLUMN, output_dir=tmp_path)
    assert first.result_path.stat().st_mtime_ns > written


def damages() -> dict[str, tuple[Callable[[Path], None], str]]:
    def emptied(name: str) -> Callable[[Path], None]:
        return lambda path: (
            [file.write_bytes(b"\xff" * 7) for file in (path / name).rglob("*") if _is_chunk(file)]
            and None
        )

    return {
        "chunk of the values": (emptied("X/data"), "cannot be read"),
        "chunk of the pointers": (emptied("X/indptr"), "cannot be read"),
        "metadata of the group": (
            lambda path: (path / "zarr.json").write_bytes(b"{"),
            "cannot be opened as a zarr store",
        ),
        "no genes": (lambda path: shutil.rmtree(path / "var"), "has no 'var'"),
        "no matrix": (lambda path: shutil.rmtree(path / "X"), "has no X; it has layer 'twice'"),
    }


def _is_chunk(file: Path) -> bool:
    return file.is_file() and file.name != "zarr.json"


@pytest.mark.parametrize("name", damages())
def test_damaged_stores_are_refused(name: str, tmp_path: Path) -> None:
    adata = screen()
    adata.X = sp.csr_matrix(adata.X)
    path = write(adata, tmp_path / "s.zarr", "zarr 3")
    meta = path / "zarr.json"
    # Without the summary of all metadata at the top, as stores without one are.
    content = json.loads(meta.read_text())
    content.pop("consolidated_metadata", None)
    meta.write_text(json.dumps(content))
    damage, message = damages()[name]
    damage(path)
    with pytest.raises(InputError, match=message) as error:
        list(data.iter_matrix_chunks(path))
    assert str(path) in str(error.value)
