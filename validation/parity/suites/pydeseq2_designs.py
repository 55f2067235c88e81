"""Designs of several columns: batches, and a number beside the two arms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

import crispyx as cx
from crispyx._stats.nb_regression import INTERCEPT_SPREAD, dispersions_of_block
from crispyx.glm import NBGLMBatchFitter, shrink_lfc_apeglm
from reference import nb_regression, size_factors
from reference.nb_likelihood import log_likelihood
from validation.parity.arms import Arms, arms
from validation.parity.check import Check
from validation.parity.ours import ENGINES
from validation.parity.suites import Bench

DESIGNED = ("simulated", "papalexi")
N_BATCHES = 3
ENOUGH = 3  # cells with a count that a gene has in every batch of either arm
SCALE = 0.5
# Losses are compared to this share: sums of hundreds of terms round by less.
LOSS_ROUNDING = 1e-13


def fits_of_a_design(bench: Bench, data: str) -> Iterator[Check]:
    """Yield coefficients, their errors, dispersions and modes, each given the same inputs."""
    cells = arms(data, bench.cache)
    s = size_factors.scaled(size_factors.total_counts(cells.counts))
    design, batch = _design(cells)
    enough = [
        (cells.counts[(batch == k) & (design[:, 1] == arm)] > 0).sum(axis=0) >= ENOUGH
        for k in range(N_BATCHES)
        for arm in (0, 1)
    ]
    used = np.logical_and.reduce(enough)
    counts, names = cells.counts[:, used].astype(np.float64), cells.genes[used]
    alpha = np.exp(np.random.default_rng(0).normal(-1, 0.5, len(names)))
    theirs = bench.outside.ask(
        "pydeseq2",
        "of_design",
        {
            "counts": cells.counts[:, used],
            "design": design,
            "size_factors": s,
            "dispersions": alpha,
            "scale": np.array(SCALE),
        },
    )
    columns = np.array(["intercept", "effect", *(f"batch {k}" for k in (1, 2)), "number"])
    fitter = NBGLMBatchFitter(design, offset=np.log(s), max_iter=100, tol=1e-10, min_mu=0.0)
    ours = []
    for engine in ENGINES:
        with cx.use_engine(engine):
            ours.append(fitter.fit_batch_with_joint_offsets(counts, fixed_dispersion=alpha))
    failed = {"optimizer failed": ~(theirs["converged"] > 0)}
    yield Check(
        "nb_regression",
        "coefficients",
        theirs["coefficients"],
        ours[0].coef,
        ours[1].coef,
        {key: mask[:, None] for key, mask in failed.items()},
        (names, columns),
    )
    slow, fast = (one.se[:, 1] for one in ours)
    yield Check("nb_regression", "standard error", theirs["error"], slow, fast, failed, (names,))

    mu, bounds = theirs["means"].T, (1e-8, float(max(10, len(counts))))
    found = dispersions_of_block(counts.T.copy(), mu, design, "cox-reid", *bounds)
    losses = [
        [adjusted_loss(y, m, design, a) for y, m, a in zip(counts.T, mu, alphas, strict=True)]
        for alphas in (theirs["genewise"], found)
    ]
    stopped = {
        "optimizer failed": ~(theirs["genewise_converged"] > 0),
        "optimizer stopped short": excess(*losses) > 0,
    }
    yield Check("nb_regression", "dispersion", theirs["genewise"], None, found, stopped, (names,))

    modes = []
    for engine, fits in zip(ENGINES, ours, strict=True):
        with cx.use_engine(engine):
            given = fits.coef.T, fits.se[:, 1]
            shrunk = shrink_lfc_apeglm(counts, design, s, alpha, *given, prior_scale=SCALE)
            modes.append(shrunk[0].T)
    losses = [
        [
            posterior_loss(y, design, np.log(s), a, b)
            for y, a, b in zip(counts.T, alpha, at, strict=True)
        ]
        for at in (theirs["modes"], modes[0])
    ]
    stopped = {
        "optimizer failed": ~(theirs["shrinkage_converged"] > 0),
        "optimizer stopped short": excess(*losses) > 0,
    }
    outside, slow, fast = (one[:, 1] for one in (theirs["modes"], *modes))
    yield Check("nb_regression", "shrunken effect", outside, slow, fast, stopped, (names,))


def excess(there: Iterable[float], here: Iterable[float]) -> np.ndarray:
    """Return by how much losses are higher there, less what they are rounded by."""
    theirs, ours = np.array(list(there)), np.array(list(here))
    return theirs - ours - LOSS_ROUNDING * np.abs(ours)


def adjusted_loss(y: np.ndarray, mu: np.ndarray, design: np.ndarray, alpha: float) -> float:
    """Return the Cox-Reid adjusted loss of a dispersion."""
    gram = (design.T * (mu / (1 + alpha * mu))) @ design
    return float(np.linalg.slogdet(gram)[1]) / 2 - log_likelihood(y, mu, alpha)


def posterior_loss(
    y: np.ndarray, design: np.ndarray, offset: np.ndarray, alpha: float, beta: np.ndarray
) -> float:
    """Return the loss of coefficients, the second under a Cauchy prior."""
    others = np.delete(beta, 1)
    prior = float(others @ others) / (2 * INTERCEPT_SPREAD**2) + np.log1p((beta[1] / SCALE) ** 2)
    return float(prior) - log_likelihood(y, nb_regression.means(design, offset, beta), alpha)


def _design(cells: Arms) -> tuple[np.ndarray, np.ndarray]:
    """Return columns of ones, the arm, two of three batches and a number, and the batches."""
    n = len(cells.counts)
    batch = np.arange(n) % N_BATCHES
    number = np.sin(np.arange(n) * 1.7)
    arm = np.arange(n) >= cells.n_control
    columns = [np.ones(n), arm, batch == 1, batch == 2, number]
    return np.column_stack(columns).astype(np.float64), batch
