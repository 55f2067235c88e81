"""Every function gives what anndata and scanpy give in memory, whatever the container.

Counts that all number types hold, as CSR, CSC and dense matrices, in .h5ad files and zarr stores of
both formats, plain and sharded.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from anndata.io import write_elem
from layouts import COLUMN

import crispyx as cx
from crispyx import data
from crispyx.errors import CrispyxWarning, InputError

zarr = pytest.importorskip("zarr")

LAYOUTS: dict[str, Callable[[np.ndarray], Any]] = {
    "csr": sp.csr_matrix,
    "csc": sp.csc_matrix,
    "dense": np.array,
}
TYPES = ["int32", "int64", "float32", "float64", "uint16"]
CONTAINERS = ["h5ad", "zarr 2", "zarr 3", "zarr sharded"]
# The table takes a minute; files and one kind of store are looked at every time.
SOON_OR_SLOW = [
    pytest.param(name, marks=pytest.mark.slow if name in ("zarr 2", "zarr 3") else ())
    for name in CONTAINERS
]
N_CELLS, N_GENES = 48, 9


def types_in(container: str) -> list[str]:
    """Return all types, and one of the containers that differ by how bytes are packed only."""
    return TYPES if container in ("h5ad", "zarr 3") else ["uint16"]


pytestmark = [
    pytest.mark.filterwarnings("ignore:.*holds counts.*:crispyx.errors.CrispyxWarning"),
    pytest.mark.filterwarnings("ignore:.*tests one arm.*:crispyx.errors.CrispyxWarning"),
    pytest.mark.filterwarnings("ignore:.*no Zarr V3 specification.*"),
]


def screen() -> anndata.AnnData:
    """Return counts (48, 9) in memory, with something in every slot."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(1.0, 2.5, N_GENES) + 0.2, (N_CELLS, N_GENES)).astype(np.float64)
    counts[0] = np.eye(N_GENES)[3]
    labels = np.resize(["control", "control", "MYC", "KLF1"], N_CELLS)
    adata = anndata.AnnData(
        counts,
        obs=pd.DataFrame(
            {COLUMN: pd.Categorical(labels), "depth": counts.sum(axis=1)},
            index=[f"c{i}" for i in range(N_CELLS)],
        ),
        var=pd.DataFrame({"kind": list("abc") * 3}, index=[f"g{j}" for j in range(N_GENES)]),
    )
    adata.layers["twice"] = 2 * counts
    adata.obsm["place"] = counts[:, :2].copy()
    adata.obsp["near"] = sp.csr_matrix(np.eye(N_CELLS))
    adata.uns["note"] = {"by": "test"}
    adata.raw = adata.copy()
    return adata


@contextmanager
def zarr_format(version: int) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr's text types are no standard yet
        with anndata.settings.override(zarr_write_format=version):
            yield


def write(adata: anndata.AnnData, path: Path, container: str) -> Path:
    if container == "h5ad":
        adata.write_h5ad(path)
        return path
    with zarr_format(2 if container == "zarr 2" else 3):
        adata.write_zarr(path)
    return path


def with_matrix(base: Path, path: Path, container: str, matrix: Any) -> Path:
    """Return a copy of a file or store with another matrix; writing all of it anew is slow."""
    if container == "h5ad":
        shutil.copyfile(base, path)
        with h5py.File(path, "r+") as file:
            write_elem(file, "X", matrix)
        return path
    shutil.copytree(base, path)
    with zarr_format(2 if container == "zarr 2" else 3):
        group = zarr.open_group(str(path), mode="r+", use_consolidated=False)
        write_elem(group, "X", matrix)
        if container == "zarr sharded":
            shard(group)
        zarr.consolidate_metadata(group.store)
    return path


def shard(group: Any) -> None:
    """Write the arrays of X again, in shards of several chunks."""
    parent, names = group, ["X"]
    if isinstance(group["X"], zarr.Group):
        parent, names = group["X"], ["data", "indices"]
    for name in names:
        values, attributes = parent[name][...], dict(parent[name].attrs)
        chunks = (5,) if values.ndim == 1 else (5, 3)
        del parent[name]
        made = parent.create_array(
            name,
            shape=values.shape,
            dtype=values.dtype,
            chunks=chunks,
            shards=tuple(4 * n for n in chunks),
            attributes=attributes,
        )
        made[...] = values


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str, str], Path]:
    """All containers by (container, layout, type of numbers)."""
    folder = tmp_path_factory.mktemp("stored")
    paths = {}
    for container in CONTAINERS:
        base = write(screen(), folder / f"{container} base.{container[:4]}", container)
        for layout, form in LAYOUTS.items():
            for kind in types_in(container):
                matrix = form(screen().X.astype(kind))
                path = folder / f"{container} {layout} {kind}.{container[:4]}"
                paths[container, layout, kind] = with_matrix(base, path, container, matrix)
    return paths


# -- what each function gives, and what it should give, as dicts of arrays


def dense(values: Any) -> np.ndarray:
    return np.asarray(values.toarray() if sp.issparse(values) else values)


def slots(adata: anndata.AnnData) -> dict[str, np.ndarray]:
    return {
        "X": dense(adata.X),
        "cells": adata.obs_names.to_numpy(dtype=str),
        "labels": adata.obs[COLUMN].astype(str).to_numpy(dtype=str),
        "genes": adata.var_names.to_numpy(dtype=str),
        "layer": dense(adata.layers["twice"]),
        "obsm": np.asarray(adata.obsm["place"]),
        "obsp": dense(adata.obsp["near"]),
        "raw": dense(adata.raw.X),
        "uns": np.array(adata.uns["note"]["by"]),
    }


THRESHOLDS = {"min_genes": 3, "min_cells_per_perturbation": 5, "min_cells_per_gene": 30}


def filtered() -> anndata.AnnData:
    expected = screen()
    expected = expected[(expected.X > 0).sum(axis=1) >= 3]
    return expected[:, (expected.X > 0).sum(axis=0) >= 30].copy()


def logged() -> anndata.AnnData:
    expected = screen()
    sc.pp.normalize_total(expected, target_sum=1e4)
    sc.pp.log1p(expected)
    return expected


def ranked(adata: anndata.AnnData, method: str, **more: Any) -> dict[str, np.ndarray]:
    sc.tl.rank_genes_groups(
        adata, COLUMN, reference="control", method=method, use_raw=False, **more
    )
    tables = adata.uns["rank_genes_groups"]
    found = {}
    for group in ("KLF1", "MYC"):
        order = np.argsort([int(name[1:]) for name in tables["names"][group]])
        for name in ("scores", "pvals"):
            found[f"{group} {name}"] = np.asarray(tables[name][group], dtype=float)[order]
    return found


def statistics_of(result: cx.RankGenesGroupsResult) -> dict[str, np.ndarray]:
    return {
        f"{group} {name}": getattr(result, table)[result.groups.index(group)]
        for group in ("KLF1", "MYC")
        for name, table in (("scores", "statistics"), ("pvals", "pvalues"))
    }


def converted(convert: Callable[..., cx.AnnData], path: Path, folder: Path) -> dict[str, Any]:
    # A file that is stored so already is returned itself.
    return slots(convert(path, output_path=folder / "o.h5ad", verbose=False).to_memory())


def sorted_screen() -> anndata.AnnData:
    expected = screen()
    labels = expected.obs[COLUMN].astype(str).to_numpy()
    return expected[np.lexsort((labels, labels != "control"))].copy()


def summed() -> dict[str, np.ndarray]:
    sums = sc.get.aggregate(screen(), COLUMN, "sum")
    return {label: sums[label].layers["sum"][0] for label in ("KLF1", "MYC", "control")}


def aggregated(adata: anndata.AnnData) -> dict[str, np.ndarray]:
    return {label: dense(adata[label].X)[0] for label in ("KLF1", "MYC", "control")}


def chunks_of(path: Path, axis: int) -> dict[str, np.ndarray]:
    blocks = [dense(block) for _, block in data.iter_matrix_chunks(path, axis=axis, chunk_size=5)]
    return {"X": np.concatenate(blocks, axis=axis)}


EVERY_GENE = {"min_pct_both": 0.0, "min_mean_ctrl": 0.0, "min_mean_pert": 0.0}
Given = Callable[[Path, Path], dict[str, np.ndarray]]

# name: (what crispyx gives for (path, output folder), what it should give, relative tolerance)
FUNCTIONS: dict[str, tuple[Given, Callable[[], dict[str, np.ndarray]], float]] = {
    "convert_to_csr": (
        lambda p, d: converted(cx.pp.convert_to_csr, p, d),
        lambda: slots(screen()),
        0,
    ),
    "convert_to_csc": (
        lambda p, d: converted(cx.pp.convert_to_csc, p, d),
        lambda: slots(screen()),
        0,
    ),
    "qc_summary": (
        lambda p, d: slots(
            cx.pp.qc_summary(p, perturbation_column=COLUMN, output_dir=d, **THRESHOLDS).to_memory()
        ),
        lambda: slots(filtered()),
        0,
    ),
    "filter_cells": (
        lambda p, d: {"kept": cx.pp.filter_cells(p, min_genes=3)},
        lambda: {"kept": sc.pp.filter_cells(screen(), min_genes=3, inplace=False)[0]},
        0,
    ),
    "filter_genes": (
        lambda p, d: {"kept": cx.pp.filter_genes(p, min_cells=30)},
        lambda: {"kept": sc.pp.filter_genes(screen(), min_cells=30, inplace=False)[0]},
        0,
    ),
    "write_filtered_subset": (
        lambda p, d: _subset(p, d),
        lambda: slots(screen()[::2, 1:].copy()),
        0,
    ),
    "normalize_total_log1p": (
        lambda p, d: slots(cx.pp.normalize_total_log1p(p, d / "o.h5ad", verbose=False).to_memory()),
        lambda: slots(logged()),
        2e-6,  # both round to float32
    ),
    "sort_by_perturbation": (
        lambda p, d: slots(
            anndata.read_h5ad(
                data.sort_by_perturbation(
                    p, perturbation_column=COLUMN, control_label="control", output_path=d / "o.h5ad"
                )
            )
        ),
        lambda: slots(sorted_screen()),
        0,
    ),
    "iter_matrix_chunks by cells": (
        lambda p, d: chunks_of(p, 0),
        lambda: {"X": screen().X},
        0,
    ),
    "pseudobulk sums": (
        lambda p, d: aggregated(
            cx.pb.aggregate(p, groupby=COLUMN, method="sum", output_dir=d).to_memory()
        ),
        summed,
        0,
    ),
    "wilcoxon_test": (
        lambda p, d: statistics_of(cx.wilcoxon_test(p, groupby=COLUMN, output_dir=d, **EVERY_GENE)),
        lambda: ranked(screen(), "wilcoxon", tie_correct=True),
        1e-5,  # scanpy's scores are float32
    ),
    "t_test": (
        lambda p, d: statistics_of(cx.t_test(p, groupby=COLUMN, output_dir=d, **EVERY_GENE)),
        lambda: ranked(logged(), "t-test"),
        1e-4,  # scanpy's moments are float32 where its data are
    ),
    "load_obs": (
        lambda p, d: {"depth": cx.load_obs(p)["depth"].to_numpy()},
        lambda: {"depth": screen().obs["depth"].to_numpy()},
        0,
    ),
    "load_var": (
        lambda p, d: {"kind": cx.load_var(p)["kind"].to_numpy(dtype=str)},
        lambda: {"kind": screen().var["kind"].to_numpy(dtype=str)},
        0,
    ),
}


def _subset(path: Path, folder: Path) -> dict[str, np.ndarray]:
    cells, genes = np.arange(N_CELLS) % 2 == 0, np.arange(N_GENES) > 0
    data.write_filtered_subset(
        path, output_path=folder / "o.h5ad", cell_mask=cells, gene_mask=genes
    )
    return slots(anndata.read_h5ad(folder / "o.h5ad"))


@pytest.mark.parametrize("container", SOON_OR_SLOW)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_gives_the_same_from_every_container(
    name: str, container: str, stored: dict[Any, Path], tmp_path: Path
) -> None:
    function, in_memory, rtol = FUNCTIONS[name]
    expected = in_memory()
    for layout in LAYOUTS:
        for kind in types_in(container):
            folder = tmp_path / f"{layout} {kind}"
            folder.mkdir()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", CrispyxWarning)  # counts, which these are
                found = function(stored[container, layout, kind], folder)
            assert found.keys() == expected.keys()
            for part, values in expected.items():
                where = f"{name}, {container}, {layout}, {kind}: {part}"
                if values.dtype.kind in "fiu":
                    np.testing.assert_allclose(
                        found[part], values, rtol=rtol, atol=rtol, err_msg=where
                    )
                else:
                    np.testing.assert_array_equal(found[part], values, err_msg=where)


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
    cx.pp.neighbors(path, n_neighbors=5)
    changed = anndata.read_zarr(path)
    np.testing.assert_array_equal(changed.obsm["X_pca"], copied.to_memory().obsm["X_pca"])
    assert changed.obsp["distances"].shape == (N_CELLS, N_CELLS)
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
