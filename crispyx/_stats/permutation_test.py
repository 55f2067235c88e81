"""Permutation tests of every perturbation for a block of genes, within batches or without.

Reference: ``reference.permutation_test``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from crispyx._kernels import permutation_test as kernel
from crispyx._stats.nb_coefficients import SMALLEST_DISPERSION
from crispyx._stats.nb_likelihood import CellTable, Counts
from crispyx._stats.score_test import batch_arms
from crispyx.settings import Engine
from reference.permutation_test import AT_A_TIME, ENOUGH, MOST_SETS, random_sets, rounds_up_to

__all__ = ["MOST_SETS", "permutation_pvalues"]


class _Sets(NamedTuple):
    """Random sets of one comparison: node weights, and the sets that hold each cell."""

    weights: np.ndarray
    first_cell: np.ndarray
    holder_ptr: np.ndarray
    holders: np.ndarray


def permutation_pvalues(
    counts: Counts,
    alpha: np.ndarray,
    n_batches: int,
    seed: int,
    engine: Engine,
    n_threads: int = 1,
    most: int = MOST_SETS,
) -> np.ndarray:
    """Return the p-values (n_groups - 1, n_genes) float64, NaN where nothing was tested.

    Parameters
    ----------
    counts, alpha, n_batches
        As in :func:`crispyx._stats.score_test.score_tests`.
    seed : int
        Of the random sets; they depend on it and on the numbers of cells alone.
    engine : {"compiled", "reference"}
        Which definition runs.
    n_threads : int
        Threads of the kernel.
    most : int
        Random sets of a test; only small p-values see more than 1,000.
    """
    alpha = np.maximum(alpha, SMALLEST_DISPERSION)
    out = np.full(alpha.shape, np.nan)
    for row in range(len(alpha)):
        genes = np.flatnonzero(np.isfinite(alpha[row]))
        if engine == "reference":
            from reference.permutation_test import permutation_pvalue

            for g in genes.tolist():
                pairs = batch_arms(counts, g, row + 1, n_batches)
                out[row, g], _ = permutation_pvalue(pairs, float(alpha[row, g]), seed, most)
        else:
            _fill_row(counts, row + 1, genes, alpha[row], n_batches, seed, n_threads, most, out)
    return out


def _fill_row(
    counts: Counts,
    group: int,
    genes: np.ndarray,
    alpha: np.ndarray,
    n_batches: int,
    seed: int,
    n_threads: int,
    most: int,
    out: np.ndarray,
) -> None:
    reached = np.zeros(len(genes), dtype=np.int64)
    n_sets = number = 0
    for wanted in rounds_up_to(most):
        for _ in range(wanted // AT_A_TIME):
            sets = _laid_out(counts.table, group, n_batches, seed, number)
            observed, found = np.empty(len(genes)), np.empty(len(genes), dtype=np.int64)
            kernel.count_reaching_sets(
                counts.values,
                counts.ranks,
                counts.run_ptr,
                *counts.table.arrays,
                n_batches,
                group,
                genes,
                alpha[genes],
                *sets,
                np.empty((n_threads, 4 * counts.table.rows.shape[1] + AT_A_TIME)),
                observed,
                found,
                n_threads,
            )
            reached += found
            number += 1
        n_sets += wanted
        pvalue = np.minimum(1, 2 * (1 + reached) / (1 + n_sets))
        out[group - 1, genes] = np.where(np.isfinite(observed), pvalue, np.nan)
        more = np.isfinite(observed) & (reached < ENOUGH)
        genes, reached = genes[more], reached[more]
        if not len(genes):
            break


def _laid_out(table: CellTable, group: int, n_batches: int, seed: int, number: int) -> _Sets:
    from scipy.sparse import csr_array

    n_nodes = table.rows.shape[1]
    weights = np.zeros((n_batches, AT_A_TIME, 2 * n_nodes))
    pointers: list[np.ndarray] = []
    holders: list[np.ndarray] = []
    first_cell: list[int] = []
    n_held = 0
    for b in range(n_batches):
        first_cell.append(sum(len(pointer) for pointer in pointers))
        control = b * (table.n_groups // n_batches)
        arms = [
            slice(table.cell_ptr[at], table.cell_ptr[at + 1]) for at in (control, control + group)
        ]
        n0, n1 = (arm.stop - arm.start for arm in arms)
        drawn = np.empty((AT_A_TIME, 0), dtype=np.int32)
        if n0 and n1:
            drawn = random_sets(n0, n1, AT_A_TIME, seed, number * n_batches + b)
        cells = drawn.ravel()
        rows = np.zeros((n0 + n1, 2 * n_nodes))
        rows[:n0, :n_nodes], rows[n0:, n_nodes:] = (table.rows[arm] for arm in arms)
        ends = np.arange(AT_A_TIME + 1) * drawn.shape[1]
        weights[b] = csr_array((np.ones(cells.size), cells, ends), (AT_A_TIME, n0 + n1)) @ rows
        pointer = np.concatenate([[0], np.cumsum(np.bincount(cells, minlength=n0 + n1))])
        pointers.append(pointer + n_held)
        order = np.argsort(cells, kind="stable")
        holders.append((order // max(drawn.shape[1], 1)).astype(np.int32))
        n_held += cells.size
    return _Sets(
        weights,
        np.array(first_cell, dtype=np.int64),
        np.concatenate(pointers).astype(np.int64),
        np.concatenate([*holders, np.zeros(1, dtype=np.int32)]),
    )
