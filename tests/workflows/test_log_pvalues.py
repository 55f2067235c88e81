"""p-values too small for a number keep their logarithm, whatever test they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.special import log_ndtr

import crispyx as cx

SMALLEST = np.log(np.finfo(np.float64).smallest_subnormal)
WILCOXON: dict[str, dict[str, Any]] = {"ranks": {}, "ranks within": {"batch_column": "batch"}}
COUNTS: dict[str, dict[str, Any]] = {
    "Wald": {},
    "Wald beside": {"covariates": ["batch"]},
    "likelihood ratio": {"test": "lrt"},
    "likelihood ratio beside": {"test": "lrt", "covariates": ["batch"]},
    "score": {"preset": "calibrated"},
    "score within": {"preset": "calibrated", "batch_column": "batch"},
    "score beside": {"preset": "calibrated", "covariates": ["batch"]},
}


@pytest.fixture(scope="module")
def screen() -> anndata.AnnData:
    """Return counts whose first two genes rise, far and farther, in the perturbed cells."""
    rng = np.random.default_rng(8)
    labels = np.repeat(["ctrl", "A"], [3000, 1500])
    mean = np.full((len(labels), 12), 2.0)
    mean[labels == "A", :2] = [40.0, 90.0]
    counts = rng.poisson(mean).astype(np.float32)
    obs = pd.DataFrame(
        {"perturbation": labels, "batch": rng.choice(["x", "y"], len(labels))},
        index=[f"c{i}" for i in range(len(labels))],
    )
    return anndata.AnnData(sp.csr_matrix(counts), obs=obs)


def require_kept(result: Any) -> None:
    logs, p = result.log_pvalues[0], result.pvalues[0]
    assert (p[:2] == 0).all()
    assert (logs[:2] < SMALLEST).all()
    assert np.isfinite(logs).all()
    np.testing.assert_allclose(logs[2:], np.log(p[2:]), rtol=1e-9, atol=1e-12)
    z = np.abs(result.statistics[0])
    np.testing.assert_allclose(logs, np.log(2) + log_ndtr(-z), rtol=1e-6, atol=1e-6)
    assert (result.log_pvalues_adj[0][:2] >= logs[:2]).all()


@pytest.mark.parametrize("options", WILCOXON.values(), ids=WILCOXON)
@pytest.mark.filterwarnings("ignore:.*holds counts")
def test_rank_tests_keep_logarithms(options: dict, screen: Any, tmp_path: Path) -> None:
    path = tmp_path / "result.h5ad"
    require_kept(
        cx.wilcoxon_test(screen, perturbation_column="perturbation", output_path=path, **options)
    )


@pytest.mark.parametrize("options", COUNTS.values(), ids=COUNTS)
@pytest.mark.filterwarnings("ignore::crispyx.errors.CrispyxWarning")
def test_negative_binomial_tests_keep_logarithms(
    options: dict, screen: Any, tmp_path: Path
) -> None:
    path = tmp_path / "result.h5ad"
    result = cx.nb_glm_test(
        screen,
        perturbation_column="perturbation",
        size_factors=np.ones(screen.n_obs),
        output_path=path,
        **options,
    )
    require_kept(result)
    farther, far = result.log_pvalues[0][1], result.log_pvalues[0][0]
    assert farther < far  # ranks end where no value overlaps, the models do not


def test_permutations_end_at_the_smallest_share_that_they_can_show(
    screen: Any, tmp_path: Path
) -> None:
    result = cx.nb_glm_test(
        screen,
        perturbation_column="perturbation",
        size_factors=np.ones(screen.n_obs),
        test="permutation",
        most_sets=1_000,
        output_path=tmp_path / "result.h5ad",
    )
    np.testing.assert_allclose(result.log_pvalues[0][:2], np.log(2 / 1001), rtol=1e-9)
