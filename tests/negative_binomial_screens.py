"""A small screen of counts, and the public negative binomial test of it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from layouts import COLUMN, write_h5ad

import crispyx as cx
from crispyx.de import RankGenesGroupsResult
from crispyx.errors import CrispyxWarning

EVERY_GENE = {"min_pct_both": 0.0, "min_mean_ctrl": 0.0, "min_mean_pert": 0.0}


def nb_screen(
    n_genes: int = 14, sizes: tuple[int, ...] = (40, 16, 9), seed: int = 12
) -> tuple[np.ndarray, list[str | None]]:
    """Return counts (n_cells, n_genes) and labels: control, A and B mixed, two cells without.

    Genes 0 and 1 are silent in A and in the control, gene 2 everywhere; gene 3 has an outlying
    count, gene 4 rests on one cell, the last two are expressed in all cells.
    """
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    s = np.exp(rng.normal(0, 0.4, groups.size))
    mean, alpha = np.exp(rng.normal(0, 1.6, n_genes)), 0.1 + rng.gamma(2, 0.2, n_genes)
    mu = s[:, None] * mean * np.exp(rng.normal(0, 0.5, (len(sizes), n_genes)))[groups]
    y = rng.poisson(mu * rng.gamma(1 / alpha, alpha, mu.shape)).astype(float)
    y[groups == 1, 0] = 0
    y[groups == 0, 1] = 0
    y[:, 2] = 0
    y[np.flatnonzero(groups == 2)[3], 3] = 900
    y[:, 4] = 0
    y[np.flatnonzero(groups == 1)[0], 4] = 60
    y[:, -2:] = 1 + rng.poisson(6 * s[:, None], (groups.size, 2))
    names = np.array(["control", "A", "B", *(f"P{k}" for k in range(len(sizes) - 3))])
    # A comes first, and two cells carry no label.
    order = np.argsort(np.arange(groups.size) != np.flatnonzero(groups == 1)[0], kind="stable")
    labels: list[str | None] = names[groups[order]].tolist()
    labels[20] = labels[33] = None
    return y[order], labels


def write_screen(path: Path, layout: str = "csr", **shape: Any) -> Path:
    """Write the screen as an h5ad file."""
    return write_h5ad(path, *nb_screen(**shape), layout=layout)


def run_nb(data: Any, output: Path, **options: Any) -> RankGenesGroupsResult:
    """Test every gene without a word; the result goes to ``output``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CrispyxWarning)
        return cx.nb_glm_test(
            data,
            perturbation_column=COLUMN,
            output_path=output,
            force=True,
            **EVERY_GENE | options,
        )
