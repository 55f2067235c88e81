"""p-values of one split by every method."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import sparse

from crispyx._io.genes import group_genes
from crispyx._kernels.layout import CompressedBlock, Membership
from crispyx._stats.batch_welch import batch_welch_tests
from crispyx._stats.moments import comparison_arms
from crispyx._stats.nb_likelihood import Counts, grouped_cells
from crispyx._stats.rank_sum import rank_sum_tests
from crispyx._stats.size_factors import scaled, size_factors
from crispyx._stats.van_elteren import van_elteren_tests
from crispyx._stats.welch import welch_tests
from crispyx.de.nb_choices import PRESETS, Choices
from crispyx.de.nb_stages import (
    Estimators,
    compared_block,
    final_fit,
    fit_shrinkage,
    genewise_fit,
)
from crispyx.de.nb_tests import Strata

N_THREADS = 1
CALIBRATED = Choices(**PRESETS["calibrated"]).estimators()
NB_METHODS = {
    "calibrated": CALIBRATED,
    "Firth, Wald": replace(CALIBRATED, test="wald"),
    "LRT": replace(CALIBRATED, test="lrt"),
    "permutation": replace(CALIBRATED, test="permutation", most_sets=10_000),
    "documented default": Choices().estimators(),
    "pydeseq2": Choices(**PRESETS["pydeseq2"]).estimators(),
}
LOG_METHODS = ("t-test", "Wilcoxon")


def pvalues(
    counts: sparse.csr_array, labels: np.ndarray, batches: np.ndarray | None, method: str
) -> np.ndarray:
    """Return p (n_groups, n_genes); all negative binomial methods get one set of size factors."""
    if method in LOG_METHODS:
        return _of_log_counts(counts, labels, batches, method)
    return nb_table(counts, labels, batches, NB_METHODS[method], depths(counts))["pvalue"]


def nb_table(
    counts: sparse.csr_array,
    labels: np.ndarray,
    batches: np.ndarray | None,
    chosen: Estimators,
    s: np.ndarray,
) -> dict[str, np.ndarray]:
    """Return the tables (n_groups, n_genes) of one choice of estimators."""
    plain = grouped(counts, labels, s)
    strata = Strata(plain)
    if batches is not None:
        number = np.unique(batches, return_inverse=True)[1]
        arms = number * (labels.max() + 1) + labels
        strata = Strata(grouped(counts, arms, s), int(number.max()) + 1)
    table = strata.counts
    genewise = genewise_fit(table, chosen, "compiled", N_THREADS)
    shrinkage = fit_shrinkage(genewise, table.table.n_cells, chosen)
    alpha, _ = final_fit(table, genewise, shrinkage, chosen, "compiled", N_THREADS)
    shape = (plain.table.n_groups - 1, plain.n_genes)
    alpha = np.ascontiguousarray(np.broadcast_to(alpha, shape))
    return compared_block(plain, alpha, shrinkage, chosen, "compiled", N_THREADS, strata)


def depths(counts: sparse.csr_array) -> np.ndarray:
    """Return totals without dominant genes, scaled; a cell without any gets the smallest."""
    indices, indptr = counts.indices.astype(np.int32), counts.indptr.astype(np.int64)
    cells = CompressedBlock(0, counts.shape[0], counts.data, indices, indptr)
    s = size_factors(cells, counts.shape[1], "total", scale=False, engine="compiled")
    return scaled(np.where(np.isnan(s), np.nanmin(s), s))


def grouped(counts: sparse.csr_array, labels: np.ndarray, s: np.ndarray) -> Counts:
    """Group the counts of all genes."""
    membership = Membership.from_labels(labels, int(labels.max()) + 1)
    return Counts.of_block(gene_block(counts), membership, grouped_cells(s, membership))


def gene_block(counts: sparse.csr_array) -> CompressedBlock:
    """Return all genes as the kernels read them."""
    by_gene = counts.tocsc()
    by_gene.sort_indices()
    indices, indptr = by_gene.indices.astype(np.int32), by_gene.indptr.astype(np.int64)
    return CompressedBlock(0, counts.shape[1], by_gene.data, indices, indptr)


def _of_log_counts(
    counts: sparse.csr_array, labels: np.ndarray, batches: np.ndarray | None, method: str
) -> np.ndarray:
    logs = counts.copy()
    totals = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
    logs.data = np.log1p(logs.data / np.repeat(totals, np.diff(logs.indptr)) * 1e4)
    n_groups = int(labels.max()) + 1
    if batches is not None:
        number = np.unique(batches, return_inverse=True)[1]
        n_batches = int(number.max()) + 1
        arms_of = Membership.from_labels(number * n_groups + labels, n_batches * n_groups)
        block = group_genes(gene_block(logs), arms_of, N_THREADS)
        parts = [block.part(b * n_groups, n_groups) for b in range(n_batches)]
        if method == "Wilcoxon":
            return van_elteren_tests(parts, True, "two-sided", "compiled", N_THREADS)[2]
        return batch_welch_tests(parts, "two-sided", "compiled", N_THREADS)[2]
    membership = Membership.from_labels(labels, n_groups)
    block = group_genes(gene_block(logs), membership, N_THREADS)
    if method == "Wilcoxon":
        return rank_sum_tests(block, True, "compiled", N_THREADS)[2]
    arms = comparison_arms(block, "compiled", N_THREADS)
    return welch_tests(block, *arms, "compiled", N_THREADS)[1]
