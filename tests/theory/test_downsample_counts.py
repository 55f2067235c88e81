"""The definition of drawing molecules against the hypergeometric distribution."""

from __future__ import annotations

import numpy as np
from scipy.stats import chisquare, hypergeom

from reference.downsample_counts import downsampled, mixed

N = 3000


def test_generator_is_splitmix64() -> None:
    # First outputs from seed 1234567, as published with the generator.
    state, found = 1234567, []
    for _ in range(3):
        state = (state + 0x9E3779B97F4A7C15) & ((1 << 64) - 1)
        found.append(mixed(state))
    assert found == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_molecules_kept_of_a_gene_are_hypergeometric() -> None:
    counts = [4, 0, 3, 5]
    draws = np.array([downsampled(counts, 6, 0, cell) for cell in range(N)])
    assert (draws.sum(axis=1) == 6).all()
    assert (draws <= counts).all()
    for gene in (0, 2, 3):
        seen = np.bincount(draws[:, gene], minlength=counts[gene] + 1)
        expected = N * hypergeom(12, counts[gene], 6).pmf(np.arange(counts[gene] + 1))
        assert chisquare(seen, expected).pvalue > 1e-3  # the seed is fixed


def test_with_replacement_molecules_are_multinomial() -> None:
    draws = np.array([downsampled([1, 0, 3], 8, 0, cell, replace=True) for cell in range(N)])
    assert (draws.sum(axis=1) == 8).all()
    # Standard error of the mean of 24,000 draws: 0.0028.
    np.testing.assert_allclose(draws.sum(axis=0) / draws.sum(), [0.25, 0, 0.75], atol=0.01)


def test_a_cell_with_no_more_molecules_than_asked_for_stays_as_it_is() -> None:
    assert downsampled([2, 0, 1], 3, 0, 0).tolist() == [2, 0, 1]
    assert downsampled([0, 0], 3, 0, 0, replace=True).tolist() == [0, 0]
