"""Compiled fits of poisson, neg_binomial and binomial against their definition."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from crispyx._stats.depth_mixtures import fit_depth
from crispyx._stats.mixtures import GuideColumns

MODELS = ["poisson", "neg_binomial", "binomial"]


def simulated(seed: int, n_cells: int = 300, n_guides: int = 3) -> np.ndarray:
    """Return counts of guides by cell: ambient ones and one or no guide a cell."""
    rng = np.random.default_rng(seed)
    depth = rng.lognormal(0, 0.4, n_cells)
    counts = rng.poisson(0.3 * depth[:, None], (n_cells, n_guides))
    guide = rng.integers(0, n_guides + 1, n_cells)
    carries = guide < n_guides
    counts[carries, guide[carries]] += rng.negative_binomial(3, 3 / (3 + 40 * depth[carries]))
    return counts


def columns_of(dense: np.ndarray) -> GuideColumns:
    matrix = sp.csc_matrix(dense)
    ptr = matrix.indptr.astype(np.int64)
    return GuideColumns(dense.shape[0], ptr, matrix.indices, matrix.data.astype(np.int64))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_fits_are_those_of_the_reference(model: str, seed: int) -> None:
    counts = simulated(seed, n_guides=2)
    columns, depth = columns_of(counts), counts.sum(axis=1)
    compiled = fit_depth(columns, depth, model, "compiled")
    defined = fit_depth(columns, depth, model, "reference")
    assert compiled.status.tolist() == defined.status.tolist()
    # Both climb until a step is below 1e-10; the objective is flat there.
    np.testing.assert_allclose(compiled.objective, defined.objective, rtol=1e-9)
    np.testing.assert_allclose(compiled.parameters, defined.parameters, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(compiled.log_odds, defined.log_odds, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model", ["poisson", "neg_binomial"])
def test_exposure_of_crispat_changes_the_log_odds_alone(model: str) -> None:
    counts = simulated(4)
    columns, depth = columns_of(counts), counts.sum(axis=1)
    ours = fit_depth(columns, depth, model, "compiled")
    crispat = fit_depth(columns, depth, model, "compiled", exposure="crispat")
    defined = fit_depth(columns, depth, model, "reference", exposure="crispat")
    assert np.array_equal(ours.parameters, crispat.parameters)
    assert not np.allclose(ours.log_odds, crispat.log_odds)
    np.testing.assert_allclose(crispat.log_odds, defined.log_odds, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_threads_do_not_change_a_bit(model: str) -> None:
    counts = simulated(1, n_guides=20)
    columns, depth = columns_of(counts), counts.sum(axis=1)
    one, two = (fit_depth(columns, depth, model, "compiled", n) for n in (1, 2))
    for name in ("parameters", "objective", "n_iterations", "log_odds", "bic_difference"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes()


@pytest.mark.parametrize("model", MODELS)
def test_order_of_cells_does_not_matter(model: str) -> None:
    counts = simulated(9)
    order = np.random.default_rng(0).permutation(len(counts))
    fits, shuffled = (
        fit_depth(columns_of(x), x.sum(axis=1), model, "compiled") for x in (counts, counts[order])
    )
    assert fits.parameters.tobytes() == shuffled.parameters.tobytes()


def test_cells_without_guide_umis_tell_the_binomial_nothing() -> None:
    counts = simulated(6)
    more = np.vstack([counts, np.zeros((500, counts.shape[1]), dtype=counts.dtype)])
    fits, padded = (
        fit_depth(columns_of(x), x.sum(axis=1), "binomial", "compiled") for x in (counts, more)
    )
    assert fits.parameters.tobytes() == padded.parameters.tobytes()
    assert fits.bic_difference.tobytes() == padded.bic_difference.tobytes()


@pytest.mark.parametrize("model", MODELS)
def test_two_components_beat_one_where_there_are_two(model: str) -> None:
    counts = simulated(8, n_cells=1000)
    fits = fit_depth(columns_of(counts), counts.sum(axis=1), model, "compiled")
    assert np.all(fits.bic_difference > 0)


def test_a_guide_of_one_component_has_a_bic_against_two() -> None:
    rng = np.random.default_rng(3)
    counts = rng.negative_binomial(2, 2 / 7, (2000, 3))
    fits = fit_depth(columns_of(counts), np.full(2000, 50), "neg_binomial", "compiled")
    fitted = np.isfinite(fits.bic_difference)
    assert np.all(fits.bic_difference[fitted] < 0)
