"""The screens that are compared on: simulated ones of two sizes, and real ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from validation.cache import digest, new_folder

if TYPE_CHECKING:
    import anndata
    import h5py
    import numpy as np
    from scipy import sparse

    from crispyx.datasets.dataset import Dataset

FACTS = "screen.json"
LARGEST = "L"
# Counts of a lane as sparse as 10x data: one in ten gene counts above 0.
SPARSE = {"gene_log_mean": -3.0, "dtype": "float32"}
# One guide in every cell, so that each has a label.
ONE_GUIDE = {"moi": 1e-6, "fraction_without_guide": 0.0, "with_labels": True}
SIMULATED: Mapping[str, Mapping[str, Any]] = {
    "tiny": {  # what every tool is warmed up on
        "n_cells": 2_000,
        "n_genes": 400,
        "n_perturbations": 10,
        "n_control_guides": 8,
        "n_batches": 2,
        **SPARSE,
        **ONE_GUIDE,
    },
    "pair": {
        "n_cells": 2_300,
        "n_genes": 8_000,
        "n_perturbations": 1,
        "n_control_guides": 20,
        "n_batches": 1,
        "guide_abundance_log_sd": 0.0,
        **SPARSE,
        **ONE_GUIDE,
    },
    "S": {
        "n_cells": 20_000,
        "n_genes": 8_000,
        "n_perturbations": 100,
        "n_control_guides": 33,
        "n_batches": 1,
        "guide_abundance_log_sd": 0.3,
        **SPARSE,
        **ONE_GUIDE,
    },
    "M": {
        "n_cells": 100_000,
        "n_genes": 8_000,
        "n_perturbations": 1_000,
        "n_control_guides": 261,
        "n_batches": 4,
        "guide_abundance_log_sd": 0.3,
        **SPARSE,
        **ONE_GUIDE,
    },
    "K562": {  # of the size and depth of Replogle et al.'s essential-gene screen
        "n_cells": 300_000,
        "n_genes": 8_500,
        "n_perturbations": 2_000,
        "n_control_guides": 207,
        "n_batches": 1,
        "guide_abundance_log_sd": 0.3,
        "gene_log_mean": -1.0,
        "dtype": "float32",
        **ONE_GUIDE,
    },
    "L": {
        "n_cells": 1_000_000,
        "n_genes": 8_000,
        "n_perturbations": 5_000,
        "n_control_guides": 1_300,
        "n_batches": 10,
        "guide_abundance_log_sd": 0.3,
        **SPARSE,
        **ONE_GUIDE,
    },
}
# Too large to be held in memory: one file, made by crispyx itself.
STREAMED = {"K562": "counts", LARGEST: "log_csr"}
# One perturbation and its control.
PAIR = "pair"
REAL = ("papalexi", "norman", "schraivogel")
SCREENS = (*SIMULATED, *REAL)


@dataclass(frozen=True)
class Screen:
    """Files of one screen, and its size.

    Attributes
    ----------
    files : mapping of str to str
        ``counts`` (CSR), ``log_csr`` and ``log_csc`` (log1p of counts per 10,000): float32 values,
        int32 positions, contiguous and uncompressed. Those of ``STREAMED`` have one only, in
        chunks.
    n_stored : int
        Values above 0.
    n_bytes : int
        Bytes of a file.
    """

    name: str
    files: Mapping[str, str]
    perturbation_column: str
    control_label: str
    n_cells: int
    n_genes: int
    n_perturbations: int
    n_stored: int
    n_bytes: int

    @property
    def bytes_per_value(self) -> float:
        """Bytes on disk of one stored value."""
        return self.n_bytes / self.n_stored


def screen(name: str, cache: Path) -> Screen:
    """Return a screen by name, preparing its files when the cache has none.

    Raises
    ------
    ValueError
        There is no screen of this name.
    """
    if name not in SCREENS:
        raise ValueError(f"screen is {name!r}; choose one of {', '.join(SCREENS)}")
    recipe = SIMULATED.get(name), list(Screen.__annotations__)
    folder = cache / "screens" / f"{name}-{digest(recipe)}"
    if not (folder / FACTS).is_file():
        with new_folder(folder) as work:
            facts = _prepare(name, work, folder)
            (work / FACTS).write_text(json.dumps(asdict(facts), indent=2), encoding="utf-8")
    return Screen(**json.loads((folder / FACTS).read_text(encoding="utf-8")))


def _prepare(name: str, work: Path, folder: Path) -> Screen:
    """Write the three files of a screen into ``work``, which will be ``folder``."""
    import anndata
    import numpy as np
    from scipy import sparse

    import crispyx as cx

    if name in SIMULATED:
        found = cx.datasets.simulate_screen(work / "simulated", **SIMULATED[name])
    else:
        found = getattr(cx.datasets, name)()
    if name in STREAMED:
        return _streamed(name, found, work, folder)
    column, control = found.perturbation_column, found.control_label
    assert column is not None
    assert control is not None
    source = anndata.read_h5ad(found.expression)
    counts = sparse.csr_matrix(source.X, dtype=np.float32)
    counts.sort_indices()
    obs = source.obs[[column]].astype(str).astype("category")
    writers: dict[str, Callable[[], sparse.spmatrix]] = {
        "counts": lambda: counts,
        "log_csr": lambda: normalized_values(counts),
        "log_csc": lambda: normalized_values(counts).tocsc(),
    }
    for file, matrix in writers.items():
        write_contiguous(work / f"{file}.h5ad", matrix(), obs, source.var[[]])
    shutil.rmtree(work / "simulated", ignore_errors=True)
    return Screen(
        name=name,
        files={file: str(folder / f"{file}.h5ad") for file in writers},
        perturbation_column=column,
        control_label=control,
        n_cells=counts.shape[0],
        n_genes=counts.shape[1],
        n_perturbations=obs[column].nunique() - 1,
        n_stored=int(counts.nnz),
        n_bytes=(work / "counts.h5ad").stat().st_size,
    )


def _streamed(name: str, found: Dataset, work: Path, folder: Path) -> Screen:
    """Write one file alone, without ever holding a matrix."""
    import crispyx as cx

    file = STREAMED[name]
    path = work / f"{file}.h5ad"
    if file == "counts":
        assert found.expression is not None
        Path(found.expression).rename(path)
    else:
        cx.pp.normalize_total_log1p(found.expression, path, verbose=False)
    shutil.rmtree(work / "simulated")
    written = cx.read_backed(path)
    column = found.perturbation_column
    assert column is not None
    assert found.control_label is not None
    return Screen(
        name=name,
        files={file: str(folder / path.name)},
        perturbation_column=column,
        control_label=found.control_label,
        n_cells=written.shape[0],
        n_genes=written.shape[1],
        n_perturbations=written.obs[column].nunique() - 1,
        n_stored=_n_stored(path),
        n_bytes=path.stat().st_size,
    )


def _n_stored(path: Path) -> int:
    import h5py

    with h5py.File(path) as file:
        return int(file["X/data"].shape[0])


def normalized_values(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return log1p of counts per 10,000, float32; a cell without counts stays so."""
    import numpy as np

    total = np.asarray(counts.sum(axis=1, dtype=float)).ravel()
    scale = 1e4 / np.where(total > 0, total, 1)
    logged = counts.copy()
    logged.data = np.log1p(counts.data * np.repeat(scale, np.diff(counts.indptr))).astype("f4")
    return logged


def write_contiguous(
    path: Path, matrix: sparse.spmatrix, obs: Any, var: Any, dtype: np.dtype | str = "f4"
) -> None:
    """Write an h5ad file whose matrix lies in one piece, as anndata itself does not write it."""
    import anndata
    import h5py

    frame: anndata.AnnData = anndata.AnnData(obs=obs, var=var)
    frame.write_h5ad(path)
    with h5py.File(path, "r+") as file:
        group = new_contiguous(file, matrix.format, matrix.shape, matrix.indptr, dtype)
        group["data"][:] = matrix.data
        group["indices"][:] = matrix.indices


def new_contiguous(
    file: h5py.File,
    layout: str,
    shape: tuple[int, int],
    indptr: np.ndarray,
    dtype: np.dtype | str = "f4",
) -> h5py.Group:
    """Put a sparse ``X`` in place of any other, its values and positions still to be written."""
    if "X" in file:
        del file["X"]
    group = file.create_group("X")
    group.attrs["encoding-type"] = f"{layout}_matrix"
    group.attrs["encoding-version"] = "0.1.0"
    group.attrs["shape"] = shape
    group["indptr"] = indptr
    group.create_dataset("data", (indptr[-1],), dtype)
    group.create_dataset("indices", (indptr[-1],), "i4")
    return group
