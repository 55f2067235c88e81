"""The compiled score tests against reference.score_test."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from grouped_counts import drawn_counts, grouped_counts, small_counts
from hypothesis import given, settings
from hypothesis import strategies as st

from crispyx._stats.nb_likelihood import Counts
from crispyx._stats.score_test import ScoreTests, score_tests


def log_p(root: np.ndarray) -> np.ndarray:
    from scipy.special import log_ndtr

    return np.log(2) + log_ndtr(-np.abs(root))


def assert_same(compiled: ScoreTests, defined: ScoreTests, tolerance: float) -> None:
    for name in (f.name for f in fields(ScoreTests)):
        a, b = getattr(compiled, name), getattr(defined, name)
        if name == "root":
            a, b = log_p(a), log_p(b)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("n_batches", [1, 2, 4])
def test_compiled_tests_are_the_defined_ones(n_batches: int) -> None:
    counts = drawn_counts(5, [120, 40, 12, 5], 14)
    if n_batches > 1:
        counts = drawn_counts(5, [60, 14, 5] * n_batches, 14)
    n_groups = counts.table.n_groups // n_batches
    alpha = np.exp(np.random.default_rng(0).normal(-1, 1.5, (n_groups - 1, 14)))
    alpha[1, 5] = np.nan
    compiled, defined = (
        score_tests(counts, alpha, n_batches, e) for e in ("compiled", "reference")
    )
    # Node sums have about 13 digits; a root near its normal limit loses half of the rest.
    assert_same(compiled, defined, 1e-8)
    assert np.isnan(compiled.root[1, 5])
    assert np.isfinite(compiled.root[0, [0, 1, *range(3, 14)]]).all()


@settings(max_examples=60, deadline=None)
@given(small_counts(), st.floats(-8, 4))
def test_any_counts_are_tested_as_defined(counts: Counts, log_alpha: float) -> None:
    alpha = np.full((counts.table.n_groups - 1, counts.n_genes), np.exp(log_alpha))
    compiled, defined = (score_tests(counts, alpha, 1, e) for e in ("compiled", "reference"))
    assert_same(compiled, defined, 1e-6)


@pytest.mark.parametrize("fold", [0.01, 5, 40, 400])
def test_strong_effects_keep_their_digits(fold: float) -> None:
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1, 2], [900, 60, 7])
    s = np.exp(rng.normal(0, 0.6, labels.size))
    mean = np.array([0.02, 0.3, 3.0, 40.0])
    mu = s[:, None] * mean * np.where(labels > 0, fold, 1)[:, None]
    y = rng.poisson(mu * rng.gamma(2, 0.5, mu.shape)).astype(float)
    counts = grouped_counts(y, labels, s)
    for alpha in (1e-9, 0.05, 0.5, 5.0):
        table = np.full((2, 4), alpha)
        compiled, defined = (score_tests(counts, table, 1, e) for e in ("compiled", "reference"))
        assert_same(compiled, defined, 1e-8)
