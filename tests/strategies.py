"""Data that methods must survive, for hypothesis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from layouts import grouped, membership_of

from crispyx._kernels.layout import GroupedGenes

# Values of one gene, by kind. Zeros are frequent, as in every screen.
GENES: dict[str, st.SearchStrategy[float]] = {
    "counts": st.sampled_from([0, 0, 0, 0, 1, 1, 2, 3, 250]),
    "log values": st.sampled_from(
        [0, 0, 0] + [float(np.float32(np.log1p(x))) for x in range(1, 9)]
    ),
    "any value": st.floats(-1e6, 1e6, width=32),
    "negatives and zeros": st.sampled_from([-2.5, -1, -0.0, 0.0, 0, 1, 0.1]),
    "beyond float32": st.sampled_from([0, 2**24, 2**24 + 1, 2**24 + 2, 3.0]),
    "beyond int32": st.sampled_from([0, 2**53, 2**53 - 1, 2**31]),
    "all zero": st.just(0),
    "all equal": st.just(0.1),
}


@st.composite
def matrices(draw: Any, n_cells: int, n_genes: int | None = None) -> np.ndarray:
    """Draw (n_cells, n_genes) float64, every gene of a kind of its own."""
    n_genes = draw(st.integers(1, 5)) if n_genes is None else n_genes
    kinds = draw(st.lists(st.sampled_from(sorted(GENES)), min_size=n_genes, max_size=n_genes))
    columns = [draw(st.lists(GENES[kind], min_size=n_cells, max_size=n_cells)) for kind in kinds]
    return np.array(columns, dtype=np.float64).T


@dataclass(frozen=True)
class Design:
    """The groups of every cell, and how the layout that kernels read is made from them."""

    groups: list[list[int]]
    n_groups: int
    pool: list[bool] | None = None

    def block(self, values: np.ndarray, n_threads: int = 1) -> GroupedGenes:
        return grouped(values, membership_of(self.groups, self.n_groups, self.pool), n_threads)

    def cells(self, k: int) -> list[int]:
        """Cells of group k."""
        if k == 0 and self.pool is not None:
            return [i for i, inside in enumerate(self.pool) if inside]
        return [i for i, groups in enumerate(self.groups) if k in groups]

    def control_of(self, k: int) -> list[int]:
        """Cells that group k is compared with."""
        own = self.cells(k) if self.pool is not None else []
        return [i for i in self.cells(0) if i not in own]


@st.composite
def designs(draw: Any) -> Design:
    """Draw the groups of every cell.

    A cell may be in none, in one or in several; a group may be empty, the control (0) too. With a
    pool, the control of a group is the cells of the pool outside it.
    """
    n_groups, pooled = draw(st.integers(2, 4)), draw(st.booleans())
    numbers = st.integers(1 if pooled else 0, n_groups - 1)
    one_cell = st.lists(numbers, max_size=2, unique=True)
    groups = draw(st.lists(one_cell, min_size=1, max_size=24))
    pool = [bool(own) or draw(st.booleans()) for own in groups] if pooled else None
    return Design(groups, n_groups, pool)


@st.composite
def cases(draw: Any) -> tuple[np.ndarray, Design]:
    """Draw a matrix and the groups of its cells."""
    design = draw(designs())
    return draw(matrices(len(design.groups))), design


@st.composite
def screens(draw: Any) -> tuple[np.ndarray, list[str | None]]:
    """Draw a matrix and labels that hold the control and at least one perturbation."""
    label = st.sampled_from(["control", "control", "A", "B", "C", None])
    labels = ["A", "control", *draw(st.lists(label, max_size=20))]
    labels = draw(st.permutations(labels))
    return draw(matrices(len(labels))), list(labels)
