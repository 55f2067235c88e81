"""What a step will take: measured rates times the numbers of the screen.

``python -m validation.plan_costs`` runs every step by itself on simulated screens of growing size,
two threads, fits the rates below to what each took, and prints them with what they leave
unexplained (docs/command_line.md).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

BASIS = "fitted to runs of simulated screens with two threads"

Rates = Mapping[str, float]
# By kind of step and by term of `terms_of`. What the fits could not tell from 0 is left out, but
# for the copy that "join" makes (a billion bytes a second) and the guides of docs/benchmarks.md.
SECONDS: Mapping[str, Rates] = {
    "guides": {"steps": 0.85, "guide counts": 200e-9},
    "join": {"steps": 0.84, "values": 8e-9},
    "qc": {"steps": 0.79, "values": 16e-9},
    "normalize": {"steps": 0.03, "values": 12.6e-9},
    "pca, covariance": {"steps": 0.9, "products": 1.9e-9},
    "pca, iterated": {"steps": 0.9, "values": 200e-9},
    "neighbors": {"steps": 34.0, "cells": 220e-6},  # most of it compiles their library
    "umap": {"steps": 2.5, "moves": 2.6e-6},
    "wilcoxon": {"steps": 0.3, "values": 29e-9},
    "t-test": {"steps": 0.47, "values": 27e-9, "pairs": 9e-9},
    "nb-glm": {"steps": 0.58, "values": 121e-9},
    "calibration": {"steps": 1.76, "split values": 165e-9},
    "report": {"steps": 2.5, "perturbations": 1.6e-3},
}
# Resident bytes beyond those of `import crispyx`.
MEMORY: Mapping[str, Rates] = {
    "guides": {"steps": 98e6, "guide counts": 195.0},
    "join": {"steps": 99e6, "values": 1.0},
    "qc": {"steps": 121e6, "values": 0.73},
    "normalize": {"steps": 10e6, "values": 0.5},
    "pca, covariance": {"steps": 98e6, "values": 14.7},
    "pca, iterated": {"steps": 98e6, "values": 14.7},
    "neighbors": {"steps": 433e6, "cells": 2_200.0},
    "umap": {"steps": 253e6, "cells": 2_200.0},
    "wilcoxon": {"steps": 73e6, "values": 10.7},
    "t-test": {"steps": 80e6, "values": 10.8},
    "nb-glm": {"steps": 83e6, "values": 12.0},
    "calibration": {"steps": 97e6, "values": 38.3},
    "report": {"steps": 142e6, "pairs": 88.7},
}
DISK: Mapping[str, Rates] = {
    "guides": {"steps": 34e3, "cells": 115.0},
    "join": {"file": 1.0, "cells": 15.3},
    "qc": {"values": 7.4},
    "normalize": {"values": 7.4},
    "pca, covariance": {"steps": 100e3, "cells": 206.0},
    "pca, iterated": {"steps": 100e3, "cells": 206.0, "genes": 400.0},
    "neighbors": {"cells": 365.0},
    "umap": {"cells": 8.0},
    "wilcoxon": {"pairs": 55.7},
    "t-test": {"pairs": 40.0},
    "nb-glm": {"pairs": 111.0},
    "calibration": {"steps": 163e3},
    "report": {"steps": 68e3, "pairs": 3.4, "perturbations": 12.4e3},
}
PROCESS = 0.083e9  # bytes of a process that has imported crispyx
# These hold what they work on; the others keep to the memory budget.
HELD = ("neighbors", "umap", "report")
FEW_GENES = 2000  # up to which components come from a covariance matrix
FEW_CELLS, MANY_EPOCHS, EPOCHS = 10_000, 500, 200  # of the layout
N_SPLITS, GROUPS, METHODS = 10, 10, 3  # of the calibration, by default
UNKNOWN_CONTROL = 0.1  # share of the control where guides have not been called yet


@dataclass(frozen=True)
class Size:
    """Numbers of a screen.

    Attributes
    ----------
    n_cells, n_genes, n_stored, n_bytes : int
        Expression matrix and its file.
    n_perturbations : int
        Labels; where guides have not been called yet, their number, which is the most there can be.
    control : float
        Share of the cells that are the control; a guess where guides have not been called yet.
    n_guides, n_guide_counts : int
        Guides and their stored counts; 0 without guide counts.
    """

    n_cells: int
    n_genes: int
    n_stored: int
    n_bytes: int
    n_perturbations: int
    control: float
    n_guides: int
    n_guide_counts: int


@dataclass(frozen=True)
class Cost:
    """What a step takes: seconds, bytes of memory at the peak, bytes on disk that stay."""

    seconds: float
    memory: float
    disk: float


def kind_of(step: str, method: str, n_genes: int) -> str:
    """Return the name under which a step's rates stand."""
    if step == "de":
        return method
    if step == "pca":
        return "pca, covariance" if n_genes <= FEW_GENES else "pca, iterated"
    return step


def terms_of(size: Size, n_splits: int = N_SPLITS) -> dict[str, float]:
    """Return what costs are proportional to, by name.

    ``steps`` is 1; ``products`` are those of two values of one cell, which a covariance adds up;
    ``moves`` those of UMAP's layout; ``split values`` and ``split pairs`` what the calibration
    tests by all its methods.
    """
    tests = METHODS * n_splits
    return {
        "steps": 1.0,
        "values": float(size.n_stored),
        "cells": float(size.n_cells),
        "genes": float(size.n_genes),
        "pairs": float(size.n_perturbations * size.n_genes),
        "perturbations": float(size.n_perturbations),
        "products": size.n_stored**2 / max(size.n_cells, 1),
        "moves": size.n_cells * float(MANY_EPOCHS if size.n_cells <= FEW_CELLS else EPOCHS),
        "guides": float(size.n_guides),
        "guide counts": float(size.n_guide_counts),
        "file": float(size.n_bytes),
        "splits": float(tests),
        "split values": tests * size.control * size.n_stored,
        "split pairs": float(tests * min(GROUPS, size.n_perturbations) * size.n_genes),
    }


def cost_of(step: str, method: str, size: Size, budget: float, n_splits: int = N_SPLITS) -> Cost:
    """Return what a step takes on a screen of this size within a memory budget in bytes."""
    kind, terms = kind_of(step, method, size.n_genes), terms_of(size, n_splits)
    seconds, memory, disk = (
        sum(rate * terms[name] for name, rate in rates.get(kind, {}).items())
        for rates in (SECONDS, MEMORY, DISK)
    )
    memory += PROCESS
    return Cost(seconds, memory if step in HELD else min(memory, budget), disk)


def size_of(
    expression: Path, guides: Path | None, column: str | None, control_label: str | None = None
) -> Size:
    """Return the numbers of a screen without reading its matrix."""
    from crispyx._io.source import open_source

    n_guides = n_guide_counts = 0
    if guides is not None:
        with open_source(guides) as counts:
            n_guides, n_guide_counts = counts.shape[1], int(counts.storage.n_stored)
    with open_source(expression) as source:
        n_perturbations, control = n_guides, UNKNOWN_CONTROL
        if guides is None and column is not None and column in source.obs.columns:
            labels = [label for label in source.obs.column(column) if label]
            n_perturbations = len(set(labels))
            control = _control_share(labels, control_label)
        return Size(
            n_cells=source.shape[0],
            n_genes=source.shape[1],
            n_stored=int(source.storage.n_stored),
            n_bytes=os.path.getsize(expression) if expression.is_file() else 0,
            n_perturbations=n_perturbations,
            control=control,
            n_guides=n_guides,
            n_guide_counts=n_guide_counts,
        )


def _control_share(labels: list[str], control_label: str | None) -> float:
    from crispyx._jobs.labels import resolve_control_label
    from crispyx.errors import InputError

    try:
        control = resolve_control_label(labels, control_label, verbose=False)
    except InputError:  # the step that needs it will say so
        return UNKNOWN_CONTROL
    return labels.count(control) / max(len(labels), 1)
