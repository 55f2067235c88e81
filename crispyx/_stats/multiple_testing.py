"""Correction of p-values, row by row.

Reference: ``reference.multiple_testing``.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from crispyx.settings import Engine

Correction = Literal["benjamini-hochberg", "bonferroni"]
CORRECTIONS = get_args(Correction)
Scope = Literal["perturbation", "screen"]
SCOPES = get_args(Scope)


def adjust(pvalues: np.ndarray, method: Correction, scope: Scope, engine: Engine) -> np.ndarray:
    """Return adjusted p-values (n_groups, n_genes), row by row or over the whole table."""
    rows = pvalues.reshape(1, -1) if scope == "screen" else pvalues
    return adjust_rows(rows, method, engine).reshape(pvalues.shape)


def adjust_rows(pvalues: np.ndarray, method: Correction, engine: Engine) -> np.ndarray:
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
    order = np.argsort(pvalues, axis=1)  # NaN last
    # Beyond the last test the values are NaN: they must not reach the running minimum.
    scaled = np.take_along_axis(pvalues, order, axis=1)
    scaled *= n_tests / np.arange(1, pvalues.shape[1] + 1)
    missing = np.isnan(scaled)
    scaled[missing] = np.inf
    smallest = np.minimum.accumulate(scaled[:, ::-1], axis=1)[:, ::-1]
    np.minimum(smallest, 1, out=smallest)
    smallest[missing] = np.nan
    adjusted = np.empty_like(pvalues)
    np.put_along_axis(adjusted, order, smallest, axis=1)
    return adjusted
