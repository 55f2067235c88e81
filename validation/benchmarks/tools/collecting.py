"""Results of different tools as arrays of the same names, shapes and orders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from validation.benchmarks.job import Job

if TYPE_CHECKING:
    import pandas as pd

# Enough values to see any difference, few enough to keep: evenly spaced over the whole matrix.
N_SAMPLED = 2_000_000


def result_file(job: Job) -> str:
    """Return the one h5ad file of a job's folder."""
    (path,) = job.folder.glob("*.h5ad")
    return str(path)


def total_size_factors(job: Job) -> Any:
    """Return the total count of every cell (n_cells,), divided by the geometric mean."""
    import anndata
    import numpy as np

    total = np.asarray(anndata.read_h5ad(job.input).X.sum(axis=1), dtype=float).ravel()
    return total / np.exp(np.log(total).mean())


def test_arrays(**tables: pd.DataFrame) -> dict[str, Any]:
    """Return tables (perturbations x genes) ordered by their labels, and the labels."""
    ordered = {name: table.sort_index().sort_index(axis=1) for name, table in tables.items()}
    first = next(iter(ordered.values()))
    labels = {
        "perturbations": first.index.astype(str).to_numpy(dtype=str),
        "genes": first.columns.astype(str).to_numpy(dtype=str),
    }
    return labels | {name: table.to_numpy(dtype=float) for name, table in ordered.items()}


def matrix_arrays(job: Job) -> dict[str, Any]:
    """Return the size of a written matrix, its sum and a sample of what is stored."""
    import anndata
    import numpy as np
    from scipy import sparse

    x = anndata.read_h5ad(result_file(job)).X
    if not sparse.issparse(x):
        x = sparse.csr_matrix(x)
    x.sort_indices()
    step = max(1, x.nnz // N_SAMPLED)
    return {
        "shape": np.array(x.shape),
        "n_stored": np.array(x.nnz),
        "total": np.array(x.data.sum(dtype=float)),
        "indices": x.indices[::step],
        "values": x.data[::step].astype(float),
    }


def profile_arrays(job: Job) -> dict[str, Any]:
    """Return a written table of profiles, groups x genes, ordered by group and gene."""
    import anndata

    return test_arrays(profile=anndata.read_h5ad(result_file(job)).to_df())


def component_arrays(job: Job) -> dict[str, Any]:
    """Return variances and loadings of principal components, and how exact they are."""
    import anndata
    import numpy as np

    written = anndata.read_h5ad(result_file(job))
    x, v = written.X.astype(float), written.varm["PCs"].astype(float)
    variance = np.asarray(written.uns["pca"]["variance"], dtype=float)
    mean = np.asarray(x.mean(axis=0)).ravel()
    # C V for the covariance C, without a centered matrix.
    image = (x.T @ (x @ v - mean @ v) - np.outer(mean, (x @ v - mean @ v).sum(axis=0))) / (
        x.shape[0] - 1
    )
    residual = np.linalg.norm(image - v * variance, axis=0).max() / variance[0]
    return {"variance": variance, "loadings": v, "residual": np.array(residual)}


def call_arrays(job: Job) -> dict[str, Any]:
    """Return the (cell, guide) pairs that :func:`write_calls` kept."""
    import numpy as np

    with np.load(job.folder / "calls.npz") as calls:
        return dict(calls)


def write_calls(job: Job, cells: Any, guides: Any) -> None:
    """Keep called pairs as positions of cells and guides in the input."""
    import numpy as np

    np.savez(job.folder / "calls.npz", cells=np.asarray(cells), guides=np.asarray(guides))


def write_flags(job: Job, flags: Any) -> None:
    """Keep the called pairs of a sparse matrix of flags, cells x guides."""
    pairs = flags.tocoo()
    called = pairs.data != 0
    write_calls(job, pairs.row[called], pairs.col[called])
