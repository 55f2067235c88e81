"""Regression of a block of genes against reference.nb_regression."""

from __future__ import annotations

import numpy as np
import pytest

from crispyx._stats.nb_regression import (
    Scoring,
    dispersions_of_block,
    dispersions_of_groups,
    means_of_block,
    regress_block,
    standard_errors_of_block,
    start_of_block,
)
from reference import nb_regression as reference

RNG = np.random.default_rng(6)
N_CELLS, N_GENES = 70, 9
DESIGN = np.column_stack([np.ones(N_CELLS), np.arange(N_CELLS) % 2, RNG.normal(0, 1, N_CELLS)])
OFFSET = RNG.normal(0, 0.4, N_CELLS)
OWN_OFFSET = OFFSET + RNG.normal(0, 0.2, (N_GENES, N_CELLS))
ALPHA = np.exp(RNG.normal(-1, 1, N_GENES))
COUNTS = RNG.poisson(np.exp(RNG.normal(0.5, 1, (N_GENES, 1)) + OFFSET)).astype(float)
START = start_of_block(COUNTS, DESIGN, OFFSET)


@pytest.mark.parametrize("scoring", [Scoring(0.0, 1e-6, 40, 1e-9), Scoring(0.5, 1e-3, 40, 1e-9)])
@pytest.mark.parametrize("offset", [OFFSET, OWN_OFFSET], ids=["of cells", "of cells and genes"])
def test_a_block_is_fitted_as_gene_by_gene(offset: np.ndarray, scoring: Scoring) -> None:
    ours, defined = (
        regress_block(COUNTS, DESIGN, offset, ALPHA, START, scoring, engine)
        for engine in ("compiled", "reference")
    )
    np.testing.assert_allclose(ours.coefficients, defined.coefficients, atol=1e-9)
    np.testing.assert_array_equal(ours.iterations, defined.iterations)
    assert ours.converged.all()
    assert defined.converged.all()


def test_the_other_genes_of_a_block_change_no_digit() -> None:
    scoring = Scoring(0.5, 1e-6, 25, 1e-8)
    whole = regress_block(COUNTS, DESIGN, OFFSET, ALPHA, START, scoring, "compiled")
    for g in range(N_GENES):
        one = slice(g, g + 1)
        start = start_of_block(COUNTS[one], DESIGN, OFFSET)
        alone = regress_block(COUNTS[one], DESIGN, OFFSET, ALPHA[one], start, scoring, "compiled")
        np.testing.assert_array_equal(alone.coefficients, whole.coefficients[one])


def test_the_start_is_least_squares() -> None:
    expected = [reference.least_squares(y, DESIGN, OFFSET) for y in COUNTS]
    np.testing.assert_allclose(START, expected, rtol=1e-9)


def test_too_few_steps_are_reported() -> None:
    few = regress_block(
        COUNTS, DESIGN, OFFSET, ALPHA, START + 3, Scoring(0.0, 1e-6, 1, 1e-9), "compiled"
    )
    assert not few.converged.any()
    assert (few.iterations == 1).all()


def test_errors_and_dispersions_are_the_defined_ones() -> None:
    mu = means_of_block(DESIGN, OFFSET, START, 0.1)
    errors = standard_errors_of_block(DESIGN, mu, ALPHA, 1e-6)
    expected = [
        reference.standard_errors(DESIGN, m, a) for m, a in zip(mu, ALPHA.tolist(), strict=True)
    ]
    np.testing.assert_allclose(errors, expected)
    rough = dispersions_of_block(COUNTS, mu, DESIGN, "moments", 1e-8, 10)
    fine = dispersions_of_block(COUNTS, mu, DESIGN, "cox-reid", 1e-8, 10)
    assert (rough != fine).any()
    group = np.arange(N_CELLS) % 2
    grouped = dispersions_of_groups(COUNTS, mu, group, DESIGN[:, 2:], "cox-reid", 1e-8, 10)
    np.testing.assert_allclose(grouped, fine, rtol=1e-5, atol=1e-8)
