"""Measure calibration and power and write the page.

    python -m validation.calibration --output docs/calibration.md

Real screens are found through ``CRISPYX_DATA_DIR``; those that are not there are left out. What
lies between the two marks of the page is replaced, the words around it stay.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from crispyx.de.calibration_tables import BINS
from validation.calibration.figures import draw
from validation.calibration.methods import LOG_METHODS, NB_METHODS
from validation.calibration.nulls import Shares, shares
from validation.calibration.pools import Null, screens, simulated
from validation.calibration.power import power
from validation.calibration.targets import on_target

BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
METHODS = (*LOG_METHODS, *NB_METHODS)
WITHIN_BATCHES = (*LOG_METHODS, "permutation")  # beside the calibrated preset
BY_BIN = ("calibrated", "LRT")
NULLS = (Null(50), Null(300), Null(50, thin=0.3), Null(300, thin=0.3))
CONFOUNDED = (Null(150, from_one_batch=0.8), Null(150, from_one_batch=0.8, stratified=True))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m validation.calibration", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="page to fill in")
    parser.add_argument("--splits", type=int, default=40, help="of every pool and null (40)")
    parser.add_argument("--other-splits", type=int, default=8, help="for the other methods (8)")
    parser.add_argument("--screens", type=int, default=6, help="simulated for power (6)")
    options = parser.parse_args(arguments)
    figures = draw(options.output.parent, options.other_splits)
    ours: list[Shares] = []
    others: list[Shares] = []
    for pool in (*screens(), simulated(3_000, 2_000, 1)):
        for null in (*NULLS, *(CONFOUNDED if pool.batches is not None else ())):
            ours += shares(pool, null, BY_BIN[: 1 + (not null.stratified)], options.splits)
            rest = WITHIN_BATCHES if null.stratified else [m for m in METHODS if m not in BY_BIN]
            others += shares(pool, null, rest, options.other_splits)
            print(
                pool.name, null.name, [f"{s.method} {s.overall()}" for s in ours[-2:]], flush=True
            )
    parts = [
        *figures,
        "Shares of p below .05 / below .001, all genes.",
        _overall([*ours, *others]),
        "The calibrated preset by mean count of the gene; bold where the lower end of the 99 % "
        "interval lies above .06 or .002. Bins of fewer than 1,000 tests are left empty.",
        _by_bin(s for s in ours if s.method == "calibrated"),
        "The likelihood ratio, the same way.",
        _by_bin(s for s in ours if s.method == "LRT"),
        "Power at p below .001 for effects of one log2 unit (300 perturbed, 2,000 control cells).",
        _power(power(METHODS, options.screens)),
        "Rank of each perturbation's own target among all genes, and its p.",
        _rows(on_target(("Wilcoxon", "documented default", "pydeseq2", "calibrated"))),
    ]
    text = options.output.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    filled = "\n\n".join(parts)
    options.output.write_text(
        f"{before}{BEGIN}\n\n{filled}\n\n{END}{rest.split(END)[1]}", encoding="utf-8"
    )
    return 0


def _overall(found: list[Shares]) -> str:
    methods = dict.fromkeys(s.method for s in found)
    cells = {(s.pool, s.null, s.method): s.overall() for s in found}
    rows = dict.fromkeys((s.pool, s.null) for s in found)
    return table(
        ["pool, cells of a pseudo-perturbation", *methods],
        [[f"{p}, {n.name}", *(cells.get((p, n, m), "") for m in methods)] for p, n in rows],
    )


def _by_bin(found: Iterable[Shares]) -> str:
    return table(
        ["pool", *BINS],
        [[f"{s.pool}, {s.null.name}", *(s.in_bin(b) for b in range(len(BINS)))] for s in found],
    )


def _power(found: dict[str, list[float]]) -> str:
    rows = [[method, *(f"{share:.3f}" for share in by_bin)] for method, by_bin in found.items()]
    return table(["mean count", *BINS], rows)


def _rows(found: list[dict[str, str]]) -> str:
    names = dict.fromkeys(name for row in found for name in row)
    return table(list(names), [[row.get(name, "") for name in names] for row in found])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
