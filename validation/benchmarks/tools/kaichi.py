"""kaichi: guide assignment, compiled."""

from __future__ import annotations

from collections.abc import Callable

from validation.benchmarks.job import Job
from validation.benchmarks.tools import Action
from validation.benchmarks.tools.collecting import call_arrays, write_flags


def version() -> str:
    """Return the version of the installed distribution."""
    from importlib.metadata import version as installed

    return installed("kaichi")


def _prepare(job: Job) -> Callable[[], object]:
    import anndata  # noqa: F401 - what it returns; its import is not part of the operation
    import kaichi

    def run() -> None:
        calls = kaichi.assign(job.input, model=job.parameters["model"], n_jobs=job.threads)
        write_flags(job, calls.layers["assigned"])

    return run


ACTIONS = {"guides": Action(_prepare, call_arrays)}
