"""The guide counts that are compared on: a real screen, part of it, and a simulated one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from validation.cache import digest, new_folder

FACTS = "guides.json"
GUIDE_SETS = ("schraivogel", "schraivogel-12", "schraivogel-2", "simulated-2000")
# 100 targets of 20 guides stand for 2,000 guides; expression is not looked at. Cells have
# Poisson(1.1) guides: none with probability exp(-1.1), else a zero-truncated number.
SIMULATED: Mapping[str, Any] = {
    "n_cells": 200_000,
    "n_genes": 400,
    "library_size": 1.0,
    "n_perturbations": 99,
    "guides_per_perturbation": 20,
    "n_control_guides": 20,
    "moi": 1.1,
    "fraction_without_guide": 0.33287108369807955,
    "library_log_sd": 0.6,
    "signal_umi": 72.0,
    "signal_size": 3.0,
    "signal_depth_exponent": 1.0,
    "ambient_umi": 16.8,
    "ambient_depth_exponent": 1.0,
}


@dataclass(frozen=True)
class GuideSet:
    """Guide counts of one screen, and what is known about them.

    Attributes
    ----------
    counts : str
        h5ad file, cells x guides.
    truth : str
        npz file with the (cell, guide) pairs that are there; empty when nobody knows.
    """

    name: str
    counts: str
    n_cells: int
    n_guides: int
    n_stored: int
    truth: str


def guide_set(name: str, cache: Path) -> GuideSet:
    """Return guide counts by name, preparing them when the cache has none.

    Raises
    ------
    ValueError
        There are no guide counts of this name.
    """
    if name not in GUIDE_SETS:
        raise ValueError(f"guide set is {name!r}; choose one of {', '.join(GUIDE_SETS)}")
    folder = cache / "guides" / f"{name}-{digest(SIMULATED, list(GuideSet.__annotations__))}"
    if not (folder / FACTS).is_file():
        with new_folder(folder) as work:
            prepare = _simulated if name.startswith("simulated") else _real
            facts = json.dumps(asdict(prepare(name, work, folder)), indent=2)
            (work / FACTS).write_text(facts, encoding="utf-8")
    return GuideSet(**json.loads((folder / FACTS).read_text(encoding="utf-8")))


def _real(name: str, work: Path, folder: Path) -> GuideSet:
    """Write the first guides of the Schraivogel screen, or all, in the published order."""
    import anndata

    import crispyx as cx

    first = int(name.partition("-")[2] or 0)
    counts = anndata.read_h5ad(cx.datasets.schraivogel().guides)
    counts = counts[:, :first].copy() if first else counts
    counts.write_h5ad(work / "counts.h5ad")
    return GuideSet(
        name=name,
        counts=str(folder / "counts.h5ad"),
        n_cells=counts.n_obs,
        n_guides=counts.n_vars,
        n_stored=int(counts.X.nnz),
        truth="",
    )


def published_calls() -> dict[str, Path]:
    """Return crispat's published calls of the Schraivogel screen by model, where there are any."""
    folder = Path(os.environ.get("CRISPYX_DATA_DIR", "")) / "crispat_reference"
    names = {
        "umi": "umi_t5",
        "max": "max_umi3",
        "ratio": "ratio_t0.3",
        "quantiles": "quantiles_t0.1",
        "gauss": "gauss_em",
        "poisson_gauss": "poisson_gauss",
        "neg_binomial": "neg_binomial_guides_0-4",
        "beta2": "beta2",
        "beta3": "beta3",
    }
    paths = {model: folder / f"{stem}.csv.gz" for model, stem in names.items()}
    return {model: path for model, path in paths.items() if path.is_file()}


def _simulated(name: str, work: Path, folder: Path) -> GuideSet:
    import anndata
    import numpy as np

    import crispyx as cx

    found = cx.datasets.simulate_screen(work / "simulated", **SIMULATED)
    assert found.guides is not None
    assert found.truth is not None
    pairs = anndata.read_h5ad(found.truth).uns["cell_guides"].tocoo()
    np.savez(work / "truth.npz", cells=pairs.row, guides=pairs.col)
    found.guides.rename(work / "counts.h5ad")
    counts = anndata.read_h5ad(work / "counts.h5ad", backed="r")
    facts = GuideSet(
        name=name,
        counts=str(folder / "counts.h5ad"),
        n_cells=counts.n_obs,
        n_guides=counts.n_vars,
        n_stored=int(counts.X[:].nnz),
        truth=str(folder / "truth.npz"),
    )
    counts.file.close()
    shutil.rmtree(work / "simulated")
    return facts
