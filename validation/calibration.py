"""Null splits of real and simulated counts, and power against an oracle.

    python -m validation.calibration --output docs/calibration.md

Real screens are found through ``CRISPYX_DATA_DIR``; those that are not there are left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import sparse

from crispyx._kernels.layout import CompressedBlock, Membership
from crispyx._stats.nb_coefficients import Fitting
from crispyx._stats.nb_likelihood import Counts, grouped_cells
from crispyx._stats.size_factors import scaled, size_factors
from crispyx.de.nb_stages import (
    Estimators,
    compared_block,
    final_fit,
    fit_shrinkage,
    genewise_fit,
)
from crispyx.de.nb_tests import Strata
from crispyx.de.null_splits import batch_weights, random_split, thinned

EDGES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, np.inf)
BINS = ("< .01", ".01-.03", ".03-.1", ".1-.3", ".3-1", "> 1")
LEVELS = (0.05, 0.001)
FIRTH = Fitting(False, "poisson", 0.0, 25, 1e-6, False, penalized=True)
CALIBRATED = Estimators(fitting=FIRTH, se_method="fisher", largest=50.0, test="score")
NB_METHODS = {
    "calibrated": CALIBRATED,
    "Firth Wald": replace(CALIBRATED, test="wald"),
    "LRT": replace(CALIBRATED, test="lrt"),
    "permutation": replace(CALIBRATED, test="permutation"),
    "default Wald": Estimators(),
    "pydeseq2 (clamp)": Estimators(
        fitting=Fitting(True, "least_squares", 0.5, 250, 1e-8, True),
        shares_dispersion=False,
        literal=True,
    ),
}


@dataclass(frozen=True)
class Pool:
    """Cells that are exchangeable: counts (n_cells, n_genes) CSR, and batches where known."""

    name: str
    counts: sparse.csr_array
    batches: np.ndarray | None = None


@dataclass(frozen=True)
class Null:
    """How splits are drawn: cells of a pseudo-perturbation, thinning, share from one batch."""

    n_cells: int
    thin: float = 0.0
    from_one_batch: float = 0.0
    stratified: bool = False

    @property
    def name(self) -> str:
        words = [str(self.n_cells)]
        words += ["thinned by .3"] if self.thin else []
        words += ["confounded"] if self.from_one_batch else []
        words += ["stratified"] if self.stratified else []
        return ", ".join(words)


def screens() -> Iterator[Pool]:
    """Read the pools of the real screens."""
    import anndata

    folder = Path(os.environ.get("CRISPYX_DATA_DIR", "."))
    rules: dict[str, tuple[str, Callable, str | None]] = {
        "Papalexi": ("papalexi_eccite_299genes", _is("perturbation", "non-targeting"), "bio_rep"),
        "Schraivogel": ("schraivogel_tapseq", _is("perturbation", "non-targeting"), None),
        "Gasperini": ("gasperini_highmoi", _is("n_guides_umi5", 0), "batch"),
        "Norman": ("norman2019_crispra_500hvg", lambda obs: np.ones(len(obs), bool), None),
        "10x brain": ("tenx_brain_10k_1000genes", lambda obs: np.ones(len(obs), bool), None),
    }
    for name, (file, chosen, batch) in rules.items():
        path = folder / f"{file}.h5ad"
        if path.exists():
            data = anndata.read_h5ad(path)
            cells = np.flatnonzero(np.asarray(chosen(data.obs)))[:6_000]
            matrix = sparse.csr_array(data.X[cells])
            batches = None if batch is None else np.asarray(data.obs[batch].astype(str))[cells]
            yield Pool(name, matrix.astype(np.float32), batches)


def _is(column: str, value: object) -> Callable:
    return lambda obs: (obs[column] == value).to_numpy()


def simulated(n_cells: int, n_genes: int, seed: int) -> tuple[Pool, np.ndarray, np.ndarray]:
    """Draw negative binomial counts without effects; return size factors and means, too."""
    rng = np.random.default_rng(seed)
    s = np.exp(rng.normal(0, 0.35, n_cells))
    mean = np.exp(rng.normal(-3.2, 1.9, n_genes))
    alpha = dispersion_of(mean, rng)
    y = rng.poisson(s[:, None] * mean * rng.gamma(1 / alpha, alpha, (n_cells, n_genes)))
    return Pool("simulated", sparse.csr_array(y.astype(np.float32))), s, mean


def dispersion_of(mean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw true dispersions about a trend."""
    return np.exp(rng.normal(np.log(0.25), 0.6, mean.size)) + 0.02 / mean


def split(pool: Pool, null: Null, rng: np.random.Generator) -> tuple[sparse.csr_array, np.ndarray]:
    """Return counts and labels of one split."""
    n_cells = pool.counts.shape[0]
    n_groups = max(1, min(10, n_cells // (4 * null.n_cells)))
    weights = None
    if null.from_one_batch and pool.batches is not None:
        names, sizes = np.unique(pool.batches, return_counts=True)
        taken = n_groups * null.n_cells / n_cells
        n_groups = max(1, int(n_groups * min(1.0, 0.5 * sizes.min() / (taken * n_cells))))
        taken = n_groups * null.n_cells / n_cells
        weights = batch_weights(pool.batches, names[0], null.from_one_batch, taken)
    labels = random_split(n_cells, [null.n_cells] * n_groups, rng, weights=weights)
    counts = pool.counts.copy()
    if null.thin:
        of_value = np.repeat(labels > 0, np.diff(counts.indptr))
        counts.data = thinned(counts.data, of_value, null.thin, rng)
        counts.eliminate_zeros()
    return counts, labels


def cell_block(counts: sparse.csr_array) -> CompressedBlock:
    """Return cells as the kernels read them."""
    parts = counts.data, counts.indices.astype(np.int32), counts.indptr.astype(np.int64)
    return CompressedBlock(0, counts.shape[0], *parts)


def depths(counts: sparse.csr_array) -> np.ndarray:
    """Return totals without dominant genes, scaled; cells without any are given the smallest."""
    s = size_factors(cell_block(counts), counts.shape[1], "total", scale=False, engine="compiled")
    return scaled(np.where(np.isnan(s), np.nanmin(s), s))


def grouped(counts: sparse.csr_array, labels: np.ndarray, s: np.ndarray) -> Counts:
    """Group all genes."""
    by_gene = counts.tocsc()
    by_gene.sort_indices()
    block = CompressedBlock(
        0,
        counts.shape[1],
        by_gene.data,
        by_gene.indices.astype(np.int32),
        by_gene.indptr.astype(np.int64),
    )
    membership = Membership.from_labels(labels, int(labels.max()) + 1)
    return Counts.of_block(block, membership, grouped_cells(s, membership))


def nb_pvalues(
    counts: sparse.csr_array, labels: np.ndarray, batches: np.ndarray | None, chosen: Estimators
) -> np.ndarray:
    """Return p (n_groups, n_genes) of one method."""
    s = depths(counts)
    plain = grouped(counts, labels, s)
    strata = Strata(plain)
    if batches is not None:
        number = np.unique(batches, return_inverse=True)[1]
        n_batches = int(number.max()) + 1
        strata = Strata(grouped(counts, number * (labels.max() + 1) + labels, s), n_batches)
    table = strata.counts
    genewise = genewise_fit(table, chosen, "compiled", 2)
    shrinkage = fit_shrinkage(genewise, table.table.n_cells, chosen)
    alpha, _ = final_fit(table, genewise, shrinkage, chosen, "compiled", 2)
    shape = (plain.table.n_groups - 1, plain.n_genes)
    alpha = np.ascontiguousarray(np.broadcast_to(alpha, shape))
    return compared_block(plain, alpha, shrinkage, chosen, "compiled", 2, strata)["pvalue"]


def other_pvalues(counts: sparse.csr_array, labels: np.ndarray, method: str) -> np.ndarray:
    """Return p (n_groups, n_genes) of the tests of log-normalized counts, by SciPy."""
    from scipy.stats import mannwhitneyu, ttest_ind

    values = counts.toarray()
    totals = np.maximum(values.sum(axis=1, keepdims=True), 1)
    values = np.log1p(values / totals * 1e4)
    control = values[labels == 0]
    found = []
    for k in range(1, int(labels.max()) + 1):
        if method == "t-test":
            p = ttest_ind(values[labels == k], control, equal_var=False).pvalue
        else:
            p = mannwhitneyu(values[labels == k], control, use_continuity=False).pvalue
        found.append(p)
    return np.array(found)
