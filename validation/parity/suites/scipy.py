"""Rank sums, Welch's test and adjusted p-values, alone and within batches: SciPy, statsmodels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

import crispyx as cx
from crispyx._stats.multiple_testing import Correction, adjust_rows
from validation.parity.check import Check
from validation.parity.ours import ENGINES, by_engine, output_folder, tested
from validation.parity.screens import Screen, screen
from validation.parity.suites import Bench, Case
from validation.parity.suites.scipy_models import (
    effects_beside_batches,
    energies,
    likelihood_ratios,
)

# Groups that statsmodels fits, gene by gene: the first ones.
N_FITTED = 3
PROCEDURES: Mapping[str, Correction] = {
    "benjamini-hochberg": "benjamini-hochberg",
    "benjamini-hochberg statsmodels": "benjamini-hochberg",
    "bonferroni": "bonferroni",
}


def constant_pairs(cells: Screen) -> np.ndarray:
    """Return whether all cells of control and group have one value (n_groups, n_genes) bool."""
    control = cells.dense[cells.code == 0]
    rows = []
    for k in range(1, len(cells.groups) + 1):
        both = np.concatenate([control, cells.dense[cells.code == k]])
        rows.append((both == both[0]).all(axis=0))
    return np.array(rows)


def _rank_sums(bench: Bench, data: str) -> Iterator[Check]:
    cells = screen(data, bench.cache)
    given = {"x": cells.dense, "code": cells.code}
    labels = (cells.groups, cells.genes)
    for alternative, quantity in (("two-sided", "p"), ("greater", "p greater")):
        theirs = bench.outside.ask("scipy", "rank_sums", given, alternative=alternative)
        reference, compiled = by_engine(
            tested(cx.wilcoxon_test, cells.logged, cells.control, alternative=alternative)
        )
        if alternative == "two-sided":
            name = "u_statistics"
            yield Check(
                "rank_sum", "U", theirs["u"], reference[name], compiled[name], labels=labels
            )
        tied = {"all values equal": constant_pairs(cells)}
        ours = reference["pvalues"], compiled["pvalues"]
        yield Check("rank_sum", quantity, theirs["p"], *ours, tied, labels)


def _welch(bench: Bench, data: str) -> Iterator[Check]:
    cells = screen(data, bench.cache)
    theirs = bench.outside.ask("scipy", "welch", {"x": cells.dense, "code": cells.code})
    reference, compiled = by_engine(tested(cx.t_test, cells.logged, cells.control))
    labels = (cells.groups, cells.genes)
    for quantity, name, key in (("t", "statistics", "t"), ("p", "pvalues", "p")):
        yield Check("welch", quantity, theirs[key], reference[name], compiled[name], labels=labels)


def _adjusted(bench: Bench, data: str) -> Iterator[Check]:
    cells = screen(data, bench.cache)
    with output_folder() as folder:
        p = tested(cx.wilcoxon_test, cells.logged, cells.control)(folder)["pvalues"]
    theirs = bench.outside.ask("scipy", "adjusted", {"p": p})
    labels = (cells.groups, cells.genes)
    for name, values in theirs.items():
        reference, compiled = (adjust_rows(p.copy(), PROCEDURES[name], e) for e in ENGINES)
        yield Check("multiple_testing", name, values, reference, compiled, labels=labels)


def _van_elteren(bench: Bench, data: str) -> Iterator[Check]:
    cells = screen(data, bench.cache)
    given = {"x": cells.dense, "code": cells.code, "batch": cells.batch}
    theirs = bench.outside.ask("scipy", "van_elteren", given)
    reference, compiled = by_engine(
        tested(cx.wilcoxon_test, cells.logged, cells.control, batch_column="batch")
    )
    labels = (cells.groups, cells.genes)
    tied = {"all values equal": np.isnan(theirs["z"])}
    for quantity, name in (("z", "statistics"), ("p", "pvalues")):
        ours = reference[name], compiled[name]
        yield Check("van_elteren", quantity, theirs[quantity], *ours, tied, labels)


def _batch_welch(bench: Bench, data: str) -> Iterator[Check]:
    cells = screen(data, bench.cache)
    fitted = np.arange(1, N_FITTED + 1)
    given = {"x": cells.dense, "code": cells.code, "batch": cells.batch, "groups": fitted}
    theirs = bench.outside.ask("scipy", "batch_welch", given)
    chosen = [*cells.groups[:N_FITTED]]
    reference, compiled = by_engine(
        tested(
            cx.t_test,
            cells.logged,
            cells.control,
            batch_column="batch",
            perturbations=chosen,
        )
    )
    labels = (cells.groups[:N_FITTED], cells.genes)
    still = {"no arm varies": np.array([_still(cells, k) for k in fitted.tolist()])}
    for quantity, name in (("difference", "effect_size"), ("t", "statistics")):
        ours = reference[name], compiled[name]
        yield Check("batch_welch", quantity, theirs[quantity], *ours, still, labels)


def _still(cells: Screen, k: int) -> np.ndarray:
    """Return whether a gene has one value in every arm of every batch (n_genes,) bool."""
    still = np.ones(len(cells.genes), dtype=bool)
    for b in np.unique(cells.batch):
        for arm in (0, k):
            values = cells.dense[(cells.batch == b) & (cells.code == arm)]
            still &= (values == values[:1]).all(axis=0)
    return still


CASES = (
    *(Case("rank_sum", data, _rank_sums) for data in ("simulated", "papalexi", "norman")),
    *(Case("welch", data, _welch) for data in ("simulated", "papalexi", "norman")),
    *(Case("multiple_testing", data, _adjusted) for data in ("simulated", "papalexi")),
    *(Case("van_elteren", data, _van_elteren) for data in ("simulated", "papalexi")),
    *(Case("batch_welch", data, _batch_welch) for data in ("simulated", "papalexi")),
    *(Case("residual_effects", data, effects_beside_batches) for data in ("simulated", "papalexi")),
    *(Case("likelihood_ratio", data, likelihood_ratios) for data in ("simulated", "papalexi")),
    *(Case("energy_distance", data, energies) for data in ("simulated", "norman")),
)
