"""Two arms of one comparison: counts of control cells, then of perturbed cells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crispyx._stats.nb_likelihood import Counts, cell_table
from reference.nb_coefficients import Arm
from validation.parity.screens import screen

MOST_CONTROL = 400
# Perturbations with a strong, known effect.
PERTURBATION = {"papalexi": "STAT1", "norman": "KLF1", "schraivogel": "PHF20L1"}


@dataclass(frozen=True)
class Arms:
    """Counts (n_cells, n_genes) int64, the first ``n_control`` cells control."""

    counts: np.ndarray
    n_control: int
    genes: np.ndarray

    def of_gene(self, gene: int, s: np.ndarray) -> tuple[Arm, Arm]:
        """Return both arms of one gene at size factors (n_cells,)."""
        y, n = self.counts[:, gene], self.n_control
        return Arm.of(y[:n], s[:n]), Arm.of(y[n:], s[n:])

    def block(self, s: np.ndarray) -> Counts:
        """Return all genes as the kernels read them, at size factors (n_cells,)."""
        n_cells, n_genes = self.counts.shape
        table = cell_table(s, np.array([0, self.n_control, n_cells]))
        gene, cell = np.nonzero(self.counts.T)
        runs = np.searchsorted(2 * gene + (cell >= self.n_control), np.arange(2 * n_genes + 1))
        run_ptr = np.stack([runs[:-1:2], runs[1::2], runs[2::2]], axis=1)
        values = self.counts[cell, gene].astype(np.float64)
        return Counts(values, table.rank[cell], run_ptr, table)


def arms(data: str, cache: Path) -> Arms:
    """Return a simulated comparison, or one of a real screen, by name."""
    if data == "simulated":
        return simulated_arms(n_cells=480, n_genes=250, seed=3)
    cells = screen(data, cache)
    control = np.flatnonzero(cells.code == 0)[:MOST_CONTROL]
    place = int(np.flatnonzero(cells.groups == PERTURBATION[data])[0])
    chosen = np.concatenate([control, np.flatnonzero(cells.code == place + 1)])
    counts = cells.dense_counts[chosen]
    expressed = counts.sum(axis=0) > 0
    return Arms(counts[:, expressed], len(control), cells.genes[expressed])


def simulated_arms(n_cells: int, n_genes: int, seed: int) -> Arms:
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
    kept = counts.sum(axis=0) > 0
    names = np.array([f"GENE{j:03d}" for j in np.flatnonzero(kept)])
    return Arms(counts[:, kept], n_control, names)
