"""The fitters and functions of crispyx.glm: what they return, and that they agree."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from layouts import write_h5ad

import crispyx.glm
from crispyx.errors import CrispyxWarning, InputError, MissingColumnError
from crispyx.glm import (
    NBGLMBatchFitter,
    NBGLMBatchResult,
    NBGLMFitter,
    build_design_matrix,
    compute_cooks_distance_batch,
    estimate_covariate_effects_streaming,
    estimate_dispersion_map,
    estimate_global_dispersion_streaming,
    filter_outliers_cooks,
    fit_dispersion_trend,
    precompute_control_statistics,
    precompute_control_statistics_streaming,
    precompute_global_dispersion,
    precompute_global_dispersion_from_path,
    shrink_dispersions,
    shrink_lfc_apeglm,
    shrink_lfc_apeglm_from_stats,
)
from reference import nb_regression
from reference.dispersion import genewise_dispersion, largest_dispersion, within_group_moments
from reference.nb_coefficients import Arm, best_log_mean

RNG = np.random.default_rng(33)
N_CONTROL, N_PERTURBED, N_GENES = 50, 22, 8
N_CELLS = N_CONTROL + N_PERTURBED
ARM = np.repeat([0, 1], [N_CONTROL, N_PERTURBED])
TWO = np.column_stack([np.ones(N_CELLS), ARM])
BATCH = np.arange(N_CELLS) % 3
MANY = np.column_stack([TWO, BATCH == 1, BATCH == 2]).astype(float)
OFFSET = RNG.normal(0, 0.4, N_CELLS)
SIZES = np.exp(OFFSET)
MEANS = np.exp(RNG.normal(0.5, 1.0, N_GENES))
MU = SIZES[:, None] * MEANS * np.exp(np.outer(ARM, RNG.normal(0, 0.6, N_GENES)))
COUNTS = RNG.poisson(MU * RNG.gamma(2, 0.5, MU.shape)).astype(float)
COUNTS[:, 3] = 0
COUNTS[ARM == 1, 4] = 0
LABELS = np.where(ARM == 1, "MYC", "control")
OBS = pd.DataFrame(
    {"batch": np.array(["a", "b", "c"])[BATCH]}, index=[f"c{i}" for i in range(N_CELLS)]
)


def same(one: NBGLMBatchResult, two: NBGLMBatchResult, rtol: float = 0.0) -> None:
    for name in ("coef", "se", "dispersion", "converged", "deviance"):
        np.testing.assert_allclose(
            getattr(one, name), getattr(two, name), rtol=rtol, atol=rtol, err_msg=name
        )


MODULES = [m.name for m in pkgutil.iter_modules(crispyx.glm.__path__, "crispyx.glm.")]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_every_function_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples() -> None:
    modules = [importlib.import_module(name) for name in MODULES]
    finder = doctest.DocTestFinder()
    assert sum(len(case.examples) for m in modules for case in finder.find(m)) > 50


@pytest.mark.parametrize("min_mu", [0.0, 0.5])
@pytest.mark.parametrize("method", ["cox-reid", "moments"])
@pytest.mark.parametrize("design", [TWO, MANY], ids=["two arms", "batches"])
def test_both_engines_and_all_batch_sizes_agree(
    design: np.ndarray, method: Any, min_mu: float
) -> None:
    fitter = NBGLMBatchFitter(design, offset=OFFSET, dispersion_method=method, min_mu=min_mu)
    ours = fitter.fit_batch(COUNTS)
    # The clamped iteration stops at a change of its deviance in the last digits.
    same(ours, fitter.fit_batch(COUNTS, use_numba=False), rtol=1e-5)
    for size in (1, None) if min_mu else (3,):
        same(ours, fitter.fit_batch(COUNTS, gene_batch_size=size))
    same(ours, fitter.fit_batch(sp.csr_matrix(COUNTS)))
    assert np.isnan(ours.coef[3]).all()
    assert not ours.converged[3]
    assert ours.converged[[0, 1, 2]].all()


def test_two_arms_are_fitted_as_in_the_test() -> None:
    fits = NBGLMBatchFitter(TWO, offset=OFFSET, min_mu=0, tol=1e-9).fit_batch(COUNTS)
    for gene in (0, 1, 2, 5):
        arms = [Arm.of(COUNTS[k == ARM, gene], SIZES[k == ARM]) for k in (0, 1)]
        upper = largest_dispersion(N_CELLS)
        alpha = genewise_dispersion(arms, upper, start=within_group_moments(arms, upper))
        assert fits.dispersion[gene] == pytest.approx(alpha, rel=1e-6)
        eta = [best_log_mean(arm, alpha, 0.0).eta for arm in arms]
        np.testing.assert_allclose(fits.coef[gene], [eta[0], eta[1] - eta[0]], atol=1e-7)
        mu = nb_regression.means(TWO, OFFSET, fits.coef[gene])
        errors = nb_regression.standard_errors(TWO, mu, alpha)
        np.testing.assert_allclose(fits.se[gene], errors, rtol=1e-6)
        deviance = nb_regression.deviance(COUNTS[:, gene], mu, alpha)
        assert fits.deviance[gene] == pytest.approx(deviance, rel=1e-7)


def test_the_fitter_of_one_gene_and_that_of_many_are_one_model() -> None:
    given = np.full(N_GENES, 0.4)
    many = NBGLMBatchFitter(MANY, offset=OFFSET, tol=1e-9).fit_batch_with_joint_offsets(
        COUNTS, fixed_dispersion=given
    )
    single = NBGLMFitter(MANY, offset=OFFSET, dispersion=0.4, tol=1e-9, compute_cooks=True)
    for gene, fit in enumerate(single.fit_matrix(sp.csc_matrix(COUNTS), batch_size=3)):
        np.testing.assert_allclose(fit.coef, many.coef[gene], atol=1e-6)
        np.testing.assert_allclose(fit.se, many.se[gene], rtol=1e-5)
        assert bool(fit.converged) == bool(many.converged[gene])
    distances = nb_regression.cooks_distances(
        COUNTS[:, 0], MANY, nb_regression.means(MANY, OFFSET, many.coef[0]), 0.4
    )
    largest = single.fit_gene(COUNTS[:, 0]).max_cooks
    assert largest == pytest.approx(distances.max(), rel=1e-6)


def test_a_gene_s_dispersion_is_that_of_its_fitted_means() -> None:
    fitter = NBGLMFitter(MANY, offset=OFFSET, tol=1e-9)
    fit = fitter.fit_gene(COUNTS[:, 0])
    mu = nb_regression.means(MANY, OFFSET, fit.coef, 0.5)
    again = fitter.estimate_dispersion_cox_reid(COUNTS[:, 0], mu, np.ones(N_CELLS))
    assert fit.dispersion == pytest.approx(again, rel=1e-4)
    without = fitter.estimate_dispersion_cox_reid(COUNTS[:, 0], mu, np.arange(N_CELLS) > 5)
    assert without != pytest.approx(again, rel=1e-3)
    bounded = fitter.estimate_dispersion_cox_reid(
        COUNTS[:, 0], mu, np.ones(N_CELLS), bounds=(1e-8, 1e-3)
    )
    assert bounded == pytest.approx(1e-3)
    moments = NBGLMFitter(MANY, offset=OFFSET, dispersion_method="moments").fit_gene(COUNTS[:, 0])
    assert moments.dispersion != pytest.approx(fit.dispersion, rel=1e-3)


def test_arguments_of_the_fitters_do_what_they_say() -> None:
    y = COUNTS[:, 1]
    assert not NBGLMFitter(TWO, max_iter=1, poisson_init_iter=0).fit_gene(y).converged
    assert not NBGLMFitter(TWO, min_total_count=1e6).fit_gene(y).converged
    ridged = NBGLMFitter(TWO, dispersion=0.4, ridge_penalty=50.0, min_mu=0).fit_gene(y)
    plain = NBGLMFitter(TWO, dispersion=0.4, min_mu=0).fit_gene(y)
    assert np.abs(ridged.coef).sum() < np.abs(plain.coef).sum()
    clamped = NBGLMFitter(TWO, dispersion=0.4, min_mu=5.0).fit_gene(y)
    assert not np.allclose(clamped.coef, plain.coef, atol=1e-2)
    few = NBGLMBatchFitter(MANY, max_iter=1, poisson_init_iter=0).fit_batch(COUNTS)
    assert not few.converged.any()
    assert np.isnan(NBGLMBatchFitter(TWO, min_total_count=1e6).fit_batch(COUNTS).coef).all()
    wide = NBGLMBatchFitter(TWO, ridge_penalty=50.0, min_mu=0).fit_batch(COUNTS)
    narrow = NBGLMBatchFitter(TWO, min_mu=0).fit_batch(COUNTS)
    assert abs(wide.coef[1, 1]) < abs(narrow.coef[1, 1])


def test_what_is_held_is_taken_off_before_the_fit() -> None:
    covariate = np.outer(BATCH == 1, np.full(N_GENES, 0.7))
    fitter = NBGLMBatchFitter(MANY, offset=OFFSET, min_mu=0, tol=1e-9)
    given = np.full(N_GENES, 0.3)
    free = fitter.fit_batch_with_joint_offsets(COUNTS, fixed_dispersion=given)
    held = fitter.fit_batch_with_joint_offsets(
        COUNTS, covariate_offset=covariate, fixed_dispersion=given
    )
    used = [0, 1, 2, 5, 6, 7]
    np.testing.assert_allclose(free.coef[used, 2] - held.coef[used, 2], 0.7, atol=1e-6)
    np.testing.assert_allclose(free.coef[used, 1], held.coef[used, 1], atol=1e-6)
    alone = NBGLMBatchFitter(ARM[:, None], offset=OFFSET, min_mu=0, tol=1e-9)
    found = alone.fit_batch_with_joint_offsets(
        COUNTS, intercept_offset=np.log(MEANS), fixed_dispersion=given
    )
    for gene in used:
        arm = Arm.of(COUNTS[ARM == 1, gene], SIZES[ARM == 1] * MEANS[gene])
        expected = best_log_mean(arm, 0.3, 0.0).eta
        assert found.coef[gene, 0] == pytest.approx(expected, abs=1e-6)
    same(
        fitter.fit_batch_with_covariate_offset(COUNTS, covariate),
        fitter.fit_batch_with_joint_offsets(COUNTS, covariate_offset=covariate),
    )


@pytest.fixture(scope="module")
def cache() -> Any:
    return precompute_control_statistics(COUNTS[ARM == 0], OFFSET[ARM == 0], min_mu=0, tol=1e-9)


def test_the_cache_holds_the_control(cache: Any) -> None:
    control = COUNTS[ARM == 0]
    np.testing.assert_array_equal(cache.control_matrix, control)
    assert cache.control_n == N_CONTROL
    np.testing.assert_allclose(cache.control_mean_expr, (control / SIZES[ARM == 0, None]).mean(0))
    np.testing.assert_array_equal(cache.control_expr_counts, (control > 0).sum(0))
    np.testing.assert_allclose(cache.pts_rest, (control > 0).mean(0))
    assert np.isnan(cache.beta_intercept[3])
    for gene in (0, 1, 2):
        alpha = cache.control_dispersion[gene]
        arm = Arm.of(control[:, gene], SIZES[ARM == 0])
        eta = best_log_mean(arm, alpha, 0.0).eta
        assert cache.beta_intercept[gene] == pytest.approx(eta, abs=1e-6)
        mu = np.exp(eta) * SIZES[ARM == 0]
        w = mu / (1 + alpha * mu)
        assert cache.control_xtwx_intercept[gene] == pytest.approx(w.sum(), rel=1e-6)
        # At the optimum the working responses average to the log mean.
        assert cache.control_xtwz_intercept[gene] == pytest.approx(
            eta * w.sum(), rel=1e-5, abs=1e-5
        )
    other = precompute_control_statistics(
        control, OFFSET[ARM == 0], dispersion_method="cox-reid", global_size_factors=SIZES
    )
    assert other.control_dispersion[0] != pytest.approx(cache.control_dispersion[0], rel=1e-3)
    np.testing.assert_array_equal(other.global_size_factors, SIZES)


def test_a_cache_changes_nothing_but_the_work(cache: Any) -> None:
    fitter = NBGLMBatchFitter(TWO, offset=OFFSET, min_mu=0)
    found = fitter.fit_batch_with_control_cache(
        sp.csr_matrix(COUNTS[ARM == 1]), OFFSET[ARM == 1], cache, perturbation_indicator=ARM
    )
    same(found, fitter.fit_batch(COUNTS))
    valid = np.arange(N_GENES) < 2
    part = fitter.fit_batch_with_control_cache(
        COUNTS[ARM == 1],
        OFFSET[ARM == 1],
        cache,
        perturbation_indicator=ARM,
        valid_mask=valid,
    )
    assert np.isfinite(part.coef[valid]).all()
    assert np.isnan(part.coef[~valid]).all()


def test_a_frozen_control_gives_the_decoupled_fit() -> None:
    control, offset = COUNTS[ARM == 0], OFFSET[ARM == 0]
    frozen = precompute_control_statistics(control, offset, min_mu=0, freeze_control=True, tol=1e-9)
    assert frozen.control_matrix is None
    assert frozen.use_frozen_control
    np.testing.assert_allclose(frozen.frozen_control_Y_sum, control.sum(0))
    fitter = NBGLMBatchFitter(TWO, min_mu=0, tol=1e-9)
    found = fitter.fit_batch_with_frozen_control(COUNTS[ARM == 1], OFFSET[ARM == 1], frozen)
    for gene in (0, 1, 2, 5):
        alpha = frozen.control_dispersion[gene]
        arms = [Arm.of(COUNTS[k == ARM, gene], SIZES[k == ARM]) for k in (0, 1)]
        eta = [best_log_mean(arm, alpha, 0.0).eta for arm in arms]
        np.testing.assert_allclose(found.coef[gene], [eta[0], eta[1] - eta[0]], atol=1e-5)
        mu = nb_regression.means(TWO, OFFSET, found.coef[gene])
        expected = nb_regression.standard_errors(TWO, mu, alpha)
        np.testing.assert_allclose(found.se[gene], expected, rtol=1e-5)
    with pytest.raises(InputError, match="frozen and holds no counts"):
        fitter.fit_batch_with_control_cache(
            COUNTS[ARM == 1], OFFSET[ARM == 1], frozen, perturbation_indicator=ARM
        )


@pytest.fixture(scope="module", params=["csr", "csc"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("glm")
    return write_h5ad(folder / "screen.h5ad", COUNTS, LABELS.tolist(), layout=request.param)


@pytest.mark.parametrize("chunk_size", [1, 7, 4096])
def test_streams_give_the_same_bits_as_matrices(path: Path, chunk_size: int) -> None:
    control, offset = ARM == 0, OFFSET[ARM == 0]
    memory = precompute_control_statistics(COUNTS[control], offset, freeze_control=True)
    streamed = precompute_control_statistics_streaming(path, control, offset, chunk_size=chunk_size)
    every = precompute_global_dispersion(memory, sp.csr_matrix(COUNTS), OFFSET)
    from_path = precompute_global_dispersion_from_path(
        path, streamed, OFFSET, chunk_size=chunk_size
    )
    for name, value in vars(every).items():
        if name != "control_offset" and value is not None:
            np.testing.assert_array_equal(getattr(from_path, name), value, err_msg=name)
    assert every.dispersion_scope == "global"
    assert memory.global_dispersion is None
    with pytest.raises(InputError, match="freeze_control=False needs"):
        precompute_control_statistics_streaming(path, control, offset, freeze_control=False)


def test_global_dispersions_follow_their_arguments(cache: Any) -> None:
    every = precompute_global_dispersion(cache, COUNTS, OFFSET, fit_type="mean")
    assert len(set(every.global_dispersion_trend[[0, 1, 2]])) == 1
    modes = precompute_global_dispersion(cache, COUNTS, OFFSET, fit_type="mean", fast_mode=False)
    used = [0, 1, 2, 5, 6, 7]
    assert (every.global_dispersion[used] != modes.global_dispersion[used]).all()
    coarse = precompute_global_dispersion(
        cache, COUNTS, OFFSET, fit_type="mean", fast_mode=False, max_dense_fraction=1e-12
    )
    np.testing.assert_array_equal(coarse.global_dispersion, modes.global_dispersion)
    bounded = precompute_global_dispersion(cache, COUNTS, OFFSET, min_disp=0.2, max_disp=0.3)
    assert (bounded.global_dispersion[used] <= 0.3).all()
    assert (bounded.global_dispersion[used] >= 0.2).all()
    fits = NBGLMBatchFitter(TWO).fit_batch_with_control_cache(
        COUNTS[ARM == 1], OFFSET[ARM == 1], bounded, perturbation_indicator=ARM
    )
    np.testing.assert_array_equal(fits.dispersion[used], bounded.global_dispersion[used])


def test_designs_have_an_indicator_for_every_level_but_the_first() -> None:
    obs = OBS.assign(depth=OFFSET, flag=BATCH == 0)
    obs["ordered"] = pd.Categorical(obs["batch"], categories=["c", "a", "b", "z"])
    design, names = build_design_matrix(
        obs, covariate_columns=["batch", "depth", "flag", "ordered"], perturbation_indicator=ARM
    )
    assert names == [
        "intercept",
        "perturbation",
        "batch[b]",
        "batch[c]",
        "depth",
        "flag[True]",
        "ordered[a]",
        "ordered[b]",
    ]
    np.testing.assert_array_equal(design[:, 1], ARM)
    np.testing.assert_array_equal(design[:, 7], obs["batch"] == "b")
    records = OBS.to_records(index=False)
    bare, names = build_design_matrix(
        records, covariate_columns=["batch"], perturbation_indicator=ARM, intercept=False
    )
    assert names == ["perturbation", "batch[b]", "batch[c]"]
    np.testing.assert_array_equal(bare, design[:, 1:4])
    with pytest.raises(MissingColumnError, match="'lane' is not among"):
        build_design_matrix(obs, covariate_columns=["lane"], perturbation_indicator=ARM)
    with pytest.raises(InputError, match="missing values"):
        build_design_matrix(
            obs.assign(batch=None), covariate_columns=["batch"], perturbation_indicator=ARM
        )


def test_trends_follow_a_curve_the_genes_or_one_number() -> None:
    means = np.geomspace(0.1, 80, 300)
    curve = 0.2 + 1.5 / means
    noisy = curve * np.exp(RNG.normal(0, 0.3, 300))
    parametric = fit_dispersion_trend(means, noisy)
    local = fit_dispersion_trend(means, noisy, fit_type="local", min_mean=0)
    assert np.abs(np.log(parametric / curve)).max() < 0.3
    assert np.abs(np.log(local / curve)).max() < 0.5
    assert set(fit_dispersion_trend(means, noisy, fit_type="mean", min_mean=0)) == {
        np.median(noisy)
    }
    high = fit_dispersion_trend(means, noisy, fit_type="mean", min_mean=10)
    assert high[0] == np.median(noisy[means >= 10])
    assert np.isnan(fit_dispersion_trend([0.0, 1, 2, 3], [np.nan, 1, 2, 3])[0])
    assert len(set(fit_dispersion_trend(means, noisy, n_iter=1).tolist())) == 1
    with pytest.raises(InputError, match="fit_type is 'spline'"):
        fit_dispersion_trend(means, noisy, fit_type="spline")  # type: ignore[arg-type]


def test_dispersions_shrink_toward_the_trend_but_outliers_do_not() -> None:
    trend = np.full(200, 0.5)
    raw = trend * np.exp(RNG.normal(0, 0.4, 200))
    raw[7] = 40.0
    shrunk = shrink_dispersions(raw, trend)
    assert shrunk[7] == 40.0
    others = np.arange(200) != 7
    assert (np.abs(np.log(shrunk / trend)) <= np.abs(np.log(raw / trend)) + 1e-12).all()
    assert (shrunk[others] != raw[others]).mean() > 0.9
    assert shrink_dispersions(raw, trend, outlier_sigma=np.inf)[7] < 40
    weak = shrink_dispersions(raw, trend, max_prior_df=0.5, min_prior_df=0.1)
    assert np.abs(np.log(weak / trend)).sum() > np.abs(np.log(shrunk / trend)).sum()
    strong = shrink_dispersions(raw, trend, min_prior_df=1e9, max_prior_df=1e9)
    np.testing.assert_allclose(strong[others & (raw < 0.6)], 0.5, rtol=1e-6)
    with pytest.raises(InputError, match="have shapes"):
        shrink_dispersions(raw, trend[:3])


def test_posterior_modes_lie_between_likelihood_and_trend() -> None:
    mu = np.full((300, 3), 5.0)
    counts = RNG.poisson(mu * RNG.gamma(2, 0.5, mu.shape)).astype(float)
    free = estimate_dispersion_map(counts, mu, np.full(3, 2.0), prior_var=1e6)
    tight = estimate_dispersion_map(counts, mu, np.full(3, 2.0), prior_var=1e-6)
    between = estimate_dispersion_map(counts, mu, np.full(3, 2.0), prior_var=0.05)
    np.testing.assert_allclose(tight, 2.0, rtol=1e-2)
    assert ((between > free) & (between < tight)).all()
    coarse = estimate_dispersion_map(counts, mu, np.full(3, 2.0), n_grid=5, refine=False)
    points = np.exp(np.linspace(np.log(1e-8), np.log(10), 5))
    assert np.isin(np.round(coarse, 9), np.round(points, 9)).all()
    one = estimate_dispersion_map(counts, mu, np.full(3, 2.0), n_jobs=1)
    np.testing.assert_array_equal(one, estimate_dispersion_map(counts, mu, np.full(3, 2.0)))
    bounded = estimate_dispersion_map(counts, mu, np.full(3, 2.0), min_disp=1.0, max_disp=1.5)
    assert ((bounded >= 1 - 1e-9) & (bounded <= 1.5 + 1e-9)).all()
    unknown = estimate_dispersion_map(counts, mu, np.array([2.0, np.nan, 2.0]))
    assert np.isnan(unknown[1])


def test_shrinkage_takes_any_design_and_any_engine() -> None:
    fits = NBGLMBatchFitter(TWO, offset=OFFSET, min_mu=0).fit_batch(COUNTS)
    options: dict[str, Any] = {"prior_scale": 0.3}
    arguments = SIZES, fits.dispersion, fits.coef.T, fits.se[:, 1]
    coef, error, converged = shrink_lfc_apeglm(COUNTS, TWO, *arguments, **options)
    used = [0, 1, 2, 5, 6, 7]
    assert converged[used].all()
    assert np.isnan(coef[:, 3]).all()
    assert (np.abs(coef[1, used]) < np.abs(fits.coef[used, 1])).all()
    # The same two arms with the columns the other way round are no design of two arms.
    turned = TWO[:, ::-1]
    arguments = SIZES, fits.dispersion, fits.coef.T[::-1], fits.se[:, 1]
    again, again_error, _ = shrink_lfc_apeglm(COUNTS, turned, *arguments, shrink_index=0, **options)
    np.testing.assert_allclose(again[::-1][:, used], coef[:, used], atol=1e-5)
    np.testing.assert_allclose(again_error[used], error[used], rtol=1e-5)
    arguments = SIZES, fits.dispersion, fits.coef.T, fits.se[:, 1]
    for other in ({"batch_size": 3}, {"n_jobs": 1}):
        same_again = shrink_lfc_apeglm(COUNTS, TWO, *arguments, **options, **other)
        np.testing.assert_array_equal(same_again[0], coef)
    narrow = shrink_lfc_apeglm(COUNTS, TWO, *arguments, **options, prior_no_shrink_scale=0.1)
    assert (np.abs(narrow[0][0, used]) < np.abs(coef[0, used])).all()
    few = shrink_lfc_apeglm(COUNTS, TWO, *arguments, **options, max_iter=1)
    assert not few[2][used].all()
    clamped = shrink_lfc_apeglm(COUNTS, TWO, *arguments, **options, min_mu=2.0)
    assert not np.allclose(clamped[0][:, used], coef[:, used], atol=1e-3)
    estimated = shrink_lfc_apeglm(COUNTS, TWO, *arguments)
    assert not np.allclose(estimated[0][1, used], coef[1, used], atol=1e-6)


def test_shrinkage_from_statistics_follows_its_arguments() -> None:
    lfc, error = RNG.normal(0, 1, 60), np.exp(RNG.normal(-1, 0.4, 60))
    mean = np.geomspace(0.01, 100, 60)
    plain = shrink_lfc_apeglm_from_stats(lfc, error)
    assert (np.abs(plain[0]) <= np.abs(lfc)).all()
    assert plain[2].all()
    own = shrink_lfc_apeglm_from_stats(lfc, error, base_mean=mean)
    rare = mean < 0.9
    assert (np.abs(own[0][rare]) < np.abs(plain[0][rare])).all()
    np.testing.assert_array_equal(own[0][mean >= 1], plain[0][mean >= 1])
    uniform = shrink_lfc_apeglm_from_stats(
        lfc, error, base_mean=mean, use_gene_specific_prior=False, hybrid_fallback=False
    )
    np.testing.assert_array_equal(uniform[0], plain[0])
    assert not uniform[3].any()
    expected = (np.abs(lfc) / error > 3) | (mean < 10)
    np.testing.assert_array_equal(own[3], expected)
    given = shrink_lfc_apeglm_from_stats(lfc, error, 1 / error**2)
    np.testing.assert_allclose(given[1], plain[1], rtol=1e-9)
    sharper = shrink_lfc_apeglm_from_stats(lfc, error, 9 / error**2)
    assert (sharper[1] < plain[1]).all()


def test_outlying_counts_are_found_and_replaced() -> None:
    mu = np.full((40, 2), 4.0)
    counts = RNG.poisson(mu).astype(float)
    counts[5, 1] = 300
    distances = compute_cooks_distance_batch(counts, mu, np.array([0.1, 0.1]))
    assert distances[:, 1].argmax() == 5
    filtered, outlying = filter_outliers_cooks(counts, mu, np.array([0.1, 0.1]))
    assert np.argwhere(outlying).tolist() == [[5, 1]]
    assert 3 <= filtered[5, 1] <= 5
    np.testing.assert_array_equal(filtered[~outlying], counts[~outlying])
    none = filter_outliers_cooks(counts, mu, np.array([0.1, 0.1]), threshold_quantile=1 - 1e-12)
    assert none[1].sum() <= 1
    assert compute_cooks_distance_batch(counts, mu, np.zeros(2), n_params=1).shape == (40, 2)


def streamed_effects(path: Path, **options: Any) -> Any:
    return estimate_covariate_effects_streaming(
        path,
        obs_df=OBS,
        perturbation_labels=LABELS,
        control_label="control",
        size_factors=SIZES,
        **{"covariate_columns": ["batch"], **options},
    )


def test_covariate_effects_are_those_of_a_poisson_regression(path: Path) -> None:
    effects, intercept = streamed_effects(path, return_intercept=True)
    control = ARM == 0
    design = MANY[control][:, [0, 2, 3]]
    for gene in (0, 1, 2):
        y = COUNTS[control, gene]
        start = nb_regression.least_squares(y, design, OFFSET[control])
        fit = nb_regression.regress(y, design, OFFSET[control], 0.0, start, tolerance=1e-10)
        found = np.concatenate([[intercept[gene]], effects[:, gene]])
        np.testing.assert_allclose(found, fit.coefficients, atol=1e-5)
    assert streamed_effects(path).shape == (2, N_GENES)
    none, alone = streamed_effects(path, covariate_columns=[], return_intercept=True)
    assert none.shape == (0, N_GENES)
    total = COUNTS[control, 0].sum() / SIZES[control].sum()
    assert alone[0] == pytest.approx(np.log(total))
    narrow = streamed_effects(path, chunk_size=2)
    np.testing.assert_array_equal(narrow, effects)
    rough = streamed_effects(path, poisson_iter=1)
    assert not np.allclose(rough, effects, atol=1e-8)


def test_streamed_dispersions_are_those_of_the_whole_design(path: Path) -> None:
    effects, intercept = streamed_effects(path, return_intercept=True)
    options: dict[str, Any] = {
        "obs_df": OBS,
        "perturbation_labels": LABELS,
        "control_label": "control",
        "covariate_columns": ["batch"],
        "size_factors": SIZES,
        "beta_intercept": intercept,
        "beta_cov": effects,
    }
    found = estimate_global_dispersion_streaming(path, **options)
    given = RNG.normal(0, 0.3, (1, N_GENES))
    held = estimate_global_dispersion_streaming(path, **options, beta_perturbation=given)
    for gene in (0, 1, 2):
        held_effects = np.array([intercept[gene], 0.0, *effects[:, gene]])
        mu = nb_regression.means(MANY, OFFSET, held_effects)
        ratio = COUNTS[ARM == 1, gene].sum() / mu[ARM == 1].sum()
        for beta, alpha in ((np.log(ratio), found[gene]), (given[0, gene], held[gene])):
            fitted = mu * np.exp(beta * ARM)
            expected = nb_regression.cox_reid_dispersion(COUNTS[:, gene], fitted, MANY)
            assert alpha == pytest.approx(expected, rel=1e-4)
    assert np.isnan(found[3])
    narrow = estimate_global_dispersion_streaming(path, **options, chunk_size=2)
    np.testing.assert_array_equal(narrow, found)
    moments = estimate_global_dispersion_streaming(path, **options, dispersion_method="moments")
    assert (moments[:3] != found[:3]).all()
    still = estimate_global_dispersion_streaming(path, **options, poisson_iter=0)
    assert (still[:3] != found[:3]).any()


BAD: dict[str, tuple[Any, str]] = {
    "rank": (lambda: NBGLMFitter(np.ones((9, 2))), "2 columns of rank 1"),
    "shape": (lambda: NBGLMFitter(np.ones(9)), r"design has shape \(9,\)"),
    "offset": (lambda: NBGLMFitter(TWO, offset=[1.0]), "offset has shape"),
    "method": (lambda: NBGLMBatchFitter(TWO, dispersion_method="ml"), "dispersion_method is 'ml'"),
    "rows": (lambda: NBGLMBatchFitter(TWO).fit_batch(COUNTS[:5]), "counts has 5 rows"),
    "negative": (lambda: NBGLMBatchFitter(TWO).fit_batch(COUNTS - 1), "holds -1"),
    "batch": (lambda: NBGLMBatchFitter(TWO).fit_batch(COUNTS, 0), "the batch size is 0"),
    "gene": (lambda: NBGLMFitter(TWO).fit_gene([1, 2]), r"counts has shape \(2,\)"),
    "index": (
        lambda: shrink_lfc_apeglm(
            COUNTS, TWO, SIZES, MEANS, np.zeros((2, N_GENES)), MEANS, shrink_index=2
        ),
        "shrink_index is 2",
    ),
    "quantile": (
        lambda: filter_outliers_cooks(COUNTS, MU, MEANS, threshold_quantile=1.0),
        "threshold_quantile is 1.0",
    ),
}


@pytest.mark.parametrize(("call", "said"), BAD.values(), ids=BAD)
def test_bad_arguments_are_named(call: Any, said: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", CrispyxWarning)
        with pytest.raises(InputError, match=said):
            call()
