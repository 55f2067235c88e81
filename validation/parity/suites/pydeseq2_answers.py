"""PyDESeq2's answers about two arms, and what its suites share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from reference import size_factors
from validation.parity.arms import Arms, arms
from validation.parity.suites import Bench

DATA = ("simulated", "papalexi", "norman", "schraivogel")
Answer = dict[str, np.ndarray]


def answer(bench: Bench, data: str, refit_cooks: bool = False) -> tuple[Arms, Answer]:
    """Return a comparison and PyDESeq2's answer; real ones at total-count size factors."""
    cells = arms(data, bench.cache)
    given: dict[str, np.ndarray] = {"counts": cells.counts}
    if data != "simulated":
        given["size_factors"] = size_factors.scaled(size_factors.total_counts(cells.counts))
    theirs = bench.outside.ask(
        "pydeseq2", "fitted", given, n_control=cells.n_control, refit_cooks=refit_cooks
    )
    return cells, theirs


def by_gene(cells: Arms, compute: Callable[[int], Any], chosen: np.ndarray) -> np.ndarray:
    """Return ``compute(gene)`` of the chosen genes, NaN elsewhere (n_genes, ...)."""
    found = [compute(g) if chosen[g] else None for g in range(len(cells.genes))]
    shape = np.shape(next(one for one in found if one is not None))
    return np.array([np.full(shape, np.nan) if one is None else one for one in found])
