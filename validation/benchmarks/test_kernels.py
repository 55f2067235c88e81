"""The seam of every method, compiled against its definition: ``make bench-kernels``.

Sizes are such that the definition takes milliseconds. Rows of one group are one method; the
quotient of their times is what compiling brought.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from crispyx._io.genes import group_genes
from crispyx._kernels.layout import CompressedBlock, GroupedGenes, Membership
from crispyx._stats.beta_mixtures import fit_beta
from crispyx._stats.depth_mixtures import fit_depth
from crispyx._stats.guide_rules import assigned_flags
from crispyx._stats.histogram_mixtures import fit_histogram
from crispyx._stats.mixtures import GuideColumns
from crispyx._stats.moments import comparison_arms
from crispyx._stats.multiple_testing import adjust_rows
from crispyx._stats.normalize import Scaling, scaled_values
from crispyx._stats.qc import ExpressionCounts
from crispyx._stats.rank_sum import rank_sum_tests
from crispyx._stats.welch import welch_tests

N_CELLS, N_GENES, N_GROUPS, N_GUIDES = 2_000, 50, 6, 8
DENSITY = 0.1
Method = Callable[[Any], object]


@cache
def counts() -> np.ndarray:
    """Return counts (N_CELLS, N_GENES), one in ten above 0."""
    rng = np.random.default_rng(0)
    expressed = rng.random((N_CELLS, N_GENES)) < DENSITY
    return expressed * rng.geometric(0.5, (N_CELLS, N_GENES))


@cache
def guide_counts() -> np.ndarray:
    """Return guide counts (N_CELLS, N_GUIDES): ambient ones, and one guide in each cell."""
    rng = np.random.default_rng(1)
    found = rng.poisson(0.2, (N_CELLS, N_GUIDES))
    found[np.arange(N_CELLS), rng.integers(0, N_GUIDES, N_CELLS)] += rng.negative_binomial(
        3, 3 / 60, N_CELLS
    )
    return found


def block_of(matrix: sp.spmatrix) -> CompressedBlock:
    """Return a whole CSR or CSC matrix as the block the kernels read."""
    return CompressedBlock(
        start=0,
        stop=len(matrix.indptr) - 1,
        values=matrix.data.astype(np.float32),
        minor=matrix.indices.astype(np.int32),
        ptr=matrix.indptr.astype(np.int64),
    )


@cache
def grouped() -> GroupedGenes:
    """Return the counts by group of cells, the first one the control."""
    group_of_cell = np.random.default_rng(2).integers(0, N_GROUPS, N_CELLS)
    membership = Membership.from_labels(group_of_cell, N_GROUPS)
    return group_genes(block_of(sp.csc_matrix(counts())), membership, 1)


@cache
def columns() -> GuideColumns:
    """Return the guide counts by guide."""
    matrix = sp.csc_matrix(guide_counts())
    ptr = matrix.indptr.astype(np.int64)
    return GuideColumns(N_CELLS, ptr, matrix.indices, matrix.data.astype(np.int64))


@cache
def cells() -> CompressedBlock:
    """Return the counts by cell."""
    return block_of(sp.csr_matrix(counts()))


def add_expressed(engine: Any) -> object:
    """Count expressed genes by cell and expressing cells by gene."""
    found = ExpressionCounts.zeros((N_CELLS, N_GENES))
    found.add(cells(), np.ones(N_CELLS, bool), by_cell=True, engine=engine)
    return found


def methods() -> dict[str, Method]:
    """Return every method as a function of the engine."""
    scaling = Scaling(normalize=True, log1p=True, target_sum=1e4)
    sizes = counts().sum(axis=1, dtype=float)
    depth, largest = guide_counts().sum(axis=1), guide_counts().max(axis=1)
    pvalues = np.random.default_rng(3).random((100, 1000))
    guides, histogram = block_of(sp.csr_matrix(guide_counts())), ("poisson_gauss", "gauss")
    return {
        "rank_sum": lambda engine: rank_sum_tests(grouped(), True, engine),
        "moments": lambda engine: comparison_arms(grouped(), engine),
        "welch": lambda engine: welch_tests(
            grouped(), *comparison_arms(grouped(), "compiled"), engine
        ),
        "multiple_testing": lambda engine: adjust_rows(pvalues, "benjamini-hochberg", engine),
        "normalize": lambda engine: scaled_values(cells(), sizes, N_GENES, scaling, engine),
        "qc": add_expressed,
        "guide_rules": lambda engine: assigned_flags(guides, N_GUIDES, "ratio", 0.3, engine),
        **{model: _of_histogram(model) for model in histogram},
        **{model: _of_depth(model, depth) for model in ("poisson", "neg_binomial", "binomial")},
        **{model: _of_proportions(model, largest, depth) for model in ("beta2", "beta3")},
    }


def _of_histogram(model: Any) -> Method:
    return lambda engine: fit_histogram(columns(), model, engine)


def _of_depth(model: Any, depth: np.ndarray) -> Method:
    return lambda engine: fit_depth(columns(), depth, model, engine)


def _of_proportions(model: Any, largest: np.ndarray, depth: np.ndarray) -> Method:
    return lambda engine: fit_beta(largest, depth, model, engine)


METHODS = methods()


@pytest.mark.parametrize("engine", ["reference", "compiled"])
@pytest.mark.parametrize("method", METHODS)
def test_speed(benchmark: Any, method: str, engine: str) -> None:
    """Time one method by one engine."""
    benchmark.group = method
    benchmark(METHODS[method], engine)
