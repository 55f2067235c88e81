"""crispat: guide assignment by stochastic fits of the published models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from validation.benchmarks.job import Job
from validation.benchmarks.tools import Action
from validation.benchmarks.tools.collecting import call_arrays, write_calls

# Function and arguments of each model, at the thresholds crispyx has as defaults.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "umi": ("ga_umi", {"thresholds": [5]}),
    "max": ("ga_max", {}),
    "ratio": ("ga_ratio", {"thresholds": [0.3]}),
    "quantiles": ("ga_quantiles", {"thresholds": [0.1]}),
    "gauss": ("ga_gauss", {"inference": "em", "make_plots": False}),
    "poisson_gauss": ("ga_poisson_gauss", {"make_plots": False}),
    "poisson": ("ga_poisson", {"parallelize": False}),
    "neg_binomial": ("ga_negative_binomial", {"parallelize": False}),
    "binomial": ("ga_binomial", {"parallelize": False}),
    "beta2": ("ga_2beta", {}),
    "beta3": ("ga_3beta", {}),
}


def version() -> str:
    """Return the version of the installed distribution."""
    from importlib.metadata import version as installed

    return installed("crispat")


def _prepare(job: Job) -> Callable[[], object]:
    import anndata
    import crispat
    import pandas as pd

    name, arguments = MODELS[job.parameters["model"]]
    # It makes the folders of its plots only when it makes this one.
    folder = job.folder / "crispat"

    def run() -> None:
        getattr(crispat, name)(input_file=job.input, output_dir=f"{folder}/", **arguments)
        (path,) = folder.glob("assignments*.csv")
        calls = pd.read_csv(path)
        screen = anndata.read_h5ad(job.input, backed="r")
        cells = screen.obs_names.get_indexer(calls["cell"])
        write_calls(job, cells, screen.var_names.get_indexer(calls["gRNA"]))

    return run


ACTIONS = {"guides": Action(_prepare, call_arrays)}
