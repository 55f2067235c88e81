"""Shrunken fold changes, given PyDESeq2's fits, dispersions and size factors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from crispyx._stats.apeglm import Searching, shrink_counts
from crispyx._stats.nb_likelihood import likelihood_sums
from crispyx.settings import Engine
from reference import apeglm
from validation.parity.arms import Arms
from validation.parity.check import Check
from validation.parity.suites import Bench
from validation.parity.suites.pydeseq2_answers import Answer, answer, by_gene

# Losses are compared to this share: sums of hundreds of terms round by less.
LOSS_ROUNDING = 1e-13
# Errors of one formula at one place differ by less.
SAME_FORMULA = 1e-9
LOG_2 = float(np.log(2))


def modes_of_arms(bench: Bench, data: str) -> Iterator[Check]:
    """Yield the scale of the prior, the modes, and standard errors at two places and by default."""
    cells, theirs = answer(bench, data)
    s, alpha, labels = theirs["size_factors"], theirs["dispersions"], (cells.genes,)
    fits = theirs["log2FoldChange"] * LOG_2, theirs["lfcSE"] * LOG_2
    scale = apeglm.prior_scale(apeglm.prior_variance(lambda: [fits]))
    yield Check("apeglm", "prior scale", theirs["prior_scale"], None, np.array([scale]))

    scale = float(theirs["prior_scale"][0])
    defined = by_gene(
        cells,
        lambda g: apeglm.shrink_counts(*cells.of_gene(g, s), alpha[g], scale, literal=True)[:3],
        np.isfinite(alpha),
    )
    literal = Searching(literal=True)
    found = shrink_counts(
        cells.block(s), alpha[None].copy(), np.array([scale]), literal, "compiled"
    )
    stopped = {
        "optimizer failed": ~(theirs["shrinkage_converged"] > 0),
        "optimizer stopped short": excess_losses(cells, theirs, defined) > 0,
    }
    change, error = defined[:, 1], defined[:, 2]
    kernels = found.log_fold_change[0]
    yield Check("apeglm", "fold change", theirs["modes"][:, 1], change, kernels, stopped, labels)
    kernels = found.standard_error[0]
    yield Check(
        "apeglm", "standard error", theirs["shrunken error"], error, kernels, stopped, labels
    )
    reference, kernels = (_errors_at(cells, theirs, scale, e) for e in ("reference", "compiled"))
    yield Check(
        "apeglm",
        "standard error at PyDESeq2's mode",
        theirs["shrunken error"],
        reference,
        kernels,
        {},
        labels,
    )

    right = by_gene(
        cells,
        lambda g: apeglm.shrink_counts(*cells.of_gene(g, s), alpha[g], scale).standard_error,
        np.isfinite(alpha),
    )
    found = shrink_counts(
        cells.block(s), alpha[None].copy(), np.array([scale]), Searching(), "compiled"
    )
    outside = theirs["shrunken error"]
    summed = {"prior added to rows": np.isclose(reference, outside, rtol=SAME_FORMULA, atol=0)}
    kernels = found.standard_error[0]
    yield Check("apeglm", "standard error, by default", outside, right, kernels, summed, labels)


def excess_losses(cells: Arms, theirs: Answer, mine: np.ndarray) -> np.ndarray:
    """Return by how much PyDESeq2's own loss is higher at its mode than at ours (n_genes,).

    ``mine`` begins with intercept and fold change; the rounding of both losses is taken off.
    """
    s, alpha, scale = theirs["size_factors"], theirs["dispersions"], float(theirs["prior_scale"][0])

    def excess(g: int) -> float:
        there, here = (
            apeglm.posterior_loss(*cells.of_gene(g, s), alpha[g], scale, float(at[0]), float(at[1]))
            for at in (theirs["modes"][g], mine[g])
        )
        return there - here - LOSS_ROUNDING * abs(here)

    return np.array([excess(g) for g in range(len(cells.genes))])


def _errors_at(cells: Arms, theirs: Answer, scale: float, engine: Engine) -> np.ndarray:
    """Return standard errors (n_genes,) by PyDESeq2's formula at PyDESeq2's modes."""
    intercept, change = theirs["modes"].T
    eta = np.stack([intercept, intercept + change])
    alpha = np.stack([theirs["dispersions"]] * 2)
    sums = likelihood_sums(cells.block(theirs["size_factors"]), eta, alpha, 0.0, engine)
    curvature = [apeglm.prior_slopes(float(b), scale)[1] for b in change]
    return np.array(list(map(apeglm.literal_error, *sums["observed"], curvature)))
