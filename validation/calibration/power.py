"""Power at p < .001 for effects of one log2 unit, beside an oracle."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.special import erfc

from crispyx._stats.score_test import score_tests
from crispyx.de.calibration_tables import BINS, EDGES
from validation.calibration.methods import grouped, pvalues
from validation.calibration.pools import depth, drawn_counts, genes

ORACLE = "oracle"
RICH_ORACLE = "oracle with 30,000 control cells"
N_CONTROL, N_ORACLE_CONTROL, N_PERTURBED, N_GENES = 2_000, 30_000, 300, 3_000
LEVEL = 0.001


def power(methods: tuple[str, ...], n_screens: int) -> dict[str, list[float]]:
    """Return the share of genes with an effect that every method finds, by mean count.

    The oracle is the score test at the true size factors and dispersions, of the same cells or with
    so many control cells that their mean is known as well.
    """
    found = {method: np.zeros(len(BINS)) for method in (RICH_ORACLE, ORACLE, *methods)}
    changed_genes = np.zeros(len(BINS))
    for number in range(n_screens):
        rng = np.random.default_rng([number, 99])
        mean, alpha = genes(N_GENES, rng)
        changed = rng.random(N_GENES) < 0.2
        effect = np.where(changed, rng.choice([0.5, 2.0], N_GENES), 1.0)
        s0, s1 = depth(N_ORACLE_CONTROL, rng), depth(N_PERTURBED, rng)
        control, perturbed = (
            drawn_counts(s, mean * e, alpha, rng) for s, e in ((s0, 1.0), (s1, effect))
        )
        place = np.searchsorted(EDGES, mean, "right") - 1
        np.add.at(changed_genes, place[changed], 1)
        for method in found:
            if method == RICH_ORACLE:
                p = _oracle(control, perturbed, np.concatenate([s0, s1]), alpha)
            elif method == ORACLE:
                s = np.concatenate([s0[:N_CONTROL], s1])
                p = _oracle(control[:N_CONTROL], perturbed, s, alpha)
            else:
                counts = sparse.csr_array(sparse.vstack([control[:N_CONTROL], perturbed]))
                labels = np.repeat([0, 1], [N_CONTROL, N_PERTURBED])
                p = pvalues(counts, labels, None, method)[0]
            np.add.at(found[method], place[changed & (p < LEVEL)], 1)
    return {name: (hits / np.maximum(changed_genes, 1)).tolist() for name, hits in found.items()}


def _oracle(
    control: sparse.csr_array, perturbed: sparse.csr_array, s: np.ndarray, alpha: np.ndarray
) -> np.ndarray:
    counts = sparse.csr_array(sparse.vstack([control, perturbed]))
    labels = np.repeat([0, 1], [control.shape[0], perturbed.shape[0]])
    tests = score_tests(grouped(counts, labels, s), alpha[None], 1, "compiled")
    return erfc(np.abs(tests.root[0]) / np.sqrt(2))
