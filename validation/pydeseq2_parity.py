"""Hold the negative binomial test against PyDESeq2, stage by stage and end to end.

Run where PyDESeq2 0.5.4 is installed, from the root of the source tree:

    python -m validation.pydeseq2_parity [--cells 640] [--genes 400] [--engine compiled]

Every stage gets PyDESeq2's own inputs of that stage, so that a difference is of that stage alone.
The last lines compare the whole chain from counts. Genes whose optimizer failed in PyDESeq2
(a grid search takes over, at steps of the grid) are counted and left out of the comparison.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from reference import cooks, dispersion, dispersion_trend, nb_coefficients, nb_glm, size_factors
from reference.nb_coefficients import Arm
from reference.wald import wald_test

LABELS = ("control", "perturbed")


@dataclass(frozen=True)
class Comparison:
    """Counts of control cells, then perturbed cells, and what PyDESeq2 makes of them."""

    counts: np.ndarray
    n_control: int
    dds: Any
    results: pd.DataFrame

    @property
    def size_factors(self) -> np.ndarray:
        """Size factors (n_cells,) float64."""
        return np.asarray(self.dds.obs["size_factors"], dtype=float)

    def arms(self, gene: int, s: np.ndarray | None = None) -> tuple[Arm, Arm]:
        """Return both arms of one gene, at PyDESeq2's size factors unless others are given."""
        s = self.size_factors if s is None else s
        y, n = self.counts[:, gene], self.n_control
        return Arm.of(y[:n], s[:n]), Arm.of(y[n:], s[n:])

    def var(self, name: str) -> np.ndarray:
        """Return a column of the gene table (n_genes,) float64."""
        return np.asarray(self.dds.var[name], dtype=float)


def simulated_counts(n_cells: int, n_genes: int, seed: int) -> tuple[np.ndarray, int]:
    """Return counts with true effects in a tenth of the genes and some outlying counts."""
    rng = np.random.default_rng(seed)
    n_perturbed = n_cells // 6
    n_control = n_cells - n_perturbed
    depth = np.exp(rng.normal(0, 0.35, n_cells))
    mean = np.exp(rng.normal(-0.5, 1.6, n_genes))
    mean[:20] = rng.uniform(8, 60, 20)  # genes that every cell expresses, for the median of ratios
    alpha = np.exp(rng.normal(np.log(0.25), 0.6, n_genes)) + 0.02 / mean
    alpha[:20] = 0.05
    effect = np.where(rng.random(n_genes) < 0.1, rng.normal(0, 0.8, n_genes), 0)
    mu = depth[:, None] * mean
    mu[n_control:] *= np.exp(effect)
    counts = rng.poisson(mu * rng.gamma(1 / alpha, alpha, size=mu.shape))
    for gene in rng.choice(n_genes, n_genes // 60, replace=False):
        counts[rng.integers(n_cells), gene] += rng.integers(50, 400)
    counts[counts[:, :20].min(axis=1) == 0, :20] += 1
    return counts, n_control


def run_pydeseq2(counts: np.ndarray, n_control: int, refit_cooks: bool) -> Comparison:
    """Fit PyDESeq2's defaults."""
    from pydeseq2.dds import DeseqDataSet
    from pydeseq2.ds import DeseqStats

    cells = [f"c{i}" for i in range(len(counts))]
    labels = [LABELS[0]] * n_control + [LABELS[1]] * (len(counts) - n_control)
    metadata = pd.DataFrame({"arm": pd.Categorical(labels, categories=LABELS)}, index=cells)
    genes = [f"g{j}" for j in range(counts.shape[1])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dds = DeseqDataSet(
            counts=pd.DataFrame(counts, index=cells, columns=genes),
            metadata=metadata,
            design="~arm",
            refit_cooks=refit_cooks,
            quiet=True,
        )
        dds.deseq2()
        stats = DeseqStats(
            dds,
            contrast=["arm", LABELS[1], LABELS[0]],
            independent_filter=False,
            cooks_filter=refit_cooks,
            quiet=True,
        )
        stats.summary()
    return Comparison(counts, n_control, dds, stats.results_df)


def relative(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Return |ours - theirs| / max(|theirs|, 1e-300) where both have a value."""
    both = np.isfinite(ours) & np.isfinite(theirs)
    return np.abs(ours - theirs)[both] / np.maximum(np.abs(theirs[both]), 1e-300)


def stages(case: Comparison) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each stage's differences from PyDESeq2, given its inputs."""
    n_genes = case.counts.shape[1]
    n_cells = len(case.counts)
    upper = dispersion.largest_dispersion(n_cells)
    s = size_factors.median_of_ratios(case.counts)
    yield "size factors, relative", relative(s, case.size_factors)
    present = np.flatnonzero(case.var("non_zero") > 0)
    moments, means = np.full((2, n_genes), np.nan)
    for g in present:
        arms = case.arms(g)
        moments[g] = dispersion.rough_moments(arms, upper)
        means[g] = np.mean(np.concatenate([arm.counts / arm.size_factors for arm in arms]))
    yield "base mean, relative", relative(means, case.var("_normed_means"))
    yield "moments dispersion, relative", relative(moments, case.var("_MoM_dispersions"))

    genewise, converged = case.var("genewise_dispersions"), case.var("_genewise_converged") > 0
    ours = np.full(n_genes, np.nan)
    for g in present[converged[present]]:
        ours[g] = dispersion.genewise_dispersion(
            case.arms(g), upper, start=moments[g], min_mu=0.5, stop_where_flat=True
        )
    yield "genewise dispersion, log", np.abs(np.log(ours[present]) - np.log(genewise[present]))

    curve = dispersion_trend.fit_trend(genewise, case.var("_normed_means"), literal=True)
    trend = curve.at(np.where(means > 0, means, np.nan))
    yield "trend, relative", relative(trend, case.var("fitted_dispersions"))
    prior = dispersion.fit_prior(genewise, case.var("fitted_dispersions"), n_cells - 2)
    yield (
        "prior variance, relative",
        relative(np.array([prior.variance]), np.array([float(case.dds.uns["prior_disp_var"])])),
    )
    mode, final = np.full((2, n_genes), np.nan)
    converged = case.var("_MAP_converged") > 0
    for g in present[converged[present]]:
        center = case.var("fitted_dispersions")[g]
        mode[g] = dispersion.posterior_mode(case.arms(g), center, prior.variance, upper, 0.5)
        final[g] = dispersion.final_dispersion(genewise[g], center, mode[g], prior)
    yield (
        "posterior mode, log",
        np.abs(np.log(mode[present]) - np.log(case.var("MAP_dispersions")[present])),
    )
    own = np.isfinite(final) & (final == genewise)
    wrong = own[present] != (case.var("_outlier_genes")[present] > 0)
    yield "dispersion outliers that differ, number", np.array([float(wrong.sum())])

    theirs = np.asarray(case.dds.varm["LFC"], dtype=float)
    results = {name: np.asarray(case.results[name], dtype=float) for name in case.results}
    fits, tests = np.full((n_genes, 2), np.nan), np.full((n_genes, 3), np.nan)
    for g in present:
        alpha, (control, perturbed) = case.var("dispersions")[g], case.arms(g)
        first = tuple(map(nb_coefficients.ordinary_least_squares, (control, perturbed)))
        fit = nb_coefficients.iterate_clamped(control, perturbed, alpha, (first[0], first[1]))
        fits[g] = fit.intercept, fit.log_fold_change
        tests[g] = wald_test(control, perturbed, *theirs[g], alpha)
    yield "coefficients, absolute", np.abs(fits - theirs)[present].ravel()
    log2 = np.log(2)
    yield "standard error, relative", relative(tests[:, 0], results["lfcSE"] * log2)
    yield "statistic, relative", relative(tests[:, 1], results["stat"])
    yield "p-value, relative", relative(tests[:, 2], results["pvalue"])
    if "cooks" in case.dds.layers:
        distances = np.full_like(case.dds.layers["cooks"], np.nan)
        for g in present:
            control, perturbed = case.arms(g)
            distances[:, g] = np.concatenate(
                cooks.cooks_distances(control, perturbed, *theirs[g], case.var("dispersions")[g])
            )
        yield "Cook's distance, relative", relative(distances, case.dds.layers["cooks"]).ravel()


def whole_chain(case: Comparison, cook_filter: bool) -> Iterator[tuple[str, np.ndarray]]:
    """Yield differences of the whole chain, nothing borrowed."""
    labels = np.repeat(LABELS, [case.n_control, len(case.counts) - case.n_control])
    options = replace(nb_glm.without_filters(nb_glm.PYDESEQ2), cook_filter=cook_filter)
    ours = nb_glm.nb_glm(case.counts, labels, LABELS[0], options)
    good = (case.var("_genewise_converged") > 0) & (case.var("_MAP_converged") > 0)
    yield "genes whose optimizer failed there", np.array([float((~good).sum())])
    used = case.var("dispersions")[good]
    yield "dispersion, log", np.abs(np.log(ours.dispersion[0, good]) - np.log(used))
    lfc = np.asarray(case.results["log2FoldChange"], dtype=float)[good]
    yield "log2 fold change, absolute", np.abs(ours.log_fold_change[0, good] / np.log(2) - lfc)
    stat = np.asarray(case.results["stat"], dtype=float)[good]
    yield "statistic, absolute", np.abs(ours.statistic[0, good] - stat)
    withheld = np.isnan(np.asarray(case.results["pvalue"], dtype=float)[good])
    differ = withheld != np.isnan(ours.pvalue[0, good])
    yield "p-values withheld on one side only, number", np.array([float(differ.sum())])


def show(title: str, rows: Iterator[tuple[str, np.ndarray]]) -> None:
    """Print median, 99 % point and maximum of every row."""
    print(f"\n{title}\n{'':45s} {'median':>9s} {'99 %':>9s} {'max':>9s}      n")
    for name, difference in rows:
        d = difference[np.isfinite(difference)]
        points = [np.median(d), np.quantile(d, 0.99), d.max()] if d.size else [np.nan] * 3
        print(f"{name:45s} " + " ".join(f"{x:9.1e}" for x in points) + f" {d.size:6d}")


def main() -> None:
    """Run both comparisons and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=640)
    parser.add_argument("--genes", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    counts, n_control = simulated_counts(arguments.cells, arguments.genes, arguments.seed)
    plain = run_pydeseq2(counts, n_control, refit_cooks=False)
    show("reference against PyDESeq2, each stage given PyDESeq2's inputs", stages(plain))
    show("reference against PyDESeq2, from counts", whole_chain(plain, False))
    refitted = run_pydeseq2(counts, n_control, refit_cooks=True)
    show("the same with Cook's replacement of outliers", whole_chain(refitted, True))


if __name__ == "__main__":
    main()
