"""Compiled fits of beta2 and beta3 against their definition."""

from __future__ import annotations

import numpy as np
import pytest

from crispyx._stats.beta_mixtures import fit_beta

MODELS = ["beta2", "beta3"]


def simulated(seed: int, n_cells: int = 1500) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest guide count and the depth of cells with one guide, with two, with none."""
    rng = np.random.default_rng(seed)
    depth = 1 + rng.negative_binomial(3, 3 / 60, n_cells)
    share = np.choose(
        rng.choice(3, n_cells, p=[0.1, 0.2, 0.7]),
        [rng.beta(4, 8, n_cells), rng.beta(20, 18, n_cells), rng.beta(15, 0.6, n_cells)],
    )
    return np.maximum(rng.binomial(depth, share), 1), depth


@pytest.mark.parametrize("priors", [True, False])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("seed", [0, 1])
def test_fits_are_those_of_the_reference(model: str, seed: int, priors: bool) -> None:
    largest, depth = simulated(seed)
    compiled = fit_beta(largest, depth, model, "compiled", priors=priors)
    defined = fit_beta(largest, depth, model, "reference", priors=priors)
    assert compiled.status == defined.status == "ok"
    # The compiled fit has more starts; it may only be better.
    assert compiled.objective >= defined.objective - 1e-9 * abs(defined.objective)
    if compiled.objective == pytest.approx(defined.objective, rel=1e-9):
        for name, value in defined.parameters.items():
            assert compiled.parameters[name] == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("model", MODELS)
def test_log_odds_never_fall_with_the_proportion(model: str) -> None:
    largest, depth = simulated(2)
    fit = fit_beta(largest, depth, model, "compiled")
    order = np.argsort(largest / depth, kind="stable")
    assert np.all(np.diff(fit.log_odds[order]) >= 0)
    assert fit.log_odds.max() > 0 > fit.log_odds.min()


@pytest.mark.parametrize("engine", ["compiled", "reference"])
@pytest.mark.parametrize("model", MODELS)
def test_cells_that_do_not_fall_apart_have_no_fit(model: str, engine: str) -> None:
    rng = np.random.default_rng(5)
    depth = np.full(400, 1000)
    fit = fit_beta(rng.binomial(1000, rng.beta(40, 2, 400)), depth, model, engine)
    assert fit.status == "no_separation"
    assert np.isnan(fit.log_odds).all()


@pytest.mark.parametrize("model", MODELS)
def test_cells_without_guide_umis_are_left_out(model: str) -> None:
    largest, depth = simulated(3)
    fit = fit_beta(largest, depth, model, "compiled")
    padded = fit_beta(np.append(largest, 0), np.append(depth, 0), model, "compiled")
    assert padded.parameters == fit.parameters
    assert np.isnan(padded.log_odds[-1])
