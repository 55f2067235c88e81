"""Every argument of the mixtures: what it does, where it belongs, what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from theory.mixture_screens import simulated_guides

import crispyx.guides as guides
from crispyx.errors import CrispyxWarning, InputError
from crispyx.settings import use_engine

COUNT_MODELS = ["poisson_gauss", "gauss", "poisson", "neg_binomial", "binomial"]
MODELS = [*COUNT_MODELS, "beta2", "beta3"]
RULES = ["umi", "max", "ratio", "quantiles"]


def as_screen(counts: Any) -> ad.AnnData:
    obs = pd.DataFrame(
        {"lane": np.arange(counts.shape[0]) % 2}, index=[f"c{i}" for i in range(counts.shape[0])]
    )
    var = pd.DataFrame(index=[f"g{j}" for j in range(counts.shape[1])])
    return ad.AnnData(X=sp.csr_matrix(counts), obs=obs, var=var)


def screen(seed: int = 0, n_cells: int = 400, n_guides: int = 4) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    depth = rng.lognormal(0, 0.4, n_cells)
    counts = rng.poisson(0.4 * depth[:, None], (n_cells, n_guides))
    carried = rng.random((n_cells, n_guides)) < 0.2
    signal = rng.negative_binomial(4, 4 / (4 + 50 * depth[:, None]), (n_cells, n_guides))
    return as_screen((counts + carried * signal).astype(np.int32))


# ---------------------------------------------------------------- what they do


@pytest.mark.parametrize("model", ["poisson", "neg_binomial", "binomial"])
def test_priors_of_the_depth_models_are_off_unless_given(model: str) -> None:
    default, off, on = (guides.score(screen(), model, priors=p) for p in (None, False, True))
    assert default.model_params["priors"] is off.model_params["priors"] is False
    pd.testing.assert_frame_equal(default.fits, off.fits, check_exact=True)
    # Without priors the objective is the likelihood, which they can only lower.
    assert np.array_equal(off.fits["objective"], off.fits["log_likelihood"])
    assert np.all(on.fits["log_likelihood"] < off.fits["log_likelihood"])
    with use_engine("reference"):
        defined = guides.score(screen(), model, priors=True)
    np.testing.assert_allclose(on.fits["objective"], defined.fits["objective"], rtol=1e-10)


@pytest.mark.filterwarnings("ignore:.*not_converged")
@pytest.mark.parametrize("model", MODELS)
def test_more_starts_are_never_worse(model: str) -> None:
    one, default = (guides.score(screen(), model, n_starts=n).fits for n in (1, None))
    assert np.all(one["n_iter"] < default["n_iter"])
    fitted = one["objective"].notna()
    # Both stop when a step is below 1e-10.
    assert np.all(default["objective"][fitted] >= one["objective"][fitted] - 1e-6)


@pytest.mark.parametrize("engine", ["compiled", "reference"])
@pytest.mark.parametrize("model", ["poisson_gauss", "gauss", "poisson", "beta2"])
def test_guides_still_moving_at_the_end_say_so(model: str, engine: str) -> None:
    with use_engine(engine), pytest.warns(CrispyxWarning, match="not_converged"):
        fits = guides.score(screen(), model, max_iterations=2).fits
    assert "not_converged" in set(fits["status"])
    assert (fits["fallback"] == "umi_count >= 5")[fits["status"] == "not_converged"].all()


@pytest.mark.parametrize("model", MODELS)
def test_looser_tolerance_stops_earlier(model: str) -> None:
    loose, default = (guides.score(screen(), model, tolerance=t).fits for t in (1e-2, None))
    assert loose["n_iter"].sum() < default["n_iter"].sum()
    assert set(loose["status"]) == {"ok"}


@pytest.mark.parametrize("model", COUNT_MODELS)
def test_both_engines_know_the_bic_against_one_component(model: str) -> None:
    compiled = guides.score(screen(), model).fits
    with use_engine("reference"):
        defined = guides.score(screen(), model).fits
    assert np.all(compiled["bic_difference"] > 0)
    np.testing.assert_allclose(
        compiled["bic_difference"], defined["bic_difference"], rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("engine", ["compiled", "reference"])
@pytest.mark.parametrize("model", ["poisson_gauss", "neg_binomial"])
def test_guide_of_one_component_falls_back_and_says_so(model: str, engine: str) -> None:
    rng = np.random.default_rng(4)
    counts = screen().X.toarray()
    # One kind of cell: log2 counts of one Normal, at a depth that does not vary.
    counts[:, 0] = np.round(2 ** rng.normal(6, 0.5, 400))
    if model == "neg_binomial":
        counts = np.column_stack([rng.negative_binomial(2, 2 / 7, 400), np.full(400, 60)])
        counts[:, 1] -= counts[:, 0]
    with use_engine(engine), pytest.warns(CrispyxWarning, match="no_separation"):
        calls = guides.assign(as_screen(counts), model)
    assert calls.var["status"].iloc[0] == "no_separation"
    assert calls.var["fallback"].iloc[0] == "umi_count >= 5"
    assert calls.var["n_cells_assigned"].iloc[0] == (counts[:, 0] >= 5).sum()


@pytest.mark.parametrize("model", ["beta2", "beta3"])
def test_cut_by_the_grid_calls_above_a_multiple_of_a_hundredth(model: str) -> None:
    data = as_screen(simulated_guides(3000, 30).counts)
    calls = guides.assign(data, model, cut="grid")
    threshold = calls.var["threshold"].iloc[0]
    assert 100 * threshold == pytest.approx(round(100 * threshold))
    counts = data.X.toarray()
    largest = counts.max(axis=1) / np.maximum(counts.sum(axis=1), 1)
    assert calls.obs["is_unassigned"].tolist() == (~(largest > threshold)).tolist()
    assert calls.uns["kaichi"]["model_params"]["cut"] == "grid"
    named, default = (guides.assign(data, model, cut=cut) for cut in ("last_crossing", None))
    pd.testing.assert_frame_equal(named.obs, default.obs)
    assert not calls.obs["is_unassigned"].equals(default.obs["is_unassigned"])


@pytest.mark.parametrize("model", MODELS)
def test_variant_exact_is_the_default(model: str) -> None:
    exact, default = (guides.score(screen(), model, variant=v) for v in ("exact", None))
    assert exact.log_odds.data.tobytes() == default.log_odds.data.tobytes()
    assert "variant" not in exact.model_params


def test_kaichi_calls_at_its_threshold_and_never_falls_back() -> None:
    counts = screen().X.toarray()
    counts[:, 3] = 0
    counts[5, 3] = 50
    with pytest.warns(CrispyxWarning, match="1 too_few"):
        calls = guides.assign(as_screen(counts), "poisson_gauss", variant="kaichi")
    params = calls.uns["kaichi"]["model_params"]
    assert params == {"min_confidence": 0.5, "variant": "kaichi"}
    assert calls.var["n_cells_assigned"].iloc[3] == 0
    assert (calls.var["fallback"] == "").all()
    with pytest.warns(CrispyxWarning, match="1 too_few"):
        scores = guides.score(as_screen(counts), "poisson_gauss", variant="kaichi")
    # At least the threshold, not above it.
    everything = guides.decide(scores, 0.0)
    assert not everything["is_unassigned"].to_numpy(False)[counts.any(axis=1)].any()


# ---------------------------------------------------------------- what they refuse


@pytest.mark.parametrize(
    "given",
    [
        {"n_starts": 3},
        {"tolerance": 1e-6},
        {"max_iterations": 10},
        {"batch_key": "lane"},
        {"variant": "kaichi"},
        {"priors": True},
        {"exposure": "crispat"},
        {"cut": "grid"},
    ],
    ids=str,
)
@pytest.mark.parametrize("model", RULES)
def test_rules_refuse_the_arguments_of_mixtures(model: str, given: dict) -> None:
    with pytest.raises(InputError, match=f"'{model}' does not use {next(iter(given))}"):
        guides.assign(screen(), model, **given)


@pytest.mark.parametrize("model", COUNT_MODELS)
def test_count_models_refuse_the_cut_of_beta_models(model: str) -> None:
    with pytest.raises(InputError, match=f"'{model}' does not use cut"):
        guides.assign(screen(), model, cut="grid")


@pytest.mark.parametrize(
    "given",
    [{"priors": True}, {"n_starts": 2}, {"batch_key": "lane"}, {"exposure": "crispat"}],
    ids=str,
)
def test_kaichi_has_no_arguments_but_the_threshold(given: dict) -> None:
    with pytest.raises(InputError, match="repeats what kaichi does"):
        guides.score(screen(), "poisson", variant="kaichi", **given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"min_cells_per_batch": 10}, "needs batch_key="),
        ({"cut": "grid", "min_confidence": 0.7}, "cut='grid' has no confidence"),
        ({"cut": "grid", "batch_key": "lane"}, "one proportion for the screen"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(given: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        guides.assign(screen(), "beta2", **given)


@pytest.mark.parametrize(
    "given",
    [
        {"n_starts": 0},
        {"n_starts": 33},
        {"n_starts": 1.5},
        {"tolerance": 0},
        {"tolerance": float("nan")},
        {"tolerance": 0.5},
        {"max_iterations": 0},
        {"max_iterations": True},
        {"batch_key": 3},
        {"batch_key": ""},
        {"min_cells_per_batch": 0},
        {"variant": "crispat"},
        {"min_confidence": -1},
        {"min_confidence": 1.5},
        {"min_confidence": float("nan")},
    ],
    ids=str,
)
def test_value_out_of_range_is_refused(given: dict) -> None:
    with pytest.raises(InputError, match=f"^{next(iter(given))} is "):
        guides.assign(screen(), "poisson", **given)


def test_beta_models_have_fewer_starts() -> None:
    with pytest.raises(InputError, match="n_starts is 9; give a whole number from 1 to 8"):
        guides.assign(screen(), "beta2", n_starts=9)


# ---------------------------------------------------------------- screens with truth


@pytest.mark.parametrize("model", [*COUNT_MODELS, "umi"])
def test_simulated_screen_is_called_as_it_was_made(model: str) -> None:
    data = simulated_guides(12_000, 120)
    assigned = guides.assign(as_screen(data.counts), model).layers["assigned"].astype(bool)
    right = assigned.multiply(data.carried).nnz
    # In cells without a guide, the depth models call ambient UMIs that are all of the depth.
    assert right / assigned.nnz > 0.9
    assert right / data.carried.nnz > 0.95


def test_gauss_does_not_take_one_umi_for_signal() -> None:
    rng = np.random.default_rng(2)
    # Ambient UMIs in a third of the cells, signal in one of a hundred.
    counts = rng.poisson(0.4, (20_000, 5))
    signal = rng.random(counts.shape) < 0.01
    counts = counts + signal * rng.negative_binomial(3, 3 / 63, counts.shape)
    calls = guides.assign(as_screen(counts.astype(np.int32)), "gauss")
    assert calls.var["threshold"].min() > 1
    assigned = calls.layers["assigned"].toarray().astype(bool)
    assert (assigned & signal).sum() / assigned.sum() > 0.95


# ---------------------------------------------------------------- a real screen


@pytest.mark.parametrize(
    ("model", "theirs", "their_objective"), [("beta2", 0.80, 52_028.0), ("beta3", 0.78, 52_163.4)]
)
def test_grid_is_near_that_of_crispat_with_a_better_objective(
    model: str, theirs: float, their_objective: float, data_dir: Path
) -> None:
    path = data_dir / "schraivogel_gRNA_counts.h5ad"
    grid, default = (guides.assign(path, model, cut=cut).var.iloc[0] for cut in ("grid", None))
    print(f"{model}: threshold {grid['threshold']:.2f}, crispat's {theirs}")
    print(f"{model}: log posterior {grid['objective']:.1f}, crispat's {their_objective}")
    # Both are multiples of 0.01 in floating point.
    assert grid["threshold"] == pytest.approx(theirs, abs=0.02 + 1e-9)
    assert default["threshold"] == pytest.approx(grid["threshold"], abs=0.01)
    # crispat's leaves out constants of the priors that lower ours by some 5 and 8.5.
    assert grid["objective"] > their_objective + 10


@pytest.mark.parametrize(
    ("model", "n_pairs", "tolerated"),
    [
        ("poisson_gauss", 24_569, 0),
        ("neg_binomial", 24_237, 0),
        ("beta2", 20_890, 0),
        ("beta3", 19_229, 0),
        ("gauss", 23_555, 50),
        ("binomial", 22_067, 80),
        # kaichi leaves two guides of 165 and 248 cells without any.
        ("poisson", 23_299 + 165 + 248, 2),
    ],
)
def test_variant_calls_as_many_pairs_as_kaichi(
    model: str, n_pairs: int, tolerated: int, data_dir: Path
) -> None:
    path = data_dir / "schraivogel_gRNA_counts.h5ad"
    calls = guides.assign(path, model, variant="kaichi")
    assert abs(int(calls.layers["assigned"].sum()) - n_pairs) <= tolerated
