"""Rank sums of counts and of log expression: illico."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

import crispyx as cx
from validation.parity.check import Check
from validation.parity.ours import by_engine, tested
from validation.parity.screens import screen
from validation.parity.suites import Bench, Case


def _rank_sums(counts: bool) -> Callable[[Bench, str], Iterator[Check]]:
    def checks(bench: Bench, data: str) -> Iterator[Check]:
        cells = screen(data, bench.cache)
        path = cells.counts if counts else cells.logged
        theirs = bench.outside.ask(
            "illico",
            "rank_sums",
            files={"screen": path},
            control=cells.control,
            is_log1p=not counts,
        )
        order = np.argsort(cells.genes)
        reference, compiled = by_engine(tested(cx.wilcoxon_test, path, cells.control))
        labels = (cells.groups, cells.genes[order])
        kind = "counts" if counts else "log"
        for quantity, name in (("z", "statistics"), ("p", "pvalues")):
            ours = reference[name][:, order], compiled[name][:, order]
            yield Check("rank_sum", f"{quantity}, {kind}", theirs[quantity], *ours, labels=labels)

    return checks


CASES = (
    *(Case("rank_sum", data, _rank_sums(False)) for data in ("simulated", "papalexi", "norman")),
    *(Case("rank_sum", data, _rank_sums(True)) for data in ("simulated", "schraivogel")),
)
