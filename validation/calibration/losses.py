"""What the calibrated preset loses beside the oracle, and to what.

    python -m validation.calibration.losses --screens 60

As ``validation.calibration.power``, without the oracle of many control cells: enough simulated
genes to tell shares of few per cent apart.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from scipy import sparse
from scipy.special import erfc

from crispyx._stats.score_test import score_tests
from crispyx.de.calibration_tables import BINS, EDGES
from validation.calibration.methods import CALIBRATED, depths, grouped, nb_table
from validation.calibration.pools import depth, drawn_counts, genes
from validation.calibration.power import LEVEL, N_CONTROL, N_GENES, N_PERTURBED

LABELS = np.repeat([0, 1], [N_CONTROL, N_PERTURBED])
TESTS = (
    "calibrated",
    "totals of unchanged genes",
    "true dispersions",
    "true size factors",
    "oracle",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, test and print; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m validation.calibration.losses")
    parser.add_argument("--screens", type=int, default=60, help="simulated ones (60)")
    options = parser.parse_args(arguments)
    n_genes, found = np.zeros((2, len(BINS)), int), np.zeros((2, len(TESTS), len(BINS)), int)
    for number in range(options.screens):
        place, changed, pvalues = tested(number)
        for null, chosen in enumerate((changed, ~changed)):
            np.add.at(n_genes[null], place[chosen], 1)
            for k, p in enumerate(pvalues):
                np.add.at(found[null, k], place[chosen & (p < LEVEL)], 1)
    for null, title in enumerate(("genes with an effect", "genes without")):
        print(f"{title}, by mean count:", *map("{}: {:,};".format, BINS, n_genes[null]))
        for name, hits in zip(TESTS, found[null], strict=True):
            shares = hits / np.maximum(n_genes[null], 1)
            print(f"{name:<26}", *map("{:.4f}".format, shares), f"p < {LEVEL:g}")
    return 0


def tested(number: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Return the bin of each gene's mean, whether it changed, and its p by every test."""
    rng = np.random.default_rng([number, 1234])
    mean, alpha = genes(N_GENES, rng)
    changed = rng.random(N_GENES) < 0.2
    effect = np.where(changed, rng.choice([0.5, 2.0], N_GENES), 1.0)
    s0, s1 = depth(N_CONTROL, rng), depth(N_PERTURBED, rng)
    cells = drawn_counts(s0, mean, alpha, rng), drawn_counts(s1, mean * effect, alpha, rng)
    counts = sparse.csr_array(sparse.vstack(cells))
    true, totals = np.concatenate([s0, s1]), depths(counts)
    of_unchanged = depths(sparse.csr_array(counts[:, ~changed]))
    pvalues = [
        nb_table(counts, LABELS, None, CALIBRATED, totals)["pvalue"][0],
        nb_table(counts, LABELS, None, CALIBRATED, of_unchanged)["pvalue"][0],
        _score(counts, totals, alpha),
        nb_table(counts, LABELS, None, CALIBRATED, true)["pvalue"][0],
        _score(counts, true, alpha),
    ]
    return np.searchsorted(EDGES, mean, "right") - 1, changed, pvalues


def _score(counts: sparse.csr_array, s: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    tests = score_tests(grouped(counts, LABELS, s), alpha[None], 1, "compiled")
    return erfc(np.abs(tests.root[0]) / np.sqrt(2))


if __name__ == "__main__":
    sys.exit(main())
