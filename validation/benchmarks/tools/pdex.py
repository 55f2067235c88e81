"""pdex: rank sums of a screen in memory, compiled when first used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from validation.benchmarks.job import Job
from validation.benchmarks.tools import Action
from validation.benchmarks.tools.collecting import test_arrays


def version() -> str:
    """Return the version of the installed distribution."""
    from importlib.metadata import version as installed

    return installed("pdex")


def _prepare(job: Job) -> Callable[[], object]:
    import anndata
    import pdex

    def run() -> None:
        tests = pdex.pdex(
            anndata.read_h5ad(job.input),
            groupby=job.parameters["perturbation_column"],
            mode="ref",
            reference=job.parameters["control_label"],
            threads=job.threads,
            is_log1p=job.parameters["is_log1p"],
        )
        tests.write_ipc(job.folder / "tests.arrow")

    return run


def _collect(job: Job) -> dict[str, Any]:
    import polars

    tests = polars.read_ipc(job.folder / "tests.arrow").to_pandas()
    return test_arrays(p=tests.pivot(index="target", columns="feature", values="p_value"))


ACTIONS = {"wilcoxon": Action(_prepare, _collect)}
