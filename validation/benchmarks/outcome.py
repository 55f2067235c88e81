"""How the results of the last turn agree with each other and with what is known."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from validation.benchmarks import agreement
from validation.benchmarks.cases import Case
from validation.benchmarks.guide_sets import guide_set, published_calls
from validation.benchmarks.job import OURS, Job
from validation.benchmarks.runs import collect

OF_OPERATION = {
    "wilcoxon": agreement.of_tests,
    "t-test": agreement.of_tests,
    "nb-glm": agreement.of_tests,
    "pseudobulk": agreement.of_tests,
    "qc": agreement.of_matrices,
    "normalize": agreement.of_matrices,
    "convert": agreement.of_matrices,
    "pca": agreement.of_components,
    "guides": agreement.of_calls,
}


def outcome(case: Case, done: Mapping[str, tuple[Job, Path]], cache: Path) -> dict[str, float]:
    """Return measures of agreement by name.

    Parameters
    ----------
    case : Case
        What was done.
    done : mapping of str to (Job, path)
        Jobs that succeeded, and their interpreters, by tool.
    cache : pathlib.Path
        Where the data are.

    Raises
    ------
    ValueError
        A tool's result is not what its adapter expects.
    """
    results = {tool: _result(job, python) for tool, (job, python) in done.items()}
    found: dict[str, float] = {}
    if len(results) > 1:
        found |= OF_OPERATION[case.operation](results[OURS], results[case.peer])
    if case.operation == "guides":
        found |= _known_calls(case, results, cache)
    return found


def _result(job: Job, python: Path) -> dict[str, Any]:
    import numpy as np

    try:
        with np.load(collect(job, python)) as arrays:
            return dict(arrays)
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().splitlines()[-1]
        raise ValueError(f"result of {job.tool} not read: {last}") from error


def _known_calls(case: Case, results: Mapping[str, Any], cache: Path) -> dict[str, float]:
    """Return how called pairs agree with the truth, or with the published calls."""
    import numpy as np

    guides = guide_set(case.data, cache)
    published = published_calls().get(case.parameters["model"])
    found: dict[str, float] = {}
    for tool, called in results.items():
        if guides.truth:
            with np.load(guides.truth) as truth:
                found |= agreement.of_truth(called, truth, tool)
        elif published is not None and case.data == "schraivogel":
            found |= agreement.of_published(called, guides.counts, published, tool)
    return found
