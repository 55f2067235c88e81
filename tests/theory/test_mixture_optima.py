"""No bounded optimizer of SciPy finds a better admissible fit, on any guide of a real screen."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from theory.mixture_screens import schraivogel, scipy_maximum
from theory.test_depth_mixtures import objective_of as depth_objective
from theory.test_histogram_mixtures import gauss_objective, poisson_gauss_objective

import crispyx.guides as guides

pytestmark = pytest.mark.slow
N_GUIDES = 86


def objectives(data_dir: Path, model: str, **given: bool) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # every guide has a reliable fit
        fits = guides.score(data_dir / "schraivogel_gRNA_counts.h5ad", model, **given).fits
    return fits["objective"].to_numpy()


@pytest.mark.parametrize("priors", [False, True])
@pytest.mark.parametrize("model", ["poisson", "neg_binomial", "binomial"])
def test_depth_models_are_at_their_maximum(data_dir: Path, model: str, priors: bool) -> None:
    screen = schraivogel(data_dir)
    starts = [(-4.6, -4, 3), (-3, -8, 7), (-4, -6, 4)]
    bounds = [(-20, 20), (-24, 5), (1e-5, 25)]
    if model == "neg_binomial":
        starts = [(*start, 1.6) for start in starts]
        bounds.append((math.log(0.01), math.log(1e4)))
    ours = objectives(data_dir, model, priors=priors)
    for guide in range(N_GUIDES):
        objective = depth_objective(model, screen.counts[:, guide], screen.depth, priors)
        best = scipy_maximum(objective, starts, bounds, lambda v: True)
        assert ours[guide] >= best - 1e-6


@pytest.mark.parametrize("priors", [False, True])
def test_poisson_gauss_is_at_its_maximum(data_dir: Path, priors: bool) -> None:
    screen = schraivogel(data_dir)
    starts = [(-1, -2, 4, 0), (0, 0, 6, 0), (1, -1, 5, 0.5), (0, -3, 2, 0), (-3, 0.5, 8, -0.3)]
    bounds = [(-20.7, 20.7), (-13.8, 5), (-10, 20), (math.log(0.5), 5)]
    ours = objectives(data_dir, "poisson_gauss", priors=priors)
    for guide in range(N_GUIDES):
        objective, admissible = poisson_gauss_objective(screen.counts[:, guide], priors)
        best = scipy_maximum(objective, starts, bounds, admissible)
        assert ours[guide] >= best - 1e-6


def test_gauss_is_at_its_maximum(data_dir: Path) -> None:
    screen = schraivogel(data_dir)
    starts = [(-4, 0, 1.5, -2), (-3, 0, 1, -1), (-2, 0.1, 2, -3)]
    bounds = [(-20, 20), (-1, 4), (-1, 4), (math.log(1e-3), 3)]
    ours = objectives(data_dir, "gauss")
    for guide in range(N_GUIDES):
        objective = gauss_objective(screen.counts[:, guide])
        best = scipy_maximum(objective, starts, bounds, lambda v: v[2] > v[1])
        assert ours[guide] >= best - 1e-6
