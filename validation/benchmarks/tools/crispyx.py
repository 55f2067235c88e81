"""crispyx, this one and its namesake on PyPI, through the doors both document."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

from validation.benchmarks.job import OURS, Job
from validation.benchmarks.tools import Action, NotBuiltError
from validation.benchmarks.tools.collecting import (
    call_arrays,
    component_arrays,
    matrix_arrays,
    profile_arrays,
    result_file,
    test_arrays,
    total_size_factors,
    write_flags,
)

N_COMPONENTS = 50
# Every gene is tested, as in the tools that have no such filter.
UNFILTERED = {"min_pct_ctrl": 0, "min_pct_pert": 0, "min_mean_ctrl": 0, "min_mean_pert": 0}


def version() -> str:
    """Return the version of the imported package."""
    import crispyx

    return str(crispyx.__version__)


def _door(namespace: str, name: str) -> Callable[..., Any]:
    import crispyx

    door = getattr(getattr(crispyx, namespace), name, None)
    if door is None:
        raise NotBuiltError(f"crispyx {crispyx.__version__} has no {namespace}.{name}")
    return door  # type: ignore[no-any-return]


def _quiet(job: Job) -> dict[str, Any]:
    """Return arguments against progress output, for the version that prints by default."""
    return {} if job.tool == OURS else {"verbose": False}


def _labels(job: Job) -> dict[str, Any]:
    return {key: job.parameters[key] for key in ("perturbation_column", "control_label")}


def _test(method: str) -> Action:
    def prepare(job: Job) -> Callable[[], object]:
        import crispyx

        test = getattr(crispyx, method)
        # The namesake's wilcoxon_test takes its threads from the environment only.
        threads = {"n_jobs": job.threads} if job.tool == OURS or method != "wilcoxon_test" else {}
        own = dict(job.parameters.get("both", {}))
        if job.tool == OURS:
            own |= job.parameters.get("ours", {})
        if job.parameters.get("total_size_factors"):
            own["size_factors"] = total_size_factors(job)
        arguments = _labels(job) | UNFILTERED | threads | _quiet(job) | own
        return lambda: test(job.input, output_dir=job.output, **arguments)

    def collect(job: Job) -> dict[str, Any]:
        import anndata
        import pandas as pd

        found = anndata.read_h5ad(result_file(job))
        return test_arrays(
            **{
                name: pd.DataFrame(found.layers[layer], found.obs_names, found.var_names)
                for name, layer in (("z", "z_score"), ("p", "pvalue"))
            }
        )

    return Action(prepare, collect)


def _qc(job: Job) -> Callable[[], object]:
    door = _door("pp", "qc_summary")
    arguments = _labels(job) | dict(job.parameters["thresholds"]) | _quiet(job)
    return lambda: door(job.input, output_dir=job.output, **arguments)


def _normalize(job: Job) -> Callable[[], object]:
    door = _door("pp", "normalize_total_log1p")
    return lambda: door(job.input, output_dir=job.output, verbose=False)


def _convert(job: Job) -> Callable[[], object]:
    door = _door("pp", "convert_to_csc")
    return lambda: door(job.input, output_dir=job.output, verbose=False)


def _pseudobulk(job: Job) -> Callable[[], object]:
    door = _door("pb", "aggregate")
    column = job.parameters["perturbation_column"]
    arguments = {"groupby": column, "method": "sum", "output_dir": job.output} | _quiet(job)
    return lambda: door(job.input, **arguments)


def _pca(job: Job) -> Callable[[], object]:
    door = _door("pp", "pca")
    if job.tool == OURS:
        import crispyx

        crispyx.settings.n_threads = job.threads

    def run() -> None:
        path = shutil.copy(job.input, job.folder / "pca.h5ad")  # results are added to it
        door(path, n_comps=N_COMPONENTS)

    return run


def _guides(job: Job) -> Callable[[], object]:
    if job.tool != OURS:
        raise NotBuiltError(f"crispyx {version()} does not assign guides")
    import anndata  # noqa: F401 - what it returns; its import is not part of the operation

    import crispyx

    model, rule = job.parameters["model"], job.parameters.get("ours", {})

    def run() -> None:
        calls = crispyx.gd.assign(job.input, model, n_jobs=job.threads, **rule)
        write_flags(job, calls.layers["assigned"])

    return run


ACTIONS = {
    "wilcoxon": _test("wilcoxon_test"),
    "t-test": _test("t_test"),
    "nb-glm": _test("nb_glm_test"),
    "qc": Action(_qc, matrix_arrays),
    "normalize": Action(_normalize, matrix_arrays),
    "convert": Action(_convert, matrix_arrays),
    "pseudobulk": Action(_pseudobulk, profile_arrays),
    "pca": Action(_pca, component_arrays),
    "guides": Action(_guides, call_arrays),
}
