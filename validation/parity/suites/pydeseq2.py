"""The negative binomial test stage by stage, each given PyDESeq2's inputs, then as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import crispyx as cx
from crispyx._stats import dispersion as compiled
from crispyx._stats.cooks import outlying_pairs
from crispyx._stats.nb_coefficients import Coefficients, Fitting, fit_coefficients
from crispyx._stats.wald import wald_tests
from reference import cooks, dispersion, dispersion_trend, nb_coefficients, size_factors
from reference.wald import wald_test
from validation.parity.arms import Arms
from validation.parity.check import Check
from validation.parity.ours import by_engine, given_dispersions, tested
from validation.parity.suites import Bench, Case
from validation.parity.suites.pydeseq2_answers import DATA, Answer, answer, by_gene
from validation.parity.suites.pydeseq2_designs import DESIGNED, fits_of_a_design
from validation.parity.suites.pydeseq2_modes import modes_of_arms

LITERAL = Fitting(True, "least_squares", 0.5, 250, 1e-8, True)
MIN_MU = 0.5
# Losses are compared to this share: sums of thousands of terms round by less.
LOSS_ROUNDING = 1e-12
# Difference in log dispersion of one gene that moves trend and prior, and with them all genes.
FAR = 0.01
WHOLE = (
    ("log2 fold change", "log2FoldChange", "logfoldchanges"),
    ("statistic", "stat", "statistics"),
    ("p", "pvalue", "pvalues"),
)


def _moments(bench: Bench, data: str) -> Iterator[Check]:
    cells, theirs = answer(bench, data)
    s, labels = theirs["size_factors"], (cells.genes,)
    upper = dispersion.largest_dispersion(len(s))
    everyone = np.ones(len(cells.genes), dtype=bool)
    if data == "simulated":
        own = size_factors.median_of_ratios(cells.counts)
        yield Check("size_factors", "median of ratios", s, None, own)
    means = (cells.counts / s[:, None]).mean(axis=0)
    rough = by_gene(cells, lambda g: dispersion.rough_moments(cells.of_gene(g, s), upper), everyone)
    block = cells.block(s)
    fast = compiled.normalized_moments(block, "compiled")
    fast_rough = compiled.rough_moments(block, fast, np.array([upper]), "compiled")[0]
    pooled = fast.pooled_mean([0, 1])
    yield Check("dispersion", "base mean", theirs["_normed_means"], means, pooled, {}, labels)
    theirs_rough = theirs["_MoM_dispersions"]
    yield Check("dispersion", "moments", theirs_rough, rough, fast_rough, {}, labels)


def _losses(cells: Arms, theirs: Answer, mine: np.ndarray) -> np.ndarray:
    """Return by how much the loss at PyDESeq2's genewise dispersion is above ours (n_genes,).

    The rounding of both is taken off: above 0 is worse.
    """
    s, other = theirs["size_factors"], theirs["genewise_dispersions"]

    def gain(g: int) -> float:
        of_gene = cells.of_gene(g, s)
        means = [dispersion.fitted_means(arm, MIN_MU) for arm in of_gene]
        here, there = (
            dispersion.adjusted_loss(float(np.log(alpha)), of_gene, means)
            for alpha in (mine[g], other[g])
        )
        return there - here - LOSS_ROUNDING * abs(here)

    return np.array([gain(g) for g in range(len(cells.genes))])


def _genewise(cells: Arms, theirs: Answer) -> tuple[np.ndarray, np.ndarray]:
    """Return genewise dispersions of both engines from PyDESeq2's moments."""
    s, start = theirs["size_factors"], theirs["_MoM_dispersions"]
    upper = dispersion.largest_dispersion(len(s))
    slow = [
        dispersion.genewise_dispersion(
            cells.of_gene(g, s), upper, start=start[g], min_mu=MIN_MU, stop_where_flat=True
        )
        for g in range(len(cells.genes))
    ]
    fast = compiled.genewise_dispersions(
        cells.block(s),
        start[None].copy(),
        shared=False,
        min_mu=MIN_MU,
        stop_where_flat=True,
        engine="compiled",
    )[0]
    return np.array(slow), fast


def _dispersions(bench: Bench, data: str) -> Iterator[Check]:
    cells, theirs = answer(bench, data)
    s, labels = theirs["size_factors"], (cells.genes,)
    upper = dispersion.largest_dispersion(len(s))
    slow, fast = _genewise(cells, theirs)
    outside = theirs["genewise_dispersions"]
    failed = {
        "optimizer failed": ~(theirs["_genewise_converged"] > 0),
        "optimizer stopped short": _losses(cells, theirs, slow) > 0,
    }
    yield Check("dispersion", "genewise", outside, slow, fast, failed, labels)

    curve = dispersion_trend.fit_trend(outside, theirs["_normed_means"], literal=True)
    trend = theirs["fitted_dispersions"]
    at_genes = curve.at(theirs["_normed_means"])
    yield Check("dispersion_trend", "trend", trend, None, at_genes, {}, labels)
    prior = dispersion.fit_prior(outside, trend, len(s) - 2)
    variance = np.array([prior.variance])
    yield Check("dispersion", "prior variance", theirs["prior_variance"], None, variance)

    ended = theirs["_MAP_converged"] > 0
    slow = by_gene(
        cells,
        lambda g: dispersion.posterior_mode(
            cells.of_gene(g, s), trend[g], prior.variance, upper, MIN_MU
        ),
        ended,
    )
    fast = compiled.posterior_modes(
        cells.block(s),
        np.where(ended, trend, np.nan)[None],
        np.array([prior.variance]),
        shared=False,
        min_mu=MIN_MU,
        engine="compiled",
    )[0]
    modes = theirs["MAP_dispersions"]
    failed = {"optimizer failed": ~ended}
    yield Check("dispersion", "posterior mode", modes, slow, fast, failed, labels)
    final = compiled.final_dispersions(outside, trend, modes, prior)
    kept = (final == outside) & (final != modes)
    outlying = theirs["_outlier_genes"] > 0
    yield Check("dispersion", "outlying genes", outlying, None, kept, {}, labels)


def _coefficients(bench: Bench, data: str) -> Iterator[Check]:
    cells, theirs = answer(bench, data)
    s, alpha = theirs["size_factors"], theirs["dispersions"]
    outside, everyone = theirs["coefficients"], np.isfinite(alpha)

    def slow(g: int) -> tuple[float, float]:
        control, perturbed = cells.of_gene(g, s)
        first = [nb_coefficients.ordinary_least_squares(arm) for arm in (control, perturbed)]
        fit = nb_coefficients.iterate_clamped(control, perturbed, alpha[g], (first[0], first[1]))
        return fit.intercept, fit.log_fold_change

    block = cells.block(s)
    fast: Coefficients = fit_coefficients(block, alpha[None].copy(), LITERAL, "compiled")
    mine = by_gene(cells, slow, everyone)
    kernels = np.stack([fast.intercept[0], fast.log_fold_change[0]], axis=1)
    sides = np.array(["intercept", "effect"])
    labels = (cells.genes, sides)
    yield Check("nb_coefficients", "coefficients", outside, mine, kernels, {}, labels)

    tests = by_gene(
        cells,
        lambda g: wald_test(*cells.of_gene(g, s), outside[g, 0], outside[g, 1], alpha[g]),
        everyone,
    )
    kernel_tests = wald_tests(block, alpha[None], fast, "sandwich", "compiled")
    error = theirs["lfcSE"] * np.log(2)
    errors = tests[:, 0], kernel_tests.standard_error[0]
    yield Check("wald", "standard error", error, *errors, {}, (cells.genes,))
    statistics = tests[:, 1], kernel_tests.statistic[0]
    yield Check("wald", "statistic", theirs["stat"], *statistics, {}, (cells.genes,))

    distances = np.stack(
        [
            np.concatenate(
                cooks.cooks_distances(*cells.of_gene(g, s), outside[g, 0], outside[g, 1], alpha[g])
            )
            for g in range(len(cells.genes))
        ],
        axis=1,
    )
    yield Check("cooks", "distance", theirs["cooks"], None, distances)
    limit = cooks.cutoff(len(s))
    found = np.zeros(len(cells.genes), dtype=bool)
    found[[pair.gene for pair in outlying_pairs(block, alpha[None], fast, MIN_MU, "compiled")]] = 1
    there, here = (np.asarray((one > limit).any(axis=0)) for one in (theirs["cooks"], distances))
    yield Check("cooks", "genes beyond", there, here, found, {}, (cells.genes,))


def handed_over(cells: Arms, theirs: Answer) -> np.ndarray:
    """Return the genes where PyDESeq2's optimizer stopped short and far from ours (n_given,) int64.

    Through trend and prior such a gene moves all others.
    """
    mine = _genewise(cells, theirs)[0]
    apart = np.abs(np.log(mine) - np.log(theirs["genewise_dispersions"])) > FAR
    return np.flatnonzero(apart & (_losses(cells, theirs, mine) > 0))


def _whole(refit_cooks: bool) -> Callable[[Bench, str], Iterator[Check]]:
    suffix = ", counts replaced" if refit_cooks else ""

    def checks(bench: Bench, data: str) -> Iterator[Check]:
        cells, theirs = answer(bench, data, refit_cooks)
        before = answer(bench, data)[1]  # counts as they are
        genes = handed_over(cells, before)

        def compute(folder: Path) -> dict[str, np.ndarray]:
            with given_dispersions(genes, before["genewise_dispersions"][genes]):
                return tested(
                    cx.nb_glm_test,
                    _written(cells, folder),
                    "control",
                    layers=("dispersion",),
                    preset="pydeseq2",
                    size_factors=None if data == "simulated" else theirs["size_factors"],
                    cook_filter=refit_cooks,
                    min_total_count=0,
                )(folder)

        reference, kernels = by_engine(compute)
        good = (before["_genewise_converged"] > 0) & (theirs["_MAP_converged"] > 0)

        def check(quantity: str, column: str, name: str, **given: Any) -> Check:
            return Check(
                "nb_glm",
                f"{quantity}{suffix}",
                theirs[column],
                reference[name][0],
                kernels[name][0],
                {"optimizer failed": ~good},
                (cells.genes,),
                handed_over={"dispersion handed over": len(genes)},
                **given,
            )

        of_stage = ("dispersion", "posterior mode")
        yield check("dispersion", "dispersions", "dispersion", held_to=of_stage)
        for quantity, column, name in WHOLE:
            yield check(quantity, column, name)

    return checks


def _written(cells: Arms, folder: Path) -> Path:
    """Write a comparison as a screen of one perturbation."""
    import anndata
    import pandas as pd
    from scipy import sparse

    n = len(cells.counts)
    labels = np.where(np.arange(n) < cells.n_control, "control", "perturbed")
    obs = pd.DataFrame({"perturbation": labels}, index=[f"c{i}" for i in range(n)])
    counts = sparse.csr_matrix(cells.counts, dtype=np.float32)
    path = folder / "arms.h5ad"
    anndata.AnnData(counts, obs, pd.DataFrame(index=cells.genes)).write_h5ad(path)
    return path


CASES = (
    *(Case("dispersion", data, _moments) for data in DATA),
    *(Case("dispersion", data, _dispersions) for data in DATA),
    *(Case("nb_coefficients", data, _coefficients) for data in DATA),
    *(Case("nb_glm", data, _whole(False)) for data in DATA),
    *(Case("nb_glm", data, _whole(True)) for data in ("simulated", "papalexi")),
    *(Case("apeglm", data, modes_of_arms) for data in DATA),
    *(Case("nb_regression", data, fits_of_a_design) for data in DESIGNED),
)
