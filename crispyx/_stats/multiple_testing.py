"""Correction of p-values, row by row.

Reference: ``reference.multiple_testing``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, get_args

import numpy as np

from crispyx._kernels import multiple_testing as kernel
from crispyx._run.workers import in_parallel
from crispyx.settings import Engine

Correction = Literal["benjamini-hochberg", "bonferroni"]
CORRECTIONS = get_args(Correction)
Scope = Literal["perturbation", "screen"]
SCOPES = get_args(Scope)


def adjust(
    pvalues: np.ndarray, method: Correction, scope: Scope, engine: Engine, n_threads: int = 1
) -> np.ndarray:
    """Return adjusted p-values (n_groups, n_genes), row by row or over the whole table."""
    rows = pvalues.reshape(1, -1) if scope == "screen" else pvalues
    return adjust_rows(rows, method, engine, n_threads).reshape(pvalues.shape)


def adjust_rows(
    pvalues: np.ndarray, method: Correction, engine: Engine, n_threads: int = 1
) -> np.ndarray:
    """Return adjusted p-values of each row (n_rows, n_tests); NaN is no test and stays NaN."""
    if engine == "reference":
        import reference.multiple_testing

        correct = {
            "benjamini-hochberg": reference.multiple_testing.benjamini_hochberg,
            "bonferroni": reference.multiple_testing.bonferroni,
        }[method]
        return np.array([correct(row) for row in pvalues]).reshape(pvalues.shape)
    n_tests = np.count_nonzero(np.isfinite(pvalues), axis=1)[:, None]
    if method == "bonferroni":
        return np.minimum(pvalues * n_tests, 1)
    adjusted = np.empty(pvalues.shape)
    pvalues = np.ascontiguousarray(pvalues)
    order = np.empty(pvalues.shape, dtype=np.int64)

    def rank(rows: slice) -> None:
        order[rows] = np.argsort(pvalues[rows], axis=1)

    edges = np.linspace(0, len(pvalues), n_threads + 1).astype(int)
    in_parallel(rank, [slice(*pair) for pair in pairwise(edges.tolist())])
    kernel.step_up(pvalues, order, adjusted, n_threads)
    return adjusted


def adjust_logs(
    log_pvalues: np.ndarray, method: Correction, scope: Scope, engine: Engine
) -> np.ndarray:
    """Return logs of adjusted p-values (n_groups, n_genes), as :func:`adjust`, from logs."""
    rows = log_pvalues.reshape(1, -1) if scope == "screen" else log_pvalues
    if engine == "reference":
        import reference.multiple_testing

        correct = {
            "benjamini-hochberg": reference.multiple_testing.log_benjamini_hochberg,
            "bonferroni": reference.multiple_testing.log_bonferroni,
        }[method]
        return np.array([correct(row) for row in rows]).reshape(log_pvalues.shape)
    untested = np.isnan(rows)
    n_tests = np.maximum(np.count_nonzero(~untested, axis=1), 1)[:, None]
    if method == "bonferroni":
        return np.minimum(rows + np.log(n_tests), 0).reshape(log_pvalues.shape)
    adjusted = np.empty(rows.shape)
    log_ranks = np.log(np.arange(1, rows.shape[1] + 1))
    for found, row, m, skipped in zip(adjusted, rows, n_tests, untested, strict=True):
        order = np.argsort(row)  # NaN last
        steps = np.where(skipped[order], np.inf, row[order] + np.log(m) - log_ranks)
        found[order] = np.minimum(np.minimum.accumulate(steps[::-1])[::-1], 0)
    adjusted[untested] = np.nan
    return adjusted.reshape(log_pvalues.shape)
