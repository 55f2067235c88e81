"""Guide screens: Schraivogel's with crispat's published calls, and simulated ones with truth."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import minimize


class GuideScreen(NamedTuple):
    """Counts (n_cells, n_guides), names, and where crispat's assignments are."""

    counts: NDArray[np.int64]
    cells: pd.Index
    guides: pd.Index
    published: Path

    @property
    def depth(self) -> NDArray[np.int64]:
        return self.counts.sum(axis=1)

    def jaccard(self, assigned: NDArray[np.bool_], name: str) -> float:
        """Compare the pairs of ``assigned`` (n_cells, n_guides) with a published table."""
        cell, guide = np.nonzero(assigned)
        ours = set(zip(self.cells[cell], self.guides[guide], strict=True))
        table = pd.read_csv(self.published / f"{name}.csv.gz")
        theirs = set(zip(table["cell"], table["gRNA"], strict=True))
        return len(ours & theirs) / len(ours | theirs)


def schraivogel(data_dir: Path) -> GuideScreen:
    guides = ad.read_h5ad(data_dir / "schraivogel_gRNA_counts.h5ad")
    counts = guides.X.toarray().astype(np.int64)
    return GuideScreen(counts, guides.obs_names, guides.var_names, data_dir / "crispat_reference")


def scipy_maximum(objective, starts, bounds, admissible) -> float:
    """Largest objective that bounded L-BFGS-B reaches from the starts at an admissible point."""
    ends = [
        minimize(
            lambda v: -objective(v),
            start,
            method="L-BFGS-B",
            bounds=bounds,
            options={"ftol": 1e-13, "gtol": 1e-9, "maxiter": 2000, "maxfun": 20_000},
        )
        for start in starts
    ]
    return max((-end.fun for end in ends if admissible(end.x)), default=-np.inf)


class SimulatedGuides(NamedTuple):
    """Counts (n_cells, n_guides) CSR int32 and which pairs of cell and guide are true, CSR bool."""

    counts: sp.csr_matrix
    carried: sp.csr_matrix


def simulated_guides(
    n_cells: int = 200_000, n_guides: int = 2_000, seed: int = 0
) -> SimulatedGuides:
    """Draw a guide screen: ambient UMIs everywhere, and those of the guides a cell carries.

    A cell has depth d with log d ~ N(0, 0.6), a number of guides ~ Pois(1.1), NB(3) UMIs of mean
    60 d from each, and Pois(14 d) ambient UMIs spread evenly over the guides.
    """
    rng = np.random.default_rng(seed)
    depth = rng.lognormal(0, 0.6, n_cells)
    cell = np.repeat(np.arange(n_cells), rng.poisson(1.1, n_cells))
    abundance = rng.lognormal(0, 0.5, n_guides)
    guide = rng.choice(n_guides, cell.size, p=abundance / abundance.sum())
    pair = np.unique(cell * n_guides + guide)
    cell, guide = pair // n_guides, pair % n_guides
    umi = rng.negative_binomial(3, 3 / (3 + 60 * depth[cell]))
    ambient_cell = np.repeat(np.arange(n_cells), rng.poisson(14 * depth))
    ambient_guide = rng.choice(n_guides, ambient_cell.size, p=abundance / abundance.sum())
    rows, columns = np.concatenate([cell, ambient_cell]), np.concatenate([guide, ambient_guide])
    values = np.concatenate([umi, np.ones(ambient_cell.size, dtype=np.int64)]).astype(np.int32)
    counts = sp.csr_matrix((values, (rows, columns)), shape=(n_cells, n_guides))
    counts.eliminate_zeros()
    carried = sp.csr_matrix((np.ones(cell.size, bool), (cell, guide)), shape=counts.shape)
    return SimulatedGuides(counts, carried)
