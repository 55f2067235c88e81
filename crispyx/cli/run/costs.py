"""What a step will take, from figures per stored value, cell and result.

Wilcoxon's test, the t-test, quality control and normalization were measured with two threads on a
screen of 100,000 cells x 8,000 genes, 1,000 perturbations and 80.6 million stored values
(docs/benchmarks.md). The other figures are rough: single runs on a busy machine, or guesses of the
order of magnitude.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# Seconds per stored value; of neighbors and umap per cell.
SECONDS_PER_VALUE = {
    "join": 8e-9,
    "qc": 27e-9,
    "normalize": 16e-9,
    "wilcoxon": 30e-9,
    "t-test": 33e-9,
    "nb-glm": 150e-9,
    "calibration": 600e-9,  # ten splits by three methods, the control a quarter of the screen
}
SECONDS_PER_CELL = {"neighbors": 1e-3, "umap": 1.2e-3}
COMPILING = 15.0  # seconds that the first nearest neighbors of a process take besides
PCA_SMALL, PCA_LARGE = 60e-9, 750e-9  # up to 2,000 genes, and above
SECONDS_PER_GUIDE_CELL = 6e-8
SECONDS_PER_PAIR = 8e-6  # of a perturbation and a gene, in the report
START = 0.4  # seconds that any step takes
BYTES_PER_VALUE = 8.1
BYTES_PER_PAIR = 56.5
# Memory beyond the process itself, per stored value: what is held, or mapped, at the peak.
MEMORY_PER_VALUE = {"qc": 2.0, "wilcoxon": 11.0, "t-test": 11.0, "nb-glm": 11.0, "pca": 8.0}
PROCESS = 0.15e9
FEW_GENES = 2000


@dataclass(frozen=True)
class Size:
    """Numbers of a screen.

    Attributes
    ----------
    n_cells, n_genes, n_stored, n_bytes : int
        Expression matrix and its file.
    n_perturbations : int
        Labels; a guess where guides have not been called yet.
    n_guides : int
        Guides; 0 without guide counts.
    """

    n_cells: int
    n_genes: int
    n_stored: int
    n_bytes: int
    n_perturbations: int
    n_guides: int


@dataclass(frozen=True)
class Cost:
    """What a step takes: seconds, bytes of memory at the peak, bytes on disk that stay."""

    seconds: float
    memory: float
    disk: float


def cost_of(step: str, method: str, size: Size, budget: float) -> Cost:
    """Return what a step takes on a screen of this size within a memory budget in bytes."""
    kind = method if step == "de" else step
    pairs = size.n_perturbations * size.n_genes
    seconds = START + SECONDS_PER_VALUE.get(kind, 0.0) * size.n_stored
    seconds += SECONDS_PER_CELL.get(kind, 0.0) * size.n_cells
    if step == "neighbors":
        seconds += COMPILING
    held = MEMORY_PER_VALUE.get(kind, 0.5) * size.n_stored
    disk = 0.0
    if step == "guides":
        seconds += SECONDS_PER_GUIDE_CELL * size.n_guides * size.n_cells
        disk = 40.0 * size.n_cells
    elif step == "join":
        disk = float(size.n_bytes)
    elif step in ("qc", "normalize"):
        disk = BYTES_PER_VALUE * size.n_stored
    elif step == "pca":
        seconds += (PCA_SMALL if size.n_genes <= FEW_GENES else PCA_LARGE) * size.n_stored
        disk = 200.0 * size.n_cells
    elif step in ("neighbors", "umap"):
        held = 0.5e9 + 2_000.0 * size.n_cells
        disk = 360.0 * size.n_cells if step == "neighbors" else 8.0 * size.n_cells
    elif step == "de":
        disk = BYTES_PER_PAIR * pairs
    elif step == "report":
        seconds += SECONDS_PER_PAIR * pairs / 10 + 3.0
        held = 60.0 * pairs
        disk = 0.4e6 + 2_500.0 * size.n_perturbations
    streamed = step not in ("neighbors", "umap", "report")
    memory = PROCESS + held
    return Cost(seconds, min(memory, budget) if streamed else memory, disk)


def size_of(expression: Path, guides: Path | None, column: str | None) -> Size:
    """Return the numbers of a screen without reading its matrix."""
    from crispyx._io.source import open_source

    n_guides = 0
    if guides is not None:
        with open_source(guides) as counts:
            n_guides = counts.shape[1]
    with open_source(expression) as source:
        n_perturbations = n_guides
        if column is not None and column in source.obs.columns:
            n_perturbations = len({label for label in source.obs.column(column) if label})
        return Size(
            n_cells=source.shape[0],
            n_genes=source.shape[1],
            n_stored=int(source.storage.n_stored),
            n_bytes=os.path.getsize(expression) if expression.is_file() else 0,
            n_perturbations=n_perturbations,
            n_guides=n_guides,
        )
