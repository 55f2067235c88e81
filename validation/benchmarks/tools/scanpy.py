"""scanpy: everything in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from validation.benchmarks.job import Job
from validation.benchmarks.tools import Action
from validation.benchmarks.tools.collecting import (
    component_arrays,
    matrix_arrays,
    profile_arrays,
    test_arrays,
)

RANKED = ("names", "scores", "pvals")


def version() -> str:
    """Return the version of the imported package."""
    import scanpy

    return str(scanpy.__version__)


def _test(method: str, **arguments: Any) -> Action:
    def prepare(job: Job) -> Callable[[], object]:
        import numpy as np
        import scanpy as sc

        def run() -> None:
            screen = sc.read_h5ad(job.input)
            sc.tl.rank_genes_groups(
                screen,
                job.parameters["perturbation_column"],
                reference=job.parameters["control_label"],
                method=method,
                **arguments,
            )
            ranked = screen.uns["rank_genes_groups"]
            tables = {field: _columns(ranked[field]) for field in RANKED}
            np.savez(job.folder / "ranked.npz", groups=ranked["names"].dtype.names, **tables)

        return run

    return Action(prepare, _collect_test)


def _columns(table: Any) -> Any:
    """Return a structured array of one field a group as groups x genes."""
    import numpy as np

    columns = [table[group] for group in table.dtype.names]
    return np.array(columns, dtype=str if table[table.dtype.names[0]].dtype == object else None)


def _collect_test(job: Job) -> dict[str, Any]:
    import numpy as np
    import pandas as pd

    with np.load(job.folder / "ranked.npz") as ranked:
        groups, names = ranked["groups"], ranked["names"]
        genes = np.sort(names[0])
        order = np.argsort(names, axis=1)
        return test_arrays(
            **{
                name: pd.DataFrame(np.take_along_axis(ranked[field], order, 1), groups, genes)
                for name, field in (("z", "scores"), ("p", "pvals"))
            }
        )


def _in_memory(change: Callable[[Any, Any, Job], Any]) -> Callable[[Job], Callable[[], object]]:
    """Return an operation that reads, changes and writes: ``change(scanpy, screen, job)``."""

    def prepare(job: Job) -> Callable[[], object]:
        import scanpy as sc

        def run() -> None:
            changed = change(sc, sc.read_h5ad(job.input), job)
            changed.write_h5ad(job.folder / "scanpy.h5ad")

        return run

    return prepare


def _qc(sc: Any, screen: Any, job: Job) -> Any:
    thresholds, control = job.parameters["thresholds"], job.parameters["control_label"]
    sc.pp.filter_cells(screen, min_genes=thresholds["min_genes"])
    labels = screen.obs[job.parameters["perturbation_column"]].astype(str)
    enough = labels.map(labels.value_counts()) >= thresholds["min_cells_per_perturbation"]
    screen = screen[(enough | (labels == control)).to_numpy()].copy()
    sc.pp.filter_genes(screen, min_cells=thresholds["min_cells_per_gene"])
    return screen


def _normalize(sc: Any, screen: Any, job: Job) -> Any:
    sc.pp.normalize_total(screen, target_sum=1e4)
    sc.pp.log1p(screen)
    return screen


def _convert(sc: Any, screen: Any, job: Job) -> Any:
    screen.X = screen.X.tocsc()
    return screen


def _pseudobulk(sc: Any, screen: Any, job: Job) -> Any:
    sums = sc.get.aggregate(screen, by=job.parameters["perturbation_column"], func="sum")
    sums.X = sums.layers.pop("sum")
    return sums


def _pca(sc: Any, screen: Any, job: Job) -> Any:
    sc.pp.pca(screen, n_comps=50, svd_solver="arpack")
    return screen


ACTIONS = {
    "wilcoxon": _test("wilcoxon", tie_correct=True),
    "t-test": _test("t-test"),
    "qc": Action(_in_memory(_qc), matrix_arrays),
    "normalize": Action(_in_memory(_normalize), matrix_arrays),
    "convert": Action(_in_memory(_convert), matrix_arrays),
    "pseudobulk": Action(_in_memory(_pseudobulk), profile_arrays),
    "pca": Action(_in_memory(_pca), component_arrays),
}
