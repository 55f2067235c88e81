"""One screen stored in every way that a file or an AnnData can hold it.

Files are written with h5py alone: encodings of older anndata versions, damaged structures and odd
types can be made, and a file costs a millisecond.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

import crispyx as cx
from crispyx._io.genes import group_genes
from crispyx._kernels.layout import CompressedBlock, GroupedGenes, Membership

COLUMN = "perturbation"
TEXT = h5py.string_dtype("utf-8")


def log_screen(
    n_cells: int = 61, n_genes: int = 13, seed: int = 0
) -> tuple[np.ndarray, list[str | None]]:
    """Return values (n_cells, n_genes), log1p of scaled counts that float32 holds, and labels.

    Three perturbations and the control in mixed order, two cells without a label, one gene of zeros
    and one that only the control expresses.
    """
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(1.0, 1.0, n_genes), (n_cells, n_genes))
    values = np.log1p(counts * rng.uniform(0.5, 2.0, (n_cells, 1))).astype(np.float32)
    labels: list[str | None] = rng.choice(["KLF1", "control", "GATA1", "MYC"], n_cells).tolist()
    labels[:6] = ["KLF1", "control", "control", None, "GATA1", "MYC"]
    labels[-1] = None
    values[:, 1] = 0
    values[[label != "control" for label in labels], 3] = 0
    return values.astype(np.float64), labels


def count_screen(
    n_cells: int = 61, n_genes: int = 13, seed: int = 0
) -> tuple[np.ndarray, list[str | None]]:
    """Return whole numbers 0 to 100, which every numeric type holds, and labels."""
    _, labels = log_screen(n_cells, n_genes, seed)
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(0.8, 3.0, n_genes), (n_cells, n_genes))
    return np.minimum(counts, 100).astype(np.float64), labels


def sparse_parts(
    values: np.ndarray, layout: str, *, stored_zeros: bool = False, unsorted: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return data, indices and indptr of a CSR or CSC matrix."""
    dense = values if layout == "csr" else values.T
    kept = dense != 0
    if stored_zeros:
        kept = kept | (np.add.outer(*map(np.arange, dense.shape)) % 2 == 0)
    data, indices = dense[kept], np.nonzero(kept)[1]
    indptr = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
    if unsorted:
        rng = np.random.default_rng(1)
        order = np.concatenate(
            [start + rng.permutation(stop - start) for start, stop in pairwise(indptr)]
        ).astype(int)
        data, indices = data[order], indices[order]
    return data, indices, indptr


def write_matrix(
    file: h5py.File,
    element: str,
    values: np.ndarray,
    *,
    layout: str = "csr",
    dtype: str = "f4",
    index: str = "i4",
    compression: str | None = None,
    stored_zeros: bool = False,
    unsorted: bool = False,
    old_sparse: bool = False,
) -> None:
    """Write a matrix under ``element``."""
    # Chunks of a prime length never end where a row or a column does.
    if layout == "dense":
        chunks = (min(7, values.shape[0]), min(5, values.shape[1])) if compression else None
        node = file.create_dataset(
            element, data=values.astype(dtype), compression=compression, chunks=chunks
        )
        node.attrs["encoding-type"], node.attrs["encoding-version"] = "array", "0.2.0"
        return
    group = file.create_group(element)
    if old_sparse:
        group.attrs["h5sparse_format"] = layout
        group.attrs["h5sparse_shape"] = np.array(values.shape)
    else:
        group.attrs["encoding-type"], group.attrs["encoding-version"] = f"{layout}_matrix", "0.1.0"
        group.attrs["shape"] = np.array(values.shape)
    data, indices, indptr = sparse_parts(
        values, layout, stored_zeros=stored_zeros, unsorted=unsorted
    )
    chunks = (31,) if compression else None
    group.create_dataset("data", data=data.astype(dtype), compression=compression, chunks=chunks)
    group.create_dataset("indices", data=indices.astype(index), compression=compression)
    group.create_dataset("indptr", data=indptr.astype(index))


def write_axis(file: h5py.File, axis: str, names: Sequence[str], columns: Sequence[str]) -> None:
    group = file.create_group(axis)
    group.attrs["encoding-type"], group.attrs["encoding-version"] = "dataframe", "0.2.0"
    group.attrs["_index"] = "_index"
    group.attrs.create("column-order", np.array(columns, dtype=object), dtype=TEXT)
    _array(group, "_index", names)


def _array(group: h5py.Group, name: str, values: Sequence[str]) -> h5py.Dataset:
    node = group.create_dataset(name, data=np.array(values, dtype=object), dtype=TEXT)
    node.attrs["encoding-type"], node.attrs["encoding-version"] = "string-array", "0.2.0"
    return node


def write_labels(obs: h5py.Group, labels: Sequence[Any], kind: str) -> None:
    """Write the perturbation column in one of anndata's encodings of text."""
    known = list(dict.fromkeys(label for label in labels if label is not None))
    categories = sorted(known, key=str)
    if kind == "unused categories":
        categories = ["AAA", *categories, "zzz", "NTC"]
    codes = np.array([-1 if v is None else categories.index(v) for v in labels])
    if kind == "bytes":
        obs[COLUMN] = np.array([str(v).encode() for v in labels])
    elif kind == "text":
        _array(obs, COLUMN, [str(v) for v in labels])
    elif kind == "numbers":
        obs[COLUMN] = np.array(labels)
    elif kind == "anndata 0.7":
        # Codes in the column, categories beside it, found through a reference.
        node = _array(obs.create_group("__categories"), COLUMN, categories)
        node.attrs["ordered"] = False
        obs[COLUMN] = codes.astype(np.int8)
        obs[COLUMN].attrs["categories"] = node.ref
    else:
        group = obs.create_group(COLUMN)
        group.attrs["encoding-type"], group.attrs["encoding-version"] = "categorical", "0.2.0"
        group.attrs["ordered"] = False
        _array(group, "categories", categories)
        group["codes"] = codes.astype(np.int8 if len(categories) < 128 else np.int32)


def write_tables(
    file: h5py.File, cells: Sequence[str], genes: Sequence[str], labels: Sequence[Any]
) -> None:
    """Write obs and var as anndata 0.6 did: tables of records, categories in uns."""
    categories = sorted({label for label in labels if label is not None})
    codes = [-1 if label is None else categories.index(label) for label in labels]
    obs = list(zip(map(str.encode, cells), codes, strict=True))
    file["obs"] = np.array(obs, dtype=[("index", "S20"), (COLUMN, "i1")])
    file["var"] = np.array([(g.encode(),) for g in genes], dtype=[("index", "S20")])
    file[f"uns/{COLUMN}_categories"] = np.array(categories, dtype=object)


def write_h5ad(
    path: Path,
    values: np.ndarray,
    labels: Sequence[Any],
    *,
    element: str = "X",
    label_kind: str = "categories",
    genes: Sequence[str] | None = None,
    cells: Sequence[str] | None = None,
    **storage: Any,
) -> Path:
    """Write an .h5ad file; ``storage`` as for :func:`write_matrix`.

    ``label_kind`` is that of :func:`write_labels`, or "anndata 0.6" for tables of that version.
    """
    n_cells, n_genes = values.shape
    with h5py.File(path, "w") as file:
        file.attrs["encoding-type"], file.attrs["encoding-version"] = "anndata", "0.1.0"
        cells = cells or [f"cell{i}" for i in range(n_cells)]
        genes = genes or [f"gene{i}" for i in range(n_genes)]
        if label_kind == "anndata 0.6":
            write_tables(file, cells, genes, labels)
        else:
            write_axis(file, "obs", cells, [COLUMN])
            write_axis(file, "var", genes, [])
            write_labels(file["obs"], labels, label_kind)
        write_matrix(file, element, values, **storage)
        if element != "X":  # a matrix of something else, which must not be taken for the layer
            write_matrix(file, "X", values[::-1] + 1)
    return path


def in_memory(values: np.ndarray, labels: Sequence[Any], form: Callable[..., Any]) -> Any:
    """Return an anndata.AnnData whose X is ``form(values)``."""
    n_cells, n_genes = values.shape
    obs = pd.DataFrame({COLUMN: pd.Categorical(labels)}, index=[f"cell{i}" for i in range(n_cells)])
    var = pd.DataFrame(index=[f"gene{i}" for i in range(n_genes)])
    return anndata.AnnData(form(values), obs=obs, var=var)


def wide_indices(matrix: Any) -> Any:
    matrix.indices, matrix.indptr = matrix.indices.astype("i8"), matrix.indptr.astype("i8")
    return matrix


def view_of_more(values: np.ndarray, labels: Sequence[Any]) -> Any:
    """Return a view of an AnnData with other cells and genes around those of the screen."""
    n_cells, n_genes = values.shape
    more = np.full((n_cells + 2, n_genes + 1), 9.5)
    more[1:-1, :-1] = values
    adata = in_memory(more, ["control", *labels, "control"], sp.csr_matrix)
    adata.obs_names = ["first", *[f"cell{i}" for i in range(n_cells)], "last"]
    return adata[1:-1, :-1]


# Files: how the same values and labels can be stored.
FILES: dict[str, dict[str, Any]] = {
    "csr": {},
    "csc": {"layout": "csc"},
    "dense": {"layout": "dense"},
    "csr float64": {"dtype": "f8"},
    "dense float64": {"layout": "dense", "dtype": "f8"},
    "csr big-endian": {"dtype": ">f4", "index": ">i4"},
    "csr int64 index": {"index": "i8"},
    "csc int64 index": {"layout": "csc", "index": "i8"},
    "csr uint16 index": {"index": "u2"},
    "csr unsorted": {"unsorted": True},
    "csc unsorted int64": {"layout": "csc", "unsorted": True, "index": "i8"},
    "csr stored zeros": {"stored_zeros": True},
    "csc stored zeros": {"layout": "csc", "stored_zeros": True},
    "csr gzip": {"compression": "gzip"},
    "csc lzf": {"layout": "csc", "compression": "lzf"},
    "dense gzip": {"layout": "dense", "compression": "gzip"},
    "csr of anndata 0.6": {"old_sparse": True},
    "layer csr": {"element": "layers/log1p"},
    "layer csc": {"element": "layers/log1p", "layout": "csc"},
    "layer dense": {"element": "layers/log1p", "layout": "dense"},
    "categories of anndata 0.7": {"label_kind": "anndata 0.7"},
    "all of anndata 0.6": {"label_kind": "anndata 0.6", "old_sparse": True},
    "unused categories": {"label_kind": "unused categories"},
}

# Objects: (values, labels, folder) -> what is handed to the public function.
OBJECTS: dict[str, Callable[[np.ndarray, Sequence[Any], Path], Any]] = {
    "memory csr": lambda v, k, _: in_memory(v, k, sp.csr_matrix),
    "memory csc": lambda v, k, _: in_memory(v, k, sp.csc_matrix),
    "memory csr_array": lambda v, k, _: in_memory(v.astype("f4"), k, sp.csr_array),
    "memory int64": lambda v, k, _: in_memory(v, k, lambda x: wide_indices(sp.csr_matrix(x))),
    "memory dense": lambda v, k, _: in_memory(v.astype("f4"), k, np.ascontiguousarray),
    "memory dense by columns": lambda v, k, _: in_memory(v, k, np.asfortranarray),
    "memory view": lambda v, k, _: view_of_more(v, k),
    "backed": lambda v, k, d: anndata.read_h5ad(write_h5ad(d / "b.h5ad", v, k), backed="r"),
    "backed csc": lambda v, k, d: anndata.read_h5ad(
        write_h5ad(d / "b.h5ad", v, k, layout="csc"), backed="r"
    ),
    "wrapper": lambda v, k, d: cx.AnnData(write_h5ad(d / "w.h5ad", v, k)),
    "text path": lambda v, k, d: str(write_h5ad(d / "t.h5ad", v, k)),
}

NUMBER_TYPES = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", ">i8", ">u2"]


def tables_of(path: Path) -> dict[str, np.ndarray]:
    """Return X and all layers of a file."""
    with h5py.File(path) as file:
        return {"X": file["X"][()]} | {k: v[()] for k, v in file["layers"].items()}


def assert_same_bits(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, table in expected.items():
        assert found[name].dtype == table.dtype, name
        # Not by bytes: the sign of a NaN is the processor's choice.
        np.testing.assert_array_equal(found[name], table, err_msg=name)
        assert np.array_equal(np.signbit(found[name]), np.signbit(table)) or np.isnan(table).any()


def gene_block(values: np.ndarray) -> CompressedBlock:
    """Return all genes of a dense matrix (n_cells, n_genes) as a block."""
    data, indices, indptr = sparse_parts(values, "csc")
    return CompressedBlock(
        0, values.shape[1], data, indices.astype(np.int32), indptr.astype(np.int64)
    )


def grouped(values: np.ndarray, membership: Membership, n_threads: int = 1) -> GroupedGenes:
    """Return the layout that the kernels read, for a dense matrix (n_cells, n_genes)."""
    return group_genes(gene_block(values), membership, n_threads)


def membership_of(
    groups_of_cell: Sequence[Sequence[int]], n_groups: int, pool: Sequence[bool] | None = None
) -> Membership:
    """Return a membership from the groups of every cell, see ``Membership.from_lists``."""
    groups = np.array([k for groups in groups_of_cell for k in groups], dtype=np.int64)
    ptr = np.cumsum([0, *map(len, groups_of_cell)])
    mask = None if pool is None else np.array(pool, dtype=bool)
    return Membership.from_lists(ptr, groups, n_groups, mask)
