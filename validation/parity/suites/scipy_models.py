"""Least squares beside batches, likelihood ratios and distances of clouds: statsmodels, SciPy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import crispyx as cx
from crispyx._stats.likelihood_ratio import likelihood_ratio_roots
from reference import size_factors
from validation.parity.arms import arms
from validation.parity.check import Check
from validation.parity.ours import ENGINES, by_engine
from validation.parity.screens import screen
from validation.parity.suites import Bench

N_COMPONENTS = 20


def effects_beside_batches(bench: Bench, data: str) -> Iterator[Check]:
    """Yield effects and statistics of all perturbations, fitted at once with the batches."""
    cells = screen(data, bench.cache)
    given = {"x": cells.dense, "code": cells.code, "batch": cells.batch}
    theirs = bench.outside.ask("scipy", "least_squares", given)

    def compute(folder: Path) -> dict[str, np.ndarray]:
        found = cx.tl.residual_effects(
            cells.logged,
            perturbation_column="perturbation",
            control_label=cells.control,
            covariates=["batch"],
            output_dir=folder,
        ).to_memory()
        rows = found[list(cells.groups)]
        return {"effect": np.asarray(rows.X), "t": np.asarray(rows.layers["z_score"])}

    still = {"no arm varies": np.ptp(cells.dense, axis=0) == 0}
    reference, compiled = by_engine(compute)
    labels = (cells.groups, cells.genes)
    for name in ("effect", "t"):
        ours = reference[name], compiled[name]
        yield Check("residual_effects", name, theirs[name], *ours, still, labels)


def likelihood_ratios(bench: Bench, data: str) -> Iterator[Check]:
    """Yield signed roots of the likelihood ratio, at given dispersions."""
    cells = arms(data, bench.cache)
    s = size_factors.scaled(size_factors.total_counts(cells.counts))
    alpha = np.exp(np.random.default_rng(0).normal(-1, 0.5, len(cells.genes)))
    arm = np.arange(len(cells.counts)) >= cells.n_control
    both = cells.counts[arm].any(axis=0) & cells.counts[~arm].any(axis=0)
    given = {"counts": cells.counts[:, both], "arm": arm, "size_factors": s}
    theirs = bench.outside.ask("scipy", "likelihood_ratios", given | {"alpha": alpha[both]})
    slow, fast = (likelihood_ratio_roots(cells.block(s), alpha[None], e)[0, both] for e in ENGINES)
    labels = (cells.genes[both],)
    yield Check("likelihood_ratio", "root", theirs["root"], slow, fast, labels=labels)


def energies(bench: Bench, data: str) -> Iterator[Check]:
    """Yield energy distances from the control in a given embedding."""
    cells = screen(data, bench.cache)
    embedded = cells.cells.copy()
    cx.pp.pca(embedded, n_comps=N_COMPONENTS, show_progress=False)
    given = {"embedding": embedded.obsm["X_pca"], "code": cells.code}
    theirs = bench.outside.ask("scipy", "energies", given)

    def compute(_: Path) -> Any:
        found = cx.tl.energy_distance(
            embedded,
            perturbation_column="perturbation",
            control_label=cells.control,
            n_permutations=0,
            show_progress=False,
        )
        return found["energy_distance"].loc[cells.groups].to_numpy()

    ours = by_engine(compute)
    yield Check("energy_distance", "distance", theirs["energy"], *ours, labels=(cells.groups,))
