"""kaichi's models: what they are, and the pairs kaichi 0.2.0 calls on a real screen."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit
from theory.mixture_screens import GuideScreen, schraivogel

from reference import depth_mixtures
from reference.kaichi_mixtures import (
    fit_kaichi,
    fit_kaichi_beta,
    fit_raw_poisson_gauss,
    log_odds_kaichi,
)
from reference.mixtures import MixtureFit

# Maximum of the log likelihood on the Schraivogel screen, of beta2 and beta3.
BETA_MAXIMUM = {"beta2": 52_055, "beta3": 52_200}


@pytest.fixture(scope="module")
def screen(data_dir: Path) -> GuideScreen:
    return schraivogel(data_dir)


def simulated(seed: int, n_cells: int = 800) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    depth = 20 + rng.poisson(20, n_cells)
    signal = rng.random(n_cells) < 0.2
    return rng.poisson(np.where(signal, 15, 0.5)), depth


def test_raw_poisson_gauss_is_at_a_maximum_of_its_likelihood() -> None:
    counts, _ = simulated(1)
    fit = fit_raw_poisson_gauss(counts)
    at = np.array(list(fit.parameters.values()))

    def likelihood(v):
        signal = math.log(v[0]) + stats.norm.logpdf(counts, v[1], v[2])
        return np.logaddexp(signal, math.log1p(-v[0]) + stats.poisson.logpmf(counts, v[3])).sum()

    assert fit.log_likelihood == pytest.approx(likelihood(at), rel=1e-11)
    for shift in 1e-5 * np.eye(4):
        slope = (likelihood(at + shift) - likelihood(at - shift)) / 2e-5
        # Central differences of step 1e-5; curvatures of up to 1e4 times a stop at 1e-8.
        assert abs(slope) < 1e-2


@pytest.mark.parametrize("model", ["poisson", "neg_binomial", "binomial"])
def test_depth_models_see_the_cells_with_the_guide_alone(model: str) -> None:
    counts, depth = simulated(2)
    have = counts > 0
    fit = getattr(depth_mixtures, f"fit_{model}")(counts[have], depth[have])
    assert fit_kaichi(model, counts, depth) == fit
    more = fit_kaichi(model, np.append(counts, [0] * 500), np.append(depth, [40] * 500))
    assert more == fit


def test_moments_of_the_beta_components_are_matched() -> None:
    rng = np.random.default_rng(3)
    x = np.where(rng.random(3000) < 0.4, rng.beta(4, 9, 3000), rng.beta(12, 1, 3000))
    p = fit_kaichi_beta("beta2", x).parameters
    x = np.clip(x, 1e-4, 0.9999)
    parts = [p[f"weight_{k}"] * stats.beta.pdf(x, p[f"a_{k}"], p[f"b_{k}"]) for k in (1, 2)]
    for k in (1, 2):
        r = parts[k - 1] / sum(parts)
        mean, variance = stats.beta.stats(p[f"a_{k}"], p[f"b_{k}"])
        # EM stops at a gain of 1e-6 in the log likelihood.
        assert mean == pytest.approx((r * x).sum() / r.sum(), abs=1e-3)
        assert variance == pytest.approx((r * (x - mean) ** 2).sum() / r.sum(), rel=2e-2)


@pytest.mark.parametrize("model", ["poisson_gauss", "poisson", "binomial"])
def test_guides_without_two_different_counts_are_not_fitted(model: str) -> None:
    assert fit_kaichi(model, [0, 7, 7], [9, 9, 9]) == MixtureFit(model, "no_separation")
    assert fit_kaichi(model, [0, 0, 0], [9, 9, 9]) == MixtureFit(model, "no_counts")


def called(screen: GuideScreen, model: str, least: float, guides: range) -> int:
    n = 0
    for guide in guides:
        counts = screen.counts[:, guide]
        fit = fit_kaichi(model, counts, screen.depth)
        have = counts > 0
        odds = log_odds_kaichi(counts[have], screen.depth[have], fit)
        n += int((expit(odds) >= least).sum())
    return n


def test_poisson_gauss_calls_are_those_of_kaichi(screen: GuideScreen) -> None:
    assert called(screen, "poisson_gauss", 0.5, range(86)) == 24_569


@pytest.mark.parametrize(("model", "n_calls"), [("beta2", 20_890), ("beta3", 19_229)])
def test_beta_calls_are_those_of_kaichi_and_far_from_the_maximum(
    screen: GuideScreen, model: str, n_calls: int
) -> None:
    have = screen.depth > 0
    x = np.clip(screen.counts.max(axis=1)[have] / screen.depth[have], 1e-4, 0.9999)
    fit = fit_kaichi_beta(model, x)
    p, k = fit.parameters, int(model[-1])
    parts = [
        p[f"weight_{j}"] * stats.beta.pdf(x, p[f"a_{j}"], p[f"b_{j}"]) for j in range(1, k + 1)
    ]
    assert int((parts[-1] / sum(parts) >= 0.5).sum()) == n_calls
    assert fit.log_likelihood < BETA_MAXIMUM[model] - 1_000
