"""Hold the negative binomial test against PyDESeq2, stage by stage and as a whole.

Run where PyDESeq2 0.5.4 and the compiled kernels can be imported, from the root of the source tree:

    python -m validation.pydeseq2_parity                                    # simulated counts
    python -m validation.pydeseq2_parity --screen papalexi.h5ad --perturbation STAT1

Every stage gets PyDESeq2's own inputs of that stage, so that a difference is of that stage alone;
the last lines compare the whole chain from counts. On a real screen both sides are given the same
size factors, since PyDESeq2's rest on few genes there or have none. Genes whose optimizer failed in
PyDESeq2 (a grid takes over, at steps of the grid) are counted and left out.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse

from crispyx._stats import apeglm as compiled_apeglm
from crispyx._stats import dispersion as compiled_dispersion
from crispyx._stats.cooks import outlying_pairs
from crispyx._stats.nb_coefficients import Coefficients, Fitting, fit_coefficients
from crispyx._stats.nb_likelihood import Counts, cell_table
from crispyx._stats.wald import wald_tests
from reference import (
    apeglm,
    cooks,
    dispersion,
    dispersion_trend,
    nb_coefficients,
    nb_glm,
    size_factors,
)
from reference.nb_coefficients import Arm
from reference.wald import wald_test

LABELS = ("control", "perturbed")
LITERAL = Fitting(True, "least_squares", 0.5, 250, 1e-8, True)
Row = tuple[str, np.ndarray, np.ndarray | None]  # name, differences of reference, of compiled


@dataclass(frozen=True)
class Comparison:
    """Counts of control cells, then perturbed cells, and what PyDESeq2 makes of them."""

    counts: np.ndarray
    n_control: int
    dds: Any
    results: pd.DataFrame
    shrunk: pd.DataFrame

    @property
    def size_factors(self) -> np.ndarray:
        """Size factors (n_cells,) float64."""
        return np.asarray(self.dds.obs["size_factors"], dtype=float)

    def arms(self, gene: int) -> tuple[Arm, Arm]:
        """Return both arms of one gene."""
        y, n, s = self.counts[:, gene], self.n_control, self.size_factors
        return Arm.of(y[:n], s[:n]), Arm.of(y[n:], s[n:])

    def block(self) -> Counts:
        """Return all genes as the kernels read them."""
        n_cells, n_genes = self.counts.shape
        table = cell_table(self.size_factors, np.array([0, self.n_control, n_cells]))
        gene, cell = np.nonzero(self.counts.T)
        runs = np.searchsorted(2 * gene + (cell >= self.n_control), np.arange(2 * n_genes + 1))
        run_ptr = np.stack([runs[:-1:2], runs[1::2], runs[2::2]], axis=1)
        values = self.counts[cell, gene].astype(np.float64)
        return Counts(values, table.rank[cell], run_ptr, table)

    def var(self, name: str) -> np.ndarray:
        """Return a column of the gene table (n_genes,) float64."""
        return np.asarray(self.dds.var[name], dtype=float)


def simulated_counts(n_cells: int, n_genes: int, seed: int) -> tuple[np.ndarray, int]:
    """Return counts with true effects in a tenth of the genes and some outlying counts."""
    rng = np.random.default_rng(seed)
    n_control = n_cells - n_cells // 6
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


def screen_counts(path: str, perturbation: str, most_control: int) -> tuple[np.ndarray, int]:
    """Return the counts of the control (at most so many cells) and of one perturbation."""
    import anndata

    data = anndata.read_h5ad(path)
    labels = data.obs["perturbation"].astype(str).to_numpy()
    control = np.flatnonzero(np.isin(labels, ["control", "non-targeting"]))[:most_control]
    cells = np.concatenate([control, np.flatnonzero(labels == perturbation)])
    counts = np.asarray(data.X[cells].toarray(), dtype=np.int64)
    return counts[:, counts.sum(axis=0) > 0], len(control)


def run_pydeseq2(
    counts: np.ndarray, n_control: int, refit_cooks: bool, given: np.ndarray | None = None
) -> Comparison:
    """Fit PyDESeq2's defaults, at given size factors (n_cells,) or its own."""
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
        if given is None:
            dds.fit_size_factors()
        else:
            dds.obs["size_factors"] = given
            dds.layers["normed_counts"] = counts / given[:, None]
            dds.var["_normed_means"] = dds.layers["normed_counts"].mean(axis=0)
        dds.fit_genewise_dispersions()
        dds.fit_dispersion_trend()
        dds.fit_dispersion_prior()
        dds.fit_MAP_dispersions()
        dds.fit_LFC()
        dds.calculate_cooks()
        if refit_cooks:
            dds.refit()
        stats = DeseqStats(
            dds,
            contrast=["arm", LABELS[1], LABELS[0]],
            independent_filter=False,
            cooks_filter=refit_cooks,
            quiet=True,
        )
        stats.summary()
        fitted = stats.results_df.copy()
        stats.lfc_shrink(coeff=f"arm[T.{LABELS[1]}]")
    return Comparison(counts, n_control, dds, fitted, stats.results_df)


def relative(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Return |ours - theirs| / |theirs| where both have a value."""
    both = np.isfinite(ours) & np.isfinite(theirs)
    return np.abs(ours - theirs)[both] / np.maximum(np.abs(theirs[both]), 1e-300)


def logs(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Return differences of logs where both have a value."""
    both = np.isfinite(ours) & np.isfinite(theirs)
    return np.abs(np.log(ours[both]) - np.log(theirs[both]))


def dispersion_stages(case: Comparison, own_size_factors: bool) -> Iterator[Row]:
    """Yield the stages up to the posterior modes, each given PyDESeq2's inputs."""
    n_cells, n_genes = case.counts.shape
    upper, block = dispersion.largest_dispersion(n_cells), case.block()
    if own_size_factors:
        s = size_factors.median_of_ratios(case.counts)
        yield "size factors, relative", relative(s, case.size_factors), None
    moments, means = np.full((2, n_genes), np.nan)
    for g in range(n_genes):
        moments[g] = dispersion.rough_moments(case.arms(g), upper)
        means[g] = np.mean(np.concatenate([y / s for y, s in case.arms(g)]))
    fast = compiled_dispersion.normalized_moments(block, "compiled")
    rough = compiled_dispersion.rough_moments(block, fast, np.array([upper]), "compiled")
    theirs = case.var("_normed_means")
    yield "base mean, relative", relative(means, theirs), relative(fast.pooled_mean([0, 1]), theirs)
    theirs = case.var("_MoM_dispersions")
    yield "moments dispersion, relative", relative(moments, theirs), relative(rough[0], theirs)

    theirs, good = case.var("genewise_dispersions"), case.var("_genewise_converged") > 0
    start = case.var("_MoM_dispersions")
    genewise = np.full(n_genes, np.nan)
    for g in map(int, np.flatnonzero(good)):
        genewise[g] = dispersion.genewise_dispersion(
            case.arms(g), upper, start=start[g], min_mu=0.5, stop_where_flat=True
        )
    fast_genewise = compiled_dispersion.genewise_dispersions(
        block,
        np.where(good, start, np.nan)[None],
        shared=False,
        min_mu=0.5,
        stop_where_flat=True,
        engine="compiled",
    )[0]
    yield "genewise dispersion, log", logs(genewise, theirs), logs(fast_genewise, theirs)

    curve = dispersion_trend.fit_trend(theirs, case.var("_normed_means"), literal=True)
    trend = case.var("fitted_dispersions")
    yield "trend, relative", relative(curve.at(case.var("_normed_means")), trend), None
    prior = dispersion.fit_prior(theirs, trend, n_cells - 2)
    expected = np.array([float(case.dds.uns["prior_disp_var"])])
    yield "prior variance, relative", relative(np.array([prior.variance]), expected), None

    good = case.var("_MAP_converged") > 0
    mode = np.full(n_genes, np.nan)
    for g in map(int, np.flatnonzero(good)):
        mode[g] = dispersion.posterior_mode(case.arms(g), trend[g], prior.variance, upper, 0.5)
    fast_mode = compiled_dispersion.posterior_modes(
        block,
        np.where(good, trend, np.nan)[None],
        np.array([prior.variance]),
        shared=False,
        min_mu=0.5,
        engine="compiled",
    )[0]
    modes = case.var("MAP_dispersions")
    yield "posterior mode, log", logs(mode, modes), logs(fast_mode, modes)
    final = compiled_dispersion.final_dispersions(theirs, trend, modes, prior)
    kept = (final == theirs) & (final != modes)
    wrong = kept != (case.var("_outlier_genes") > 0)
    yield "dispersion outliers that differ, number", np.array([float(wrong.sum())]), None


def test_stages(case: Comparison) -> Iterator[Row]:
    """Yield coefficients, tests and Cook's distances, each given PyDESeq2's inputs."""
    n_genes, block = case.counts.shape[1], case.block()
    theirs = np.asarray(case.dds.varm["LFC"], dtype=float)
    results = {name: np.asarray(case.results[name], dtype=float) for name in case.results}
    alpha = case.var("dispersions")
    fits, tests = np.full((n_genes, 2), np.nan), np.full((n_genes, 3), np.nan)
    for g in range(n_genes):
        control, perturbed = case.arms(g)
        first = tuple(map(nb_coefficients.ordinary_least_squares, (control, perturbed)))
        fit = nb_coefficients.iterate_clamped(control, perturbed, alpha[g], (first[0], first[1]))
        fits[g] = fit.intercept, fit.log_fold_change
        intercept, change = theirs[g]
        tests[g] = wald_test(control, perturbed, intercept, change, alpha[g])
    fast: Coefficients = fit_coefficients(block, alpha[None].copy(), LITERAL, "compiled")
    fast_fits = np.stack([fast.intercept[0], fast.log_fold_change[0]], axis=1)
    yield (
        "coefficients, absolute",
        np.abs(fits - theirs).ravel(),
        np.abs(fast_fits - theirs).ravel(),
    )
    fast_tests = wald_tests(block, alpha[None], fast, "sandwich", "compiled")
    error = results["lfcSE"] * np.log(2)
    yield (
        "standard error, relative",
        relative(tests[:, 0], error),
        relative(fast_tests.standard_error[0], error),
    )
    yield (
        "statistic, absolute",
        np.abs(tests[:, 1] - results["stat"]),
        np.abs(fast_tests.statistic[0] - results["stat"]),
    )
    distances = np.full(case.counts.shape, np.nan)
    for g in range(n_genes):
        intercept, change = theirs[g]
        of_arms = cooks.cooks_distances(*case.arms(g), intercept, change, alpha[g])
        distances[:, g] = np.concatenate(of_arms)
    expected = np.asarray(case.dds.layers["cooks"], dtype=float)
    yield "Cook's distance, absolute", np.abs(distances - expected).ravel(), None
    beyond = (expected > cooks.cutoff(len(expected))).any(axis=0)
    yield "genes with a count beyond the cutoff", np.array([float(beyond.sum())]), None
    found = np.zeros(n_genes, dtype=bool)
    for pair in outlying_pairs(block, alpha[None], fast, 0.5, "compiled"):
        found[pair.gene] = True
    defined = (distances > cooks.cutoff(len(expected))).any(axis=0)
    differ = [np.array([float((one != beyond).sum())]) for one in (defined, found)]
    yield "the same on one side only, number", differ[0], differ[1]


def shrinkage_stages(case: Comparison) -> Iterator[Row]:
    """Yield shrunken fold changes and standard errors, given PyDESeq2's fits and dispersions."""
    ln2, block, alpha = np.log(2), case.block(), case.var("dispersions")
    fitted, error = (np.asarray(case.results[name]) * ln2 for name in ("log2FoldChange", "lfcSE"))
    scale = apeglm.prior_scale(apeglm.prior_variance(lambda: [(fitted, error)]))
    theirs, their_error = (
        np.asarray(case.shrunk[name], dtype=float) * ln2 for name in ("log2FoldChange", "lfcSE")
    )
    found = np.full((len(alpha), 2), np.nan)
    for g in range(len(alpha)):
        one = apeglm.shrink_counts(*case.arms(g), alpha[g], scale, literal=True)
        found[g] = one.log_fold_change, one.standard_error
    scales = np.array([scale])
    fast = compiled_apeglm.shrink_counts(
        block, alpha[None], scales, compiled_apeglm.Searching(literal=True), "compiled"
    )
    right = compiled_apeglm.shrink_counts(
        block, alpha[None], scales, compiled_apeglm.Searching(), "compiled"
    )
    yield (
        "shrunken fold change, absolute",
        np.abs(found[:, 0] - theirs),
        np.abs(fast.log_fold_change[0] - theirs),
    )
    yield (
        "its standard error, literal, relative",
        relative(found[:, 1], their_error),
        relative(fast.standard_error[0], their_error),
    )
    yield (
        "the same, of the curvature, relative",
        relative(right.standard_error[0], their_error),
        None,
    )
    wider = np.abs(theirs) > np.abs(fitted) + 1e-6
    yield "effects larger than fitted, number", np.array([float(wider.sum())]), None


def through_the_door(
    case: Comparison, cook_filter: bool, given: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Return the layers (n_genes,) that ``nb_glm_test`` writes for the comparison."""
    import anndata

    import crispyx

    labels = np.repeat(LABELS, [case.n_control, len(case.counts) - case.n_control])
    data = anndata.AnnData(
        scipy.sparse.csr_matrix(case.counts.astype(np.float64)),
        obs=pd.DataFrame({"arm": labels}, index=[f"c{i}" for i in range(len(labels))]),
    )
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", crispyx.errors.CrispyxWarning)
        crispyx.nb_glm_test(
            data,
            groupby="arm",
            control_label=LABELS[0],
            preset="pydeseq2",
            size_factors=given,
            cook_filter=cook_filter,
            min_pct_both=0.0,
            min_mean_ctrl=0.0,
            min_mean_pert=0.0,
            output_path=f"{folder}/result.h5ad",
        )
        found = anndata.read_h5ad(f"{folder}/result.h5ad")
    return {name: layer[0] for name, layer in found.layers.items()}


def whole_chain(case: Comparison, cook_filter: bool, given: np.ndarray | None) -> Iterator[Row]:
    """Yield differences of the whole chain, nothing borrowed but given size factors.

    The compiled column is what the public function writes.
    """
    labels = np.repeat(LABELS, [case.n_control, len(case.counts) - case.n_control])
    options = replace(nb_glm.without_filters(nb_glm.PYDESEQ2), cook_filter=cook_filter)
    defined = nb_glm.nb_glm(case.counts, labels, LABELS[0], options, given)
    layers = through_the_door(case, cook_filter, given)
    tile = {
        "dispersion": layers["dispersion"],
        "log_fold_change": layers["logfoldchange_raw_ln"],
        "statistic": layers["z_score"],
        "pvalue": layers["pvalue"],
    }
    good = (case.var("_genewise_converged") > 0) & (case.var("_MAP_converged") > 0)
    yield "genes whose optimizer failed there", np.array([float((~good).sum())]), None
    pairs = {
        "dispersion, log": ("dispersion", logs, case.var("dispersions")),
        "log2 fold change, absolute": ("log_fold_change", None, case.results["log2FoldChange"]),
        "statistic, absolute": ("statistic", None, case.results["stat"]),
    }
    for title, (name, difference, column) in pairs.items():
        theirs = np.asarray(column, dtype=float)[good]
        scale = np.log(2) if name == "log_fold_change" else 1.0
        ours = [table[good] / scale for table in (getattr(defined, name)[0], tile[name])]
        if difference is None:
            yield title, np.abs(ours[0] - theirs), np.abs(ours[1] - theirs)
        else:
            yield title, difference(ours[0], theirs), difference(ours[1], theirs)
    withheld = np.isnan(np.asarray(case.results["pvalue"], dtype=float)[good])
    differ = [
        np.array([float((np.isnan(p[good]) != withheld).sum())])
        for p in (defined.pvalue[0], tile["pvalue"])
    ]
    yield "p-values withheld on one side only, number", differ[0], differ[1]


def show(title: str, rows: Iterator[Row]) -> None:
    """Print median, 99 % point and maximum of every row for both engines."""
    head = f"{'median':>8s} {'99 %':>8s} {'max':>8s}"
    print(f"\n{title}\n{'difference from PyDESeq2':42s} | {head} | {head} |   n")
    print(f"{'':42s} | {'reference':^26s} | {'compiled':^26s} |")
    for name, *differences in rows:
        cells, n = [], 0
        for difference in differences:
            d = np.array([]) if difference is None else difference[np.isfinite(difference)]
            n = max(n, d.size)
            points = [np.median(d), np.quantile(d, 0.99), d.max()] if d.size else []
            cells.append(" ".join(f"{x:8.1e}" for x in points).ljust(26))
        print(f"{name:42s} | {cells[0]} | {cells[1]} | {n}")


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--screen", help="h5ad file with obs['perturbation']")
    parser.add_argument("--perturbation", help="which one of the screen")
    parser.add_argument("--most-control", type=int, default=600, help="control cells used")
    parser.add_argument("--cells", type=int, default=640, help="simulated cells")
    parser.add_argument("--genes", type=int, default=400, help="simulated genes")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    given = None
    if asked.screen:
        counts, n_control = screen_counts(asked.screen, asked.perturbation, asked.most_control)
        given = size_factors.scaled(size_factors.total_counts(counts))
    else:
        counts, n_control = simulated_counts(asked.cells, asked.genes, asked.seed)
    plain = run_pydeseq2(counts, n_control, False, given)
    show("dispersions, each stage given PyDESeq2's inputs", dispersion_stages(plain, given is None))
    show("tests, each stage given PyDESeq2's inputs", test_stages(plain))
    show("shrinkage, given PyDESeq2's inputs", shrinkage_stages(plain))
    show("the whole chain", whole_chain(plain, False, given))
    refitted = run_pydeseq2(counts, n_control, True, given)
    show("the whole chain with Cook's replacement", whole_chain(refitted, True, given))


if __name__ == "__main__":
    main()
