"""reference.nb_glm against PyDESeq2's numbers, simulated truth and its own degenerate cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reference.multiple_testing import benjamini_hochberg
from reference.nb_glm import (
    ALL_ZERO,
    DEFAULT_OPTIONS,
    FEW_EXPRESSING,
    PYDESEQ2,
    SILENT_ARM,
    TESTED,
    UNTESTED,
    estimate_size_factors,
    nb_glm,
    without_filters,
)

EVERY_GENE = without_filters(DEFAULT_OPTIONS)


def made_counts() -> np.ndarray:
    """Return (36, 8) counts by a formula; the last 12 cells are perturbed."""
    cell, gene = np.indices((36, 8))
    noise = (cell * cell * 7 + cell * gene * 13 + gene * gene * 31) % 23
    level = np.array([12, 9, 7, 5, 3, 2, 1, 1])
    counts = level + (noise * level) // 9 + cell % 3
    counts[24:, 0] *= 2
    counts[24:, 2] //= 3
    counts[:, 4:] = np.where(noise[:, 4:] < 11, 0, counts[:, 4:])
    return counts


LABELS = np.repeat(["control", "A"], [24, 12])

# PyDESeq2 0.5.4 with SciPy 1.17.1, refit_cooks=False, independent_filter=False.
PYDESEQ2_GENEWISE = [
    5.6049064358150269e-02, 1e-8, 2.3502689629693627e-02, 1e-8,
    2.9980291694325687e00, 1.2699567630089770e00, 1.4386489520254930e00, 3.5977928674285429e00,
]  # fmt: skip
PYDESEQ2_FINAL = [
    0.0707159719288831, 0.02412447756771457, 0.05887292458711541, 0.03720965389558729,
    2.8774356014899563, 1.2894712586675081, 1.4526407439830265, 3.228603918846013,
]  # fmt: skip
PYDESEQ2_LOG2_FOLD_CHANGE = [
    1.120596862981931, 0.06286339514473477, -1.656533598856859, 0.0150013450972246,
    -0.6346005663560911, 0.07794963044242285, -0.0275658009083479, -0.29309210025383875,
]  # fmt: skip
PYDESEQ2_STATISTIC = [
    7.2288985043696306, 0.4600438898821906, -7.306093886210153, 0.08282821183397522,
    -0.7013095429805699, 0.1242586374833511, -0.03807075801656526, -0.27594957094883243,
]  # fmt: skip


def test_the_preset_repeats_pydeseq2() -> None:
    ours = nb_glm(made_counts(), LABELS, "control", without_filters(PYDESEQ2))
    s = estimate_size_factors(made_counts(), PYDESEQ2.size_factor_method)
    np.testing.assert_allclose(s[:2], [0.6902886513722302, 0.700366391034117], rtol=1e-14)
    # L-BFGS-B stops within about 1e-5 of the best log dispersion; the rest follows.
    np.testing.assert_allclose(ours.dispersion_raw[0], PYDESEQ2_GENEWISE, rtol=2e-5)
    np.testing.assert_allclose(ours.dispersion[0], PYDESEQ2_FINAL, rtol=2e-5)
    log2 = ours.log_fold_change[0] / np.log(2)
    np.testing.assert_allclose(log2, PYDESEQ2_LOG2_FOLD_CHANGE, atol=1e-6)
    np.testing.assert_allclose(ours.statistic[0], PYDESEQ2_STATISTIC, atol=1e-5)


@pytest.fixture(scope="module")
def simulated() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts, labels, and true fold changes of the two perturbations (2, n_genes)."""
    rng = np.random.default_rng(4)
    labels = np.repeat(["A", "control", "B"], [60, 200, 50])
    mean = np.exp(rng.normal(0.3, 1, 40))
    effect = np.where(rng.random((2, 40)) < 0.25, rng.choice([-1.2, 1.2], (2, 40)), 0)
    change = np.select([labels[:, None] == "A", labels[:, None] == "B"], effect[:, None, :], 0)
    mu = np.exp(rng.normal(0, 0.3, 310))[:, None] * mean * np.exp(change)
    return rng.poisson(mu * rng.gamma(4, 1 / 4, mu.shape)), labels, effect


def test_effects_and_dispersion_are_recovered(simulated: tuple) -> None:
    counts, labels, effect = simulated
    options = replace(EVERY_GENE, size_factor_method="total")
    ours = nb_glm(counts, labels, "control", options)
    assert ours.groups == ("A", "B")
    error = (ours.log_fold_change - effect) / ours.standard_error
    # 80 errors in units of their standard error, centered by the change of composition.
    assert 0.7 < np.std(error - np.median(error, axis=1, keepdims=True)) < 1.3
    assert np.median(ours.dispersion) == pytest.approx(0.25, rel=0.2)
    np.testing.assert_array_equal(ours.dispersion[0], ours.dispersion[1])
    assert (np.abs(ours.statistic[effect != 0]) > 3).mean() > 0.8
    np.testing.assert_array_equal(ours.pvalue_adj[1], benjamini_hochberg(ours.pvalue[1]))


def test_both_optimizers_agree_where_nothing_is_clamped(simulated: tuple) -> None:
    counts, labels, _ = simulated
    options = replace(EVERY_GENE, min_mu=0.0, shrink_dispersion=False, tol=1e-12, max_iter=200)
    best = nb_glm(counts[:, :8], labels, "control", options)
    scored = nb_glm(counts[:, :8], labels, "control", replace(options, optimization_method="irls"))
    # The ridge of the scoring steps, 1e-6, against information from 5 on.
    np.testing.assert_allclose(scored.log_fold_change, best.log_fold_change, atol=2e-6)
    assert scored.converged.all()


def test_per_comparison_estimates_use_the_cells_of_the_comparison(simulated: tuple) -> None:
    counts, labels, _ = simulated
    options = replace(
        EVERY_GENE, dispersion_scope="per_comparison", size_factor_scope="per_comparison"
    )
    both = nb_glm(counts[:, :8], labels, "control", options)
    alone = labels != "A"
    only_b = nb_glm(counts[alone, :8], labels[alone], "control", options)
    np.testing.assert_array_equal(both.dispersion[1], only_b.dispersion[0])
    np.testing.assert_array_equal(both.pvalue[1], only_b.pvalue[0])
    shared = nb_glm(counts[:, :8], labels, "control", replace(options, share_dispersion=True))
    np.testing.assert_array_equal(shared.dispersion[0], shared.dispersion[1])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"dispersion": 0.7}, "given"),
        ({"shrink_dispersion": False}, "genewise"),
        ({"use_map_dispersion": False}, "genewise"),
        ({}, "between"),
    ],
)
def test_which_dispersion_is_used(simulated: tuple, change: dict, expected: str) -> None:
    counts, labels, _ = simulated
    ours = nb_glm(counts[:, :8], labels, "control", replace(EVERY_GENE, **change))
    if expected == "given":
        assert (ours.dispersion == 0.7).all()
        assert np.isnan(ours.dispersion_raw).all()
    elif expected == "genewise":
        np.testing.assert_array_equal(ours.dispersion, ours.dispersion_raw)
        assert np.isnan(ours.dispersion_trend).all() == ("shrink_dispersion" in change)
    else:
        low = np.minimum(ours.dispersion_raw, ours.dispersion_trend)
        high = np.maximum(ours.dispersion_raw, ours.dispersion_trend)
        inside = (ours.dispersion >= low * (1 - 1e-9)) & (ours.dispersion <= high * (1 + 1e-9))
        assert inside.all()


def test_degenerate_genes() -> None:
    counts, labels = made_counts(), LABELS.copy()
    counts[24:, 4] = 0
    counts[:24, 5] = 0
    counts[:, 6] = 0
    counts[:, 7] = np.arange(36) == 3
    ours = nb_glm(counts, labels, "control", EVERY_GENE)
    assert ours.status[0].tolist() == [TESTED] * 4 + [SILENT_ARM, SILENT_ARM, ALL_ZERO, SILENT_ARM]
    assert np.isfinite(ours.log_fold_change[0, [4, 5, 7]]).all()
    assert ours.log_fold_change[0, 4] < -2 < 2 < ours.log_fold_change[0, 5]
    assert ours.statistic[0, 4] < -3
    assert ours.statistic[0, 5] > 3
    assert 0.1 < ours.pvalue[0, 7] < 1
    assert np.isnan([ours.pvalue[0, 6], ours.log_fold_change[0, 6], ours.dispersion[0, 6]]).all()
    few = nb_glm(counts, labels, "control", replace(EVERY_GENE, min_cells_expressed=2))
    assert few.status[0, 7] == FEW_EXPRESSING
    assert (few.pvalue[0, 7], few.log_fold_change[0, 7], few.statistic[0, 7]) == (1, 0, 0)
    filtered = nb_glm(counts, labels, "control", replace(EVERY_GENE, min_total_count=2))
    assert filtered.status[0, 7] == UNTESTED
    assert np.isnan(filtered.pvalue[0, 7])
    small = nb_glm(counts, labels, "control", replace(EVERY_GENE, min_cells_pert=13))
    assert (small.status == UNTESTED).all()


def test_one_wild_count_withholds_the_p_value_and_is_replaced_by_the_preset() -> None:
    counts = made_counts()
    counts[30, 1] = 5000
    wild = nb_glm(counts, LABELS, "control", replace(EVERY_GENE, cook_filter=True))
    assert np.isnan(wild.pvalue[0]).tolist() == [False, True] + [False] * 6
    preset = replace(without_filters(PYDESEQ2), cook_filter=True)
    replaced = nb_glm(counts, LABELS, "control", preset)
    kept = nb_glm(counts, LABELS, "control", replace(preset, cook_filter=False))
    assert np.isfinite(replaced.pvalue[0]).all()
    assert abs(replaced.log_fold_change[0, 1]) < 0.3 < 1 < kept.log_fold_change[0, 1]
