"""PyDESeq2: one comparison in memory, with its defaults but for the size factors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from validation.benchmarks.job import Job
from validation.benchmarks.tools import Action
from validation.benchmarks.tools.collecting import test_arrays, total_size_factors


def version() -> str:
    """Return the version of the imported package."""
    from importlib.metadata import version as of

    return of("pydeseq2")


def _test(job: Job) -> Callable[[], object]:
    import anndata
    import pandas as pd
    from pydeseq2.dds import DeseqDataSet
    from pydeseq2.default_inference import DefaultInference
    from pydeseq2.ds import DeseqStats

    column, control = job.parameters["perturbation_column"], job.parameters["control_label"]
    size_factors = total_size_factors(job)

    def run() -> None:
        screen = anndata.read_h5ad(job.input)
        # It reads its design from names without signs, and the first category is the control.
        arm = (screen.obs[column] != control).map({False: "a", True: "b"}).astype("category")
        counts = pd.DataFrame(screen.X.toarray().astype(int), screen.obs_names, screen.var_names)
        inference = DefaultInference(n_cpus=job.threads)
        fitted = DeseqDataSet(
            counts=counts,
            metadata=pd.DataFrame({"arm": arm}),
            design="~arm",
            refit_cooks=False,
            inference=inference,
            quiet=True,
        )
        fitted.obs["size_factors"] = size_factors
        fitted.layers["normed_counts"] = counts.to_numpy() / size_factors[:, None]
        fitted.var["_normed_means"] = fitted.layers["normed_counts"].mean(axis=0)
        fitted.fit_genewise_dispersions()
        fitted.fit_dispersion_trend()
        fitted.fit_dispersion_prior()
        fitted.fit_MAP_dispersions()
        fitted.fit_LFC()
        tested = DeseqStats(
            fitted,
            contrast=["arm", "b", "a"],
            independent_filter=False,
            cooks_filter=False,
            inference=inference,
            quiet=True,
        )
        tested.summary()
        (name,) = set(screen.obs[column]) - {control}
        table = tested.results_df[["stat", "pvalue"]]
        table.columns = ["z", "p"]
        table.assign(perturbation=name).to_csv(job.folder / "result.csv")

    return run


def _collect(job: Job) -> dict[str, Any]:
    import pandas as pd

    table = pd.read_csv(job.folder / "result.csv", index_col=0)
    name = table["perturbation"].iloc[0]
    return test_arrays(**{key: table[[key]].set_axis([name], axis=1).T for key in ("z", "p")})


ACTIONS = {"nb-glm": Action(_test, _collect)}
