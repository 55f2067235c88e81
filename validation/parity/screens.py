"""The screens that methods are compared on: real ones, and a simulated one of two batches."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from validation.benchmarks.screens import normalized_values, write_contiguous
from validation.cache import digest, new_folder

SIMULATED: Mapping[str, Any] = {
    "n_cells": 1_500,
    "n_genes": 300,
    "n_perturbations": 8,
    "n_control_guides": 8,
    "n_batches": 3,
    "gene_log_mean": -3.0,
    "moi": 1e-6,
    "fraction_without_guide": 0.0,
    "with_labels": True,
    "dtype": "float32",
}
BATCH = {"papalexi": "bio_rep", "schraivogel": "batch", "simulated": "batch"}
# Guides of the Schraivogel screen.
ALL_GUIDES = 86


@dataclass(frozen=True)
class Screen:
    """A screen in files whose obs has ``perturbation``, and ``batch`` where there are batches.

    Attributes
    ----------
    counts, logged : pathlib.Path
        Counts, and log1p of counts per 10,000: CSR, float32.
    control : str
        Label of the control cells.
    """

    name: str
    counts: Path
    logged: Path
    control: str

    @cached_property
    def cells(self) -> Any:
        """The log-normalized screen in memory."""
        import anndata

        return anndata.read_h5ad(self.logged)

    @cached_property
    def groups(self) -> np.ndarray:
        """Perturbations in alphabetical order (n_groups,) str."""
        labels = np.unique(self.cells.obs["perturbation"].astype(str))
        return labels[labels != self.control]

    @property
    def genes(self) -> np.ndarray:
        """Names of the genes (n_genes,) str."""
        return np.asarray(self.cells.var_names, dtype=str)

    @cached_property
    def code(self) -> np.ndarray:
        """0 for the control, then 1 + place in ``groups`` (n_cells,) int64."""
        labels = self.cells.obs["perturbation"].astype(str).to_numpy()
        place = np.searchsorted(self.groups, labels)
        return np.where(labels == self.control, 0, place + 1)

    @cached_property
    def batch(self) -> np.ndarray:
        """Number of the batch of each cell (n_cells,) int64."""
        return np.unique(self.cells.obs["batch"].astype(str), return_inverse=True)[1]

    @cached_property
    def dense(self) -> np.ndarray:
        """Log-normalized expression (n_cells, n_genes) float64."""
        return np.asarray(self.cells.X.toarray(), dtype=np.float64)

    @cached_property
    def dense_counts(self) -> np.ndarray:
        """Counts (n_cells, n_genes) int64."""
        import anndata

        return np.asarray(anndata.read_h5ad(self.counts).X.toarray(), dtype=np.int64)


def screen(name: str, cache: Path) -> Screen:
    """Return a screen by name, preparing its files when the cache has none.

    Raises
    ------
    FileNotFoundError
        A real screen is neither here nor to be had.
    """
    folder = cache / "parity" / f"{name}-{digest(dict(SIMULATED) if name == 'simulated' else 1)}"
    if not (folder / "facts.json").is_file():
        with new_folder(folder) as work:
            control = _prepare(name, work)
            (work / "facts.json").write_text(json.dumps({"control": control}), encoding="utf-8")
    control = json.loads((folder / "facts.json").read_text(encoding="utf-8"))["control"]
    return Screen(name, folder / "counts.h5ad", folder / "logged.h5ad", control)


def guides(name: str, cache: Path) -> Path:
    """Return a file of the guide counts of the Schraivogel screen, in the published order.

    ``guides`` has all; ``guides-12`` has the first twelve, then one column with the sum of the
    others, so that the guide UMIs of every cell are what they are; ``guides-2-cells-4000`` has the
    first cells of such a file.
    """
    import anndata
    from scipy import sparse

    import crispyx as cx

    path = cache / "parity" / name / "guides.h5ad"
    if not path.is_file():
        counts = anndata.read_h5ad(cx.datasets.schraivogel().guides)
        counts = counts[: _parts(name).get("cells")].copy()
        first = n_guides(name)
        if first < counts.n_vars:
            rest = sparse.csr_matrix(counts.X[:, first:].sum(axis=1))
            kept = counts[:, : first + 1].copy()
            kept.X = sparse.hstack([counts.X[:, :first], rest], format="csr")
            counts = kept
            counts.var_names = [*counts.var_names[:first], "other guides"]
        with new_folder(path.parent) as work:
            counts.write_h5ad(work / path.name)
    return path


def n_guides(name: str) -> int:
    """Return how many guides of a file are compared; the sum of the others is not one."""
    return _parts(name).get("guides", ALL_GUIDES)


def _parts(name: str) -> dict[str, int]:
    """Return numbers by word: 2 guides and 4,000 cells of ``guides-2-cells-4000``."""
    words = name.split("-")
    return {word: int(n) for word, n in zip(words[::2], words[1::2], strict=False)}


def _prepare(name: str, work: Path) -> str:
    import anndata
    from scipy import sparse

    import crispyx as cx

    if name == "simulated":
        found = cx.datasets.simulate_screen(work / "simulated", **SIMULATED)
    else:
        found = getattr(cx.datasets, name)()
    source = anndata.read_h5ad(found.expression)
    obs = source.obs[[found.perturbation_column]].astype(str)
    obs.columns = ["perturbation"]
    if name in BATCH:
        obs["batch"] = source.obs[BATCH[name]].astype(str)
    obs = obs.astype("category")
    counts = sparse.csr_matrix(source.X, dtype=np.float32)
    counts.sort_indices()
    write_contiguous(work / "counts.h5ad", counts, obs, source.var[[]])
    write_contiguous(work / "logged.h5ad", normalized_values(counts), obs, source.var[[]])
    shutil.rmtree(work / "simulated", ignore_errors=True)
    assert found.control_label is not None
    return str(found.control_label)
