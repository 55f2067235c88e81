"""illico: rank sums of a screen in memory, compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from validation.benchmarks.job import Job
from validation.benchmarks.tools import Action
from validation.benchmarks.tools.collecting import test_arrays


def version() -> str:
    """Return the version of the installed distribution."""
    from importlib.metadata import version as installed

    return installed("illico")


def _prepare(job: Job) -> Callable[[], object]:
    import anndata
    import illico

    def run() -> None:
        tests = illico.asymptotic_wilcoxon(
            anndata.read_h5ad(job.input),
            is_log1p=job.parameters["is_log1p"],
            group_keys=job.parameters["perturbation_column"],
            reference=job.parameters["control_label"],
            n_threads=job.threads,
            use_continuity=False,
            tie_correct=True,
        )
        tests.to_pickle(job.folder / "tests.pickle")

    return run


def _collect(job: Job) -> dict[str, Any]:
    import pandas as pd

    tests = pd.read_pickle(job.folder / "tests.pickle")
    columns = [name for name in tests.columns if name.startswith("z")]
    tables = {"z": columns[0], "p": "p_value"}
    control = job.parameters["control_label"]
    return test_arrays(
        **{
            name: tests[column].unstack().drop(index=control, errors="ignore")
            for name, column in tables.items()
        }
    )


ACTIONS = {"wilcoxon": Action(_prepare, _collect)}
