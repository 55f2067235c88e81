"""The Schraivogel guide screen and the pairs of cell and guide that crispat published for it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
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
