"""PyDESeq2: every stage of its test of two arms, its shrunken fold changes, and other designs."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

Arrays = dict[str, Any]
ARMS = ("control", "perturbed")
OF_GENES = (
    "_normed_means",
    "_MoM_dispersions",
    "genewise_dispersions",
    "_genewise_converged",
    "fitted_dispersions",
    "MAP_dispersions",
    "_MAP_converged",
    "_outlier_genes",
    "dispersions",
)


def two_arms(
    counts: np.ndarray,
    n_control: int,
    size_factors: np.ndarray | None,
    refit_cooks: bool,
    inference: Any,
) -> tuple[Any, Any]:
    """Fit counts (n_cells, n_genes), control first, at given size factors or its own, and test.

    Returns
    -------
    Its data set and its statistics.
    """
    import pandas as pd
    from pydeseq2.dds import DeseqDataSet
    from pydeseq2.ds import DeseqStats

    cells = [f"c{i}" for i in range(len(counts))]
    genes = [f"g{j}" for j in range(counts.shape[1])]
    labels = [ARMS[0]] * n_control + [ARMS[1]] * (len(counts) - n_control)
    metadata = pd.DataFrame({"arm": pd.Categorical(labels, categories=ARMS)}, index=cells)
    warnings.simplefilter("ignore")
    dds = DeseqDataSet(
        counts=pd.DataFrame(counts, index=cells, columns=genes),
        metadata=metadata,
        design="~arm",
        refit_cooks=refit_cooks,
        inference=inference,
        quiet=True,
    )
    if size_factors is None:
        dds.fit_size_factors()
    else:
        dds.obs["size_factors"] = size_factors
        dds.layers["normed_counts"] = counts / size_factors[:, None]
        dds.var["_normed_means"] = dds.layers["normed_counts"].mean(axis=0)
    dds.fit_genewise_dispersions()
    dds.fit_dispersion_trend()
    dds.fit_dispersion_prior()
    dds.fit_MAP_dispersions()
    dds.fit_LFC()
    dds.calculate_cooks()
    if refit_cooks:
        dds.refit()
    stats = DeseqStats(
        dds,
        contrast=["arm", ARMS[1], ARMS[0]],
        inference=inference,
        independent_filter=False,
        cooks_filter=refit_cooks,
        quiet=True,
    )
    stats.summary()
    return dds, stats


def fitted(arrays: Arrays, files: Arrays, n_control: int, refit_cooks: bool) -> Arrays:
    """Fit counts (n_cells, n_genes), control first, at given size factors or its own."""
    from pydeseq2.default_inference import DefaultInference

    class Keeping(DefaultInference):
        """Keeps the modes, of which only one coefficient comes out otherwise."""

        def lfc_shrink_nbinom_glm(self, *args: Any, **given: Any) -> Any:
            self.scale = given["prior_scale"]
            self.modes = super().lfc_shrink_nbinom_glm(*args, **given)
            return self.modes

    inference = Keeping(n_cpus=1)
    counts, given = arrays["counts"], arrays.get("size_factors")
    dds, stats = two_arms(counts, n_control, given, refit_cooks, inference)
    found = {name: np.asarray(dds.var[name], dtype=float) for name in OF_GENES}
    found |= {name: stats.results_df[name].to_numpy(dtype=float) for name in stats.results_df}
    found["size_factors"] = np.asarray(dds.obs["size_factors"], dtype=float)
    found["prior_variance"] = np.array([float(dds.uns["prior_disp_var"])])
    found["coefficients"] = np.asarray(dds.varm["LFC"], dtype=float)
    found["cooks"] = np.asarray(dds.layers["cooks"], dtype=float)
    if not refit_cooks:
        stats.lfc_shrink(coeff=f"arm[T.{ARMS[1]}]")
        modes, inverses, converged = inference.modes
        found["prior_scale"] = np.array([float(inference.scale)])
        found["modes"], found["shrinkage_converged"] = modes, np.asarray(converged)
        found["shrunken error"] = np.sqrt(np.abs(inverses[:, 1, 1]))
    return found


def of_design(arrays: Arrays, files: Arrays) -> Arrays:
    """Fit counts (n_cells, n_genes) on a design of any columns, one stage after the other.

    Dispersions, size factors and the scale of the prior are given; the second coefficient is
    tested and shrunk.
    """
    from pydeseq2.default_inference import DefaultInference

    inference = DefaultInference(n_cpus=1)
    counts, design = arrays["counts"], arrays["design"]
    s, alpha = arrays["size_factors"], arrays["dispersions"]
    warnings.simplefilter("ignore")
    fitted = inference.irls(counts, s, design, alpha, 1e-300, 1e-14, maxiter=500)
    found = dict(zip(("coefficients", "means", "hat", "converged"), fitted, strict=True))
    del found["hat"]
    contrast = np.eye(design.shape[1])[1]
    ridge = np.diag(np.repeat(1e-6, design.shape[1]))
    means = found["means"]
    tests = inference.wald_test(
        design, alpha, found["coefficients"], means, ridge, contrast, 0.0, None
    )
    found["p"], found["statistic"], found["error"] = tests
    modes, _, converged = inference.lfc_shrink_nbinom_glm(
        design, counts, 1 / alpha, np.log(s), 15, float(arrays["scale"]), "L-BFGS-B", 1
    )
    found["modes"], found["shrinkage_converged"] = modes, np.asarray(converged)
    found["genewise"], found["genewise_converged"] = inference.alpha_mle(
        counts, design, means, alpha, 1e-8, float(max(10, len(counts))), cr_reg=True
    )
    return {name: np.asarray(value, dtype=float) for name, value in found.items()}
