"""The job of a case: files, columns, labels and thresholds of its data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from validation.benchmarks.cases import Case
from validation.benchmarks.guide_sets import guide_set
from validation.benchmarks.job import Job
from validation.benchmarks.screens import screen

# A cell is kept with this share of the genes expressed: half of what an average cell has.
MIN_GENES_SHARE = 0.05
MIN_CELLS = {"min_cells_per_perturbation": 50, "min_cells_per_gene": 100}


def job_of(case: Case, tool: str, cache: Path, outputs: Path, preload: tuple[str, ...] = ()) -> Job:
    """Return what ``tool`` has to do for a case; its data are prepared when they are not there.

    Data are in ``cache``; what the tool writes goes to a folder of its own in ``outputs``.
    """
    parameters = dict(case.parameters)
    if case.operation == "guides":
        path = guide_set(case.data, cache).counts
    else:
        found = screen(case.data, cache)
        path = found.files[case.file]
        parameters["perturbation_column"] = found.perturbation_column
        parameters["control_label"] = found.control_label
        parameters["thresholds"] = {"min_genes": round(MIN_GENES_SHARE * found.n_genes)} | MIN_CELLS
    return Job(
        tool=tool,
        operation=case.operation,
        input=path,
        output=str(outputs / tool),
        threads=case.threads,
        parameters=parameters,
        preload=preload,
    )


def warm_up(case: Case) -> Case:
    """Return a small case that imports and compiles what a case does.

    crispat takes a minute for any guide by some models: one without a fit stands for them.
    """
    if case.operation != "guides":
        return replace(case, data="tiny")
    model = "umi" if case.peer == "crispat" else case.parameters["model"]
    return replace(case, data="schraivogel-2", parameters={**case.parameters, "model": model})
