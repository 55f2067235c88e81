"""Time the shrinkage of one comparison in PyDESeq2, and of a whole screen here.

Run where PyDESeq2 and the compiled kernels can be imported, from the root of the source tree:

    python -m validation.benchmarks.shrinkage --genes 2000 --perturbations 20

Both get the same counts and PyDESeq2's own fits of the first comparison are made before the clock
starts. Seconds are of the processor, of one thread, so that other work on the machine hardly
counts. Here the whole function is timed, with reading counts and fits and writing the result,
and its time is divided by the number of comparisons; the kernel alone is shown beside it.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

import crispyx as cx
from crispyx._stats.apeglm import Searching, prior_scale, prior_variance, shrink_counts
from crispyx._stats.nb_likelihood import Counts, cell_table
from crispyx.errors import CrispyxWarning
from validation.parity.answers.pydeseq2 import ARMS, two_arms

COLUMN, CONTROL = "perturbation", "control"
EVERY_GENE: dict[str, Any] = {"min_pct_both": 0.0, "min_mean_ctrl": 0.0, "min_mean_pert": 0.0}


def simulated(n_control: int, n_perturbed: int, n_perturbations: int, n_genes: int) -> Any:
    """Return a screen of negative binomial counts, a tenth of them above 0."""
    rng = np.random.default_rng(0)
    names = [CONTROL, *(f"P{k}" for k in range(n_perturbations))]
    labels = np.repeat(names, [n_control] + [n_perturbed] * n_perturbations)
    depth = np.exp(rng.normal(0, 0.35, labels.size))
    mean, alpha = np.exp(rng.normal(-3, 1.6, n_genes)), np.exp(rng.normal(-1.4, 0.6, n_genes))
    blocks = []
    for start in range(0, labels.size, 1000):
        mu = depth[start : start + 1000, None] * mean
        counts = rng.poisson(mu * rng.gamma(1 / alpha, alpha, mu.shape))
        blocks.append(sparse.csr_matrix(counts.astype(np.float32)))
    obs = pd.DataFrame({COLUMN: labels}, index=[f"c{i}" for i in range(labels.size)])
    return anndata.AnnData(sparse.vstack(blocks).tocsr(), obs=obs)


def seconds(work: Callable[[], object], turns: int = 1) -> float:
    """Return the least processor time of some turns."""
    least = np.inf
    for _ in range(turns):
        began = time.process_time()
        work()
        least = min(least, time.process_time() - began)
    return float(least)


def pydeseq2_seconds(screen: Any, s: np.ndarray) -> tuple[float, int]:
    """Return the time of PyDESeq2's ``lfc_shrink`` for the first comparison, and its genes."""
    from pydeseq2.default_inference import DefaultInference

    labels = screen.obs[COLUMN].to_numpy()
    cells = np.concatenate([np.flatnonzero(labels == name) for name in (CONTROL, "P0")])
    counts = screen.X[cells].toarray().astype(int)
    counts = counts[:, counts.any(axis=0)]
    n_control = int((labels == CONTROL).sum())
    with warnings.catch_warnings():
        stats = two_arms(counts, n_control, s[cells], False, DefaultInference(n_cpus=1))[1]
        took = seconds(lambda: stats.lfc_shrink(coeff=f"arm[T.{ARMS[1]}]"))
    return took, counts.shape[1]


def kernel_seconds(screen: Any, s: np.ndarray, fitted: Any) -> float:
    """Return the time of the kernel for the first comparison, laying out its counts included."""
    used = np.asarray(screen.obs[COLUMN].isin([CONTROL, "P0"]))
    arm = np.asarray(screen.obs[COLUMN][used] == "P0").astype(np.int64)
    csc = sparse.csc_matrix(screen.X[used])
    alpha = np.ascontiguousarray(fitted.layers["dispersion"][:1])
    n_control = int((arm == 0).sum())
    b, error = fitted.layers["logfoldchange_raw_ln"][0], fitted.layers["standard_error_ln"][0]
    ptr = np.arange(csc.shape[1] + 1)

    def work() -> None:
        scale = prior_scale(prior_variance(lambda: [(b, error)]))
        table = cell_table(s[used], np.array([0, n_control, len(arm)]))
        split = csc.indptr[:-1] + np.add.reduceat(csc.indices < n_control, csc.indptr[:-1])
        empty = np.diff(csc.indptr) == 0
        split[empty] = csc.indptr[:-1][empty]
        runs = np.stack([csc.indptr[ptr[:-1]], split, csc.indptr[ptr[1:]]], axis=1)
        counts = Counts(csc.data, table.rank[csc.indices], runs.astype(np.int64), table)
        shrink_counts(counts, alpha, np.array([scale]), Searching(), "compiled")

    csc.data = csc.data.astype(np.float64)
    csc.indptr = csc.indptr.astype(np.int64)
    return seconds(work, 5)


def main() -> None:
    """Run both and print seconds per comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--genes", type=int, default=2000)
    parser.add_argument("--control", type=int, default=2000)
    parser.add_argument("--perturbed", type=int, default=300)
    parser.add_argument("--perturbations", type=int, default=20)
    asked = parser.parse_args()
    screen = simulated(asked.control, asked.perturbed, asked.perturbations, asked.genes)
    s = np.asarray(screen.X.sum(axis=1)).ravel()
    s = s / np.exp(np.mean(np.log(s)))
    with TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore", CrispyxWarning)
        folder = Path(name)
        screen.write_h5ad(folder / "screen.h5ad")
        path = cx.nb_glm_test(
            folder / "screen.h5ad", perturbation_column=COLUMN, size_factors=s, **EVERY_GENE
        ).result_path
        ours = {
            method: seconds(partial(cx.de.shrink_lfc, path, method=method, n_jobs=1, force=True), 3)
            / asked.perturbations
            for method in ("stats", "full")
        }
        kernel = kernel_seconds(screen, s, anndata.read_h5ad(path))
    theirs, n_genes = pydeseq2_seconds(screen, s)
    print(f"{asked.control} + {asked.perturbed} cells, {n_genes} genes, processor seconds each")
    print(f"PyDESeq2 lfc_shrink   {theirs:9.3f}")
    for title, value in (
        ("shrink_lfc, full", ours["full"]),
        ("shrink_lfc, stats", ours["stats"]),
        ("kernel alone, full", kernel),
    ):
        print(f"{title:21s} {value:9.5f}   {theirs / value:7.0f} times less")


if __name__ == "__main__":
    main()
