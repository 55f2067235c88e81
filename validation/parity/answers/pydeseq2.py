"""PyDESeq2: every stage of its test of two arms, and its shrunken fold changes."""

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


def fitted(arrays: Arrays, files: Arrays, n_control: int, refit_cooks: bool) -> Arrays:
    """Fit counts (n_cells, n_genes), control first, at given size factors or its own."""
    import pandas as pd
    from pydeseq2.dds import DeseqDataSet
    from pydeseq2.ds import DeseqStats

    counts, given = arrays["counts"], arrays.get("size_factors")
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
        quiet=True,
    )
    if given is None:
        dds.fit_size_factors()
    else:
        dds.obs["size_factors"] = given
        dds.layers["normed_counts"] = counts / given[:, None]
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
        independent_filter=False,
        cooks_filter=refit_cooks,
        quiet=True,
    )
    stats.summary()
    found = {name: np.asarray(dds.var[name], dtype=float) for name in OF_GENES}
    found |= {name: stats.results_df[name].to_numpy(dtype=float) for name in stats.results_df}
    found["size_factors"] = np.asarray(dds.obs["size_factors"], dtype=float)
    found["prior_variance"] = np.array([float(dds.uns["prior_disp_var"])])
    found["coefficients"] = np.asarray(dds.varm["LFC"], dtype=float)
    found["cooks"] = np.asarray(dds.layers["cooks"], dtype=float)
    if not refit_cooks:
        stats.lfc_shrink(coeff=f"arm[T.{ARMS[1]}]")
        for name in ("log2FoldChange", "lfcSE"):
            found[f"shrunken {name}"] = stats.results_df[name].to_numpy(dtype=float)
    return found
