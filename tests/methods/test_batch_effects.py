"""Compiled fits with batch effects against their definition."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import reference.depth_mixtures as reference
from crispyx._stats.batch_effects import fit_batch_effects
from crispyx._stats.depth_mixtures import fit_depth
from crispyx._stats.mixtures import GuideColumns

MODELS = ["poisson", "neg_binomial", "binomial"]
FIT = {
    "poisson": reference.fit_poisson,
    "neg_binomial": reference.fit_neg_binomial,
    "binomial": reference.fit_binomial,
}


def simulated(
    seed: int, n_batches: int = 3, n_cells: int = 500, n_guides: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Return counts, cells x guides, with one or no guide a cell, and the batch of each cell."""
    rng = np.random.default_rng(seed)
    batch = rng.integers(0, n_batches, n_cells)
    depth = rng.lognormal(0, 0.4, n_cells)
    ambient = 0.3 * np.exp(rng.normal(0, 0.7, n_batches))[batch]
    counts = rng.poisson((ambient * depth)[:, None], (n_cells, n_guides))
    guide = rng.integers(0, n_guides + 2, n_cells)
    carries = guide < n_guides
    counts[carries, guide[carries]] += rng.negative_binomial(3, 3 / (3 + 40 * depth[carries]))
    return counts, batch


def columns_of(dense: np.ndarray) -> GuideColumns:
    matrix = sp.csc_matrix(dense)
    ptr = matrix.indptr.astype(np.int64)
    return GuideColumns(dense.shape[0], ptr, matrix.indices, matrix.data.astype(np.int64))


@pytest.mark.parametrize("model", MODELS)
@given(seed=st.integers(0, 10_000), n_batches=st.integers(1, 5), priors=st.booleans())
@settings(max_examples=4, deadline=None)
def test_fits_are_those_of_the_reference(
    model: str, seed: int, n_batches: int, priors: bool
) -> None:
    counts, batch = simulated(seed, n_batches, n_cells=150)
    columns, depth = columns_of(counts), counts.sum(axis=1)
    compiled, defined = (
        fit_batch_effects(columns, depth, batch, model, engine, priors=priors)
        for engine in ("compiled", "reference")
    )
    assert compiled.fits.status.tolist() == defined.fits.status.tolist()
    # Both climb until a step is below 1e-10; the objective is flat there.
    for name, rtol, atol in (
        ("objective", 1e-9, 0),
        ("log_likelihood", 1e-7, 0),
        ("bic_difference", 1e-6, 1e-6),
        ("parameters", 1e-5, 1e-8),
        ("log_odds", 1e-4, 1e-4),
    ):
        ours, theirs = getattr(compiled.fits, name), getattr(defined.fits, name)
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol, err_msg=name)
    np.testing.assert_allclose(compiled.effects, defined.effects, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_one_batch_with_priors_is_the_fit_with_priors(model: str) -> None:
    counts, batch = simulated(1, 1)
    depth = counts.sum(axis=1)
    found = fit_batch_effects(columns_of(counts), depth, batch, model, "compiled", priors=True)
    for guide in range(2):
        fit = FIT[model](counts[:, guide], depth, priors=True)
        # Both climb until a step is below 1e-10; the objective is flat there.
        assert found.fits.objective[guide] == pytest.approx(fit.objective, rel=1e-10)
        assert found.fits.log_likelihood[guide] == pytest.approx(fit.log_likelihood, rel=1e-8)


@pytest.mark.parametrize("model", MODELS)
def test_threads_do_not_change_a_bit(model: str) -> None:
    counts, batch = simulated(2, 4, n_guides=12)
    columns, depth = columns_of(counts), counts.sum(axis=1)
    one, two = (fit_batch_effects(columns, depth, batch, model, "compiled", n) for n in (1, 2))
    assert one.effects.tobytes() == two.effects.tobytes()
    for name in ("parameters", "objective", "n_iterations", "log_odds", "bic_difference"):
        assert getattr(one.fits, name).tobytes() == getattr(two.fits, name).tobytes()


@pytest.mark.parametrize("model", MODELS)
def test_order_of_cells_and_names_of_batches_do_not_matter(model: str) -> None:
    counts, batch = simulated(3)
    order = np.random.default_rng(0).permutation(len(counts))
    depth = counts.sum(axis=1)
    fits = fit_batch_effects(columns_of(counts), depth, batch, model, "compiled")
    shuffled = fit_batch_effects(
        columns_of(counts[order]), depth[order], batch[order], model, "compiled"
    )
    assert fits.effects.tobytes() == shuffled.effects.tobytes()
    renamed = fit_batch_effects(columns_of(counts), depth, 2 - batch, model, "compiled")
    # The sums run in another order.
    np.testing.assert_allclose(renamed.effects[:, ::-1], fits.effects, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("model", MODELS)
def test_batch_effects_never_lower_the_objective(model: str) -> None:
    counts, batch = simulated(4)
    columns, depth = columns_of(counts), counts.sum(axis=1)
    pooled = fit_depth(columns, depth, model, "compiled")
    with_batches = fit_batch_effects(columns, depth, batch, model, "compiled").fits
    assert np.all(with_batches.objective > pooled.objective)
    none = fit_batch_effects(columns, depth, np.zeros_like(batch), model, "compiled").fits
    np.testing.assert_allclose(none.objective, pooled.objective, rtol=1e-11)


@pytest.mark.parametrize("model", MODELS)
def test_many_batches_converge(model: str) -> None:
    counts, batch = simulated(5, 60, n_cells=3000)
    fits = fit_batch_effects(columns_of(counts), counts.sum(axis=1), batch, model, "compiled")
    assert fits.fits.status.tolist() == ["ok", "ok"]
    assert fits.effects.shape == (2, 60)
    np.testing.assert_allclose(fits.effects.mean(axis=1), 0, atol=1e-8)
