"""Cells to split: those of real screens, and simulated ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from crispyx._stats.calibration import random_split, thinned

FILES = {
    "Papalexi": "papalexi_eccite_299genes",
    "Schraivogel": "schraivogel_tapseq",
    "Gasperini": "gasperini_highmoi",
    "Norman": "norman2019_crispra_500hvg",
    "10x brain": "tenx_brain_10k_1000genes",
}
MOST_CELLS = 4_000
MOST_GROUPS = 10


@dataclass(frozen=True)
class Pool:
    """Cells that are exchangeable: counts (n_cells, n_genes) CSR, and batches where known."""

    name: str
    counts: sparse.csr_array
    batches: np.ndarray | None = None


@dataclass(frozen=True)
class Null:
    """How splits are drawn: cells of a pseudo-perturbation, thinning, share from one batch."""

    n_cells: int
    thin: float = 0.0
    from_one_batch: float = 0.0
    stratified: bool = False

    @property
    def name(self) -> str:
        """How a table calls it."""
        words = [str(self.n_cells)]
        words += ["30 % shallower"] if self.thin else []
        words += ["confounded"] if self.from_one_batch else []
        words += ["within batches"] if self.stratified else []
        return ", ".join(words)


def screens() -> Iterator[Pool]:
    """Read the pools of the real screens."""
    import anndata

    folder = Path(os.environ.get("CRISPYX_DATA_DIR", "."))
    rules: dict[str, tuple[Callable, str | None]] = {
        "Papalexi": (_is("perturbation", "non-targeting"), "bio_rep"),
        "Schraivogel": (_is("perturbation", "non-targeting"), "batch"),
        "Gasperini": (_is("n_guides_umi5", 0), "batch"),
        "Norman": (lambda obs: np.ones(len(obs), bool), None),
        "10x brain": (lambda obs: np.ones(len(obs), bool), None),
    }
    for name, (chosen, batch) in rules.items():
        path = folder / f"{FILES[name]}.h5ad"
        if path.exists():
            data = anndata.read_h5ad(path)
            cells = np.random.default_rng(0).permutation(np.flatnonzero(chosen(data.obs)))
            cells = np.sort(cells[:MOST_CELLS])
            matrix = sparse.csr_array(data.X[cells])
            batches = None if batch is None else np.asarray(data.obs[batch].astype(str))[cells]
            yield Pool(name, matrix.astype(np.float32), batches)


def _is(column: str, value: object) -> Callable:
    return lambda obs: (obs[column] == value).to_numpy()


def simulated(n_cells: int, n_genes: int, seed: int) -> Pool:
    """Draw counts without effects."""
    rng = np.random.default_rng(seed)
    mean, alpha = genes(n_genes, rng)
    return Pool("simulated", drawn_counts(depth(n_cells, rng), mean, alpha, rng))


def genes(n_genes: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw means (n_genes,) from .0005 to 20 counts and dispersions about a trend."""
    mean = np.exp(rng.normal(-3.2, 1.9, n_genes))
    return mean, np.exp(rng.normal(np.log(0.25), 0.6, n_genes)) + 0.02 / mean


def depth(n_cells: int, rng: np.random.Generator) -> np.ndarray:
    """Draw size factors (n_cells,)."""
    return np.exp(rng.normal(0, 0.35, n_cells))


def drawn_counts(
    s: np.ndarray, mean: np.ndarray, alpha: np.ndarray, rng: np.random.Generator
) -> sparse.csr_array:
    """Draw negative binomial counts (n_cells, n_genes)."""
    parts = []
    for some in np.array_split(s, max(1, len(s) // 1_000)):
        rate = rng.gamma(1 / alpha, alpha, (len(some), len(mean)))
        parts.append(sparse.csr_array(rng.poisson(some[:, None] * mean * rate).astype(np.float32)))
    return sparse.csr_array(sparse.vstack(parts))


def split(pool: Pool, null: Null, rng: np.random.Generator) -> tuple[sparse.csr_array, np.ndarray]:
    """Return counts and labels of one split."""
    n_cells = pool.counts.shape[0]
    n_groups = max(1, min(MOST_GROUPS, n_cells // (4 * null.n_cells)))
    weights = None
    if null.from_one_batch and pool.batches is not None:
        names, sizes = np.unique(pool.batches, return_counts=True)
        taken = n_groups * null.n_cells / n_cells
        n_groups = max(1, int(n_groups * min(1.0, 0.5 * sizes.min() / (taken * n_cells))))
        taken = n_groups * null.n_cells / n_cells
        weights = batch_weights(pool.batches, names[0], null.from_one_batch, taken)
    labels = random_split(n_cells, [null.n_cells] * n_groups, rng, weights=weights)
    counts = pool.counts.copy()
    if null.thin:
        of_value = np.repeat(labels > 0, np.diff(counts.indptr))
        counts.data[of_value] = thinned(counts.data[of_value], 1 - null.thin, rng)
        counts.eliminate_zeros()
    return counts, labels


def batch_weights(batches: np.ndarray, favored: object, share: float, taken: float) -> np.ndarray:
    """Return weights with which ``share`` of the drawn cells come from one batch.

    Parameters
    ----------
    batches : numpy.ndarray (n_cells,)
        Batch of each cell.
    favored : object
        The batch.
    share : float
        Expected share of the drawn cells, above 0 and below 1.
    taken : float
        Fraction of all cells that will be drawn.

    Returns
    -------
    numpy.ndarray (n_cells,) float64
    """
    inside = batches == favored
    within = min(taken * share * len(inside) / max(inside.sum(), 1), 0.999)
    beside = min(taken * (1 - share) * len(inside) / max((~inside).sum(), 1), 0.999)
    # A cell of weight w is among the first with probability 1 - exp(-w t).
    return np.where(inside, -np.log1p(-within), -np.log1p(-beside))
