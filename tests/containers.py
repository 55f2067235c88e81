"""One screen in .h5ad files and in zarr stores of both formats, plain and sharded."""

from __future__ import annotations

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
import scipy.sparse as sp
from anndata.io import write_elem
from layouts import COLUMN

LAYOUTS: dict[str, Callable[[np.ndarray], Any]] = {
    "csr": sp.csr_matrix,
    "csc": sp.csc_matrix,
    "dense": np.array,
}
TYPES = ["int32", "int64", "float32", "float64", "uint16"]
CONTAINERS = ["h5ad", "zarr 2", "zarr 3", "zarr sharded"]
N_CELLS, N_GENES = 48, 9


def types_in(container: str) -> list[str]:
    """Return all types, and one of the containers that differ by how bytes are packed only."""
    return TYPES if container in ("h5ad", "zarr 3") else ["uint16"]


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
    import zarr

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
    if hasattr(group["X"], "keys"):
        parent, names = group["X"], ["data", "indices"]
    for name in names:
        values, attributes = parent[name][...], dict(parent[name].attrs)
        chunks = (25,) if values.ndim == 1 else (10, 3)
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


class Stored(dict[tuple[str, str, str], Path]):
    """Containers by (container, layout, type of numbers), each written when first asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def __missing__(self, place: tuple[str, str, str]) -> Path:
        container, layout, kind = place
        base = self._folder / f"{container} base.{container[:4]}"
        if not base.exists():
            write(screen(), base, container)
        matrix = LAYOUTS[layout](screen().X.astype(kind))
        path = self._folder / f"{' '.join(place)}.{container[:4]}"
        self[place] = with_matrix(base, path, container, matrix)
        return self[place]
