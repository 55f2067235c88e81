"""Counts of several groups of cells, grouped as the kernels of the negative binomial read them."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from layouts import gene_block

from crispyx._kernels.layout import Membership
from crispyx._stats.nb_likelihood import Counts, grouped_cells


def grouped_counts(
    values: np.ndarray, labels: np.ndarray, size_factors: np.ndarray, n_threads: int = 1
) -> Counts:
    """Group a (n_cells, n_genes) matrix by the group numbers of its cells."""
    labels = np.asarray(labels)
    membership = Membership.from_labels(labels, int(labels.max()) + 1)
    table = grouped_cells(np.asarray(size_factors), membership, n_threads)
    return Counts.of_block(gene_block(values), membership, table, n_threads)


def drawn_counts(seed: int, sizes: list[int], n_genes: int, spread: float = 0.5) -> Counts:
    """Draw negative binomial counts from rare to abundant, with an arm or two silent."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    s = np.exp(rng.normal(0, spread, labels.size))
    mean, alpha = np.exp(rng.normal(-0.5, 1.6, n_genes)), np.exp(rng.normal(-1, 1, n_genes))
    y = rng.poisson(s[:, None] * mean * rng.gamma(1 / alpha, alpha, (labels.size, n_genes)))
    y[labels == 1, 0] = 0
    y[labels == 0, 1] = 0
    y[:, 2] = 0
    return grouped_counts(y.astype(float), labels, s)


@st.composite
def small_counts(draw: Any) -> Counts:
    """Draw a few cells in two to four groups with any counts and very unequal size factors."""
    n_groups = draw(st.integers(2, 4))
    rest = draw(st.lists(st.integers(0, n_groups - 1), max_size=26))
    labels = np.array([*range(n_groups), *rest])
    n_genes = draw(st.integers(1, 3))
    count = st.sampled_from([0, 0, 0, 0, 1, 1, 2, 3, 8, 90])
    y = draw(st.lists(count, min_size=labels.size * n_genes, max_size=labels.size * n_genes))
    size = st.sampled_from([1.0, 0.5, 2.0, 0.13, 7.0, 1.37])
    s = draw(st.lists(size, min_size=labels.size, max_size=labels.size))
    values = np.array(y, dtype=draw(st.sampled_from([np.float32, np.float64])))
    return grouped_counts(values.reshape(labels.size, n_genes), labels, np.array(s))
