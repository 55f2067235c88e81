"""Which comparisons the compiled engine judges, against judging all of them."""

from __future__ import annotations

import numpy as np
import pytest
from grouped_counts import grouped_counts

from crispyx._stats.cooks import outlying_pairs
from crispyx._stats.nb_coefficients import Fitting, fit_coefficients

FITTING = Fitting(True, "least_squares", 0.5, 250, 1e-8, True)


@pytest.mark.parametrize("seed", range(4))
def test_the_bound_misses_no_outlier(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1, 2], [60, 12, 5])
    s = np.exp(rng.normal(0, 0.4, 77))
    y = rng.poisson(s[:, None] * np.exp(rng.normal(0, 1, 30))).astype(float)
    for gene in range(0, 30, 3):
        y[rng.integers(77), gene] += rng.integers(3, 200)
    counts, alpha = grouped_counts(y, labels, s), np.full((2, 30), 0.2)
    fits = fit_coefficients(counts, alpha, FITTING, "compiled")
    judged, all_of_them = (
        list(outlying_pairs(counts, alpha, fits, 0.5, engine))
        for engine in ("compiled", "reference")
    )
    assert len(judged) > 3
    assert [(p.group, p.gene, p.withheld) for p in judged] == [
        (p.group, p.gene, p.withheld) for p in all_of_them
    ]


def test_replaced_counts_settle_a_large_arm() -> None:
    y = np.tile(np.arange(40) % 3 + 2.0, (2, 1)).T
    y[33, 1] = 700
    labels = np.repeat([0, 1], [28, 12])
    counts, alpha = grouped_counts(y, labels, np.ones(40)), np.full((1, 2), 0.05)
    fits = fit_coefficients(counts, alpha, FITTING, "compiled")
    (pair,) = outlying_pairs(counts, alpha, fits, 0.5, "compiled")
    assert (pair.group, pair.gene) == (0, 1)
    assert (pair.withheld, pair.withheld_after_refit) == (True, False)
    assert sorted(pair.perturbed.counts)[-1] <= 4
