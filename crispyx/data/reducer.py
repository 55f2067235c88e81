"""What is computed block by block: a state that is begun, moved on, merged and finished."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from crispyx.errors import InputTypeError

if TYPE_CHECKING:
    import pandas as pd
    import scipy.sparse as sp


@dataclass(frozen=True)
class CellBlock:
    """Some cells, in the order of the data set.

    Attributes
    ----------
    start, stop : int
        First cell of the block and one past its last; with ``groupby`` not all of them are here.
    X : scipy.sparse.csr_matrix (n_cells, n_genes)
        Their values, float32 or float64; add them in float64.
    obs : pandas.DataFrame (n_cells, n_columns)
        Their rows of obs.
    genes : numpy.ndarray (n_genes,) str
        Names of the columns.
    """

    start: int
    stop: int
    X: sp.csr_matrix
    obs: pd.DataFrame
    genes: np.ndarray

    def of(self, rows: np.ndarray) -> CellBlock:
        """Return some of the cells, by their rows in this block."""
        return CellBlock(self.start, self.stop, self.X[rows], self.obs.iloc[rows], self.genes)


@runtime_checkable
class Reducer(Protocol):
    """A computation over blocks of cells, for :func:`batch_process`.

    A class with these three methods is a reducer; it need not inherit. Three more members are
    looked for. With ``merge(earlier, later)``, which returns the state of both, blocks are worked
    on in parallel, each from a state of its own; without, one state passes through all blocks in
    order. With ``compare(state, control)``, groups are compared with the control (``groupby=``).
    ``channels`` names the vectors (n_genes,) that ``finalize`` or ``compare`` return.

    Examples
    --------
    Fold changes of every perturbation, from sums over its cells.

    >>> import anndata, numpy as np, crispyx as cx
    >>> class FoldChange:
    ...     channels = ("log2_fold_change", "n_expressing")
    ...     def initialize(self, n_genes):
    ...         return np.zeros((3, n_genes))
    ...     def update(self, state, block):
    ...         sums = np.asarray(block.X.sum(axis=0, dtype=float)).ravel()
    ...         return state + [sums, block.X.getnnz(axis=0), np.full(len(sums), len(block.obs))]
    ...     def merge(self, earlier, later):
    ...         return earlier + later
    ...     def compare(self, state, control):
    ...         means = [s[0] / s[2] + 1 for s in (state, control)]
    ...         return np.log2(means[0] / means[1]), state[1]
    ...     def finalize(self, state):
    ...         return np.zeros(state.shape[1]), state[1]
    >>> counts = np.random.default_rng(0).poisson(2.0, (500, 4)).astype(np.float32)
    >>> adata = anndata.AnnData(counts)
    >>> adata.obs["perturbation"] = ["control", "MYC"] * 250
    >>> found = cx.tl.batch_process(adata, FoldChange(), groupby="perturbation")
    >>> list(found.obs_names), list(found.layers)
    (['MYC'], ['log2_fold_change', 'n_expressing'])
    """

    def initialize(self, n_genes: int) -> Any:
        """Return the state of no cells."""

    def update(self, state: Any, block: CellBlock) -> Any:
        """Return the state with the cells of a block added; ``state`` may be changed in place."""

    def finalize(self, state: Any) -> Any:
        """Return the result of a state."""


@dataclass(frozen=True)
class OfFunctions:
    """A reducer made of a function of one block and one that merges two of its answers."""

    function: Callable[[CellBlock], Any]
    merge: Callable[[Any, Any], Any]
    finish: Callable[[Any], Any] | None

    def initialize(self, n_genes: int) -> None:
        """Begin with nothing: the answer of the first block is the first state."""

    def update(self, state: None, block: CellBlock) -> Any:
        """Return the answer of a block."""
        return self.function(block)

    def finalize(self, state: Any) -> Any:
        """Return the merged answer, or what ``finish`` makes of it."""
        return state if self.finish is None else self.finish(state)


def as_reducer(given: Any, merge: Any, finish: Any) -> Reducer:
    """Return the reducer given as one, or as functions.

    Raises
    ------
    InputTypeError
        Neither a reducer nor functions, or both.
    """
    if isinstance(given, Reducer):
        if merge is not None or finish is not None:
            raise InputTypeError(
                f"{type(given).__name__} is a reducer; make merge a method of it, and what finish "
                "does its finalize"
            )
        return given
    if not callable(given):
        raise InputTypeError(
            f"reducer is {given!r}; give a function of a block, or an object with initialize, "
            "update and finalize"
        )
    if not callable(merge):
        raise InputTypeError(f"merge is {merge!r}; give the function that joins two answers")
    return OfFunctions(given, merge, finish)
