"""The two array layouts that all kernels read.

:class:`CompressedBlock` is a run of rows of a CSR matrix or of columns of a CSC matrix.
:class:`GroupedGenes` is a run of genes with, for every gene, the non-zero values of each group side
by side. Zeros are never stored in either.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

GAP = 1024  # cells in no group that are skipped, not read over


@dataclass(frozen=True)
class CompressedBlock:
    """Vectors ``start`` to ``stop`` of a matrix along its major axis.

    Attributes
    ----------
    start, stop : int
        First vector and one past the last.
    values : numpy.ndarray (nnz,) float32 or float64
        Stored values, vector after vector.
    minor : numpy.ndarray (nnz,) int32
        Position of each value in its vector, increasing within a vector.
    ptr : numpy.ndarray (stop - start + 1,) int64
        Where each vector starts in ``values``; ``ptr[0]`` is 0.
    """

    start: int
    stop: int
    values: np.ndarray
    minor: np.ndarray
    ptr: np.ndarray

    @property
    def n_major(self) -> int:
        return self.stop - self.start

    def by_major(self, first: int) -> CompressedBlock:
        """Return the block with vectors, counted from ``first``, as positions: one long vector."""
        places = np.arange(self.start - first, self.stop - first, dtype=np.int32)
        major = np.repeat(places, np.diff(self.ptr))
        return CompressedBlock(0, 1, self.values, major, self.ptr[[0, -1]])


@dataclass(frozen=True)
class Pieces:
    """Minor vectors ``start`` to ``stop`` of a matrix, cut along its major axis.

    Attributes
    ----------
    start, stop : int
        First vector and one past the last.
    values : list of numpy.ndarray, all float32 or all float64
        Stored values of each piece.
    major : list of numpy.ndarray uint16 or int32
        Position of each value on the major axis, from the first one of its piece.
    ptr : numpy.ndarray (n_pieces, stop - start + 1) int64
        Where each vector starts in the arrays of each piece.
    first_major : numpy.ndarray (n_pieces,) int64
        Where each piece starts on the major axis, in rising order.
    """

    start: int
    stop: int
    values: list[np.ndarray]
    major: list[np.ndarray]
    ptr: np.ndarray
    first_major: np.ndarray

    @classmethod
    def of_block(cls, block: CompressedBlock) -> Pieces:
        """Return a block of vectors as one piece."""
        whole = [block.values], [block.minor], block.ptr[None], np.zeros(1, dtype=np.int64)
        return cls(block.start, block.stop, *whole)


@dataclass(frozen=True)
class Membership:
    """Which groups each cell belongs to; group 0 is the control, or the pool that holds it.

    Attributes
    ----------
    ptr : numpy.ndarray (n_cells + 1,) int32
        Where each cell's groups start; a cell may have none, one or several.
    groups : numpy.ndarray (n_memberships,) int32
        Group numbers.
    sizes : numpy.ndarray (n_groups,) int64
        Cells of each group.
    pooled : bool
        False: group 0 is the control of all others. True: group 0 is the pool of all cells, and the
        control of a group is the pool without the group's own cells.
    """

    ptr: np.ndarray
    groups: np.ndarray
    sizes: np.ndarray
    pooled: bool = False

    @classmethod
    def from_labels(cls, group_of_cell: np.ndarray, n_groups: int) -> Membership:
        """Build a partition from one group number per cell (n_cells,), -1 for a cell in none."""
        inside = group_of_cell >= 0
        ptr = np.concatenate([[0], np.cumsum(inside)])
        return cls.from_lists(ptr, group_of_cell[inside], n_groups)

    @classmethod
    def from_lists(
        cls,
        ptr: np.ndarray,
        groups: np.ndarray,
        n_groups: int,
        pool: np.ndarray | None = None,
    ) -> Membership:
        """Build from the groups of each cell, ``groups[ptr[i]:ptr[i + 1]]`` for cell i.

        With a ``pool`` (n_cells,) bool, groups are numbered from 1 and the cells of the pool are
        put into group 0 as well.
        """
        if pool is not None:
            groups = np.insert(groups, ptr[:-1][pool], 0)
            ptr = ptr + np.concatenate([[0], np.cumsum(pool)])
        sizes = np.bincount(groups, minlength=n_groups).astype(np.int64)
        return cls(ptr.astype(np.int32), groups.astype(np.int32), sizes, pool is not None)

    @cached_property
    def group_of_cell(self) -> np.ndarray | None:
        """The one group of each cell (n_cells,) int32, -1 for none; None where one has several."""
        n_groups = np.diff(self.ptr)
        if n_groups.max(initial=0) > 1:
            return None
        group = np.full(len(n_groups), -1, dtype=np.int32)
        group[n_groups == 1] = self.groups
        return group

    @property
    def used_cells(self) -> np.ndarray:
        """Cells that belong to at least one group (n_cells,) bool."""
        return np.diff(self.ptr) > 0

    def stretches(self, start: int = 0) -> list[tuple[int, int]]:
        """Return (first, stop) of the stretches of cells to read from ``start`` on, in order.

        Long gaps of cells in no group lie between them: in a file sorted by perturbation a few
        perturbations are a few stretches.
        """
        n_cells = len(self.ptr) - 1
        cells = start + np.flatnonzero(self.used_cells[start:])
        left, right = np.append(start, cells + 1), np.append(cells, n_cells)  # of the gaps
        skipped = right - left >= GAP
        firsts, stops = np.append(start, right[skipped]), np.append(left[skipped], n_cells)
        some = firsts < stops
        return list(zip(firsts[some].tolist(), stops[some].tolist(), strict=True))


@dataclass(frozen=True)
class GroupedGenes:
    """Genes ``start`` to ``stop`` with their non-zero values sorted by group.

    Attributes
    ----------
    start, stop : int
        First gene and one past the last.
    values : numpy.ndarray (nnz,) float32 or float64
        Non-zero values, gene after gene, within a gene group after group, within a group in the
        order of the cells in the input. A cell that belongs to several groups is repeated. There
        may be gaps between genes. Blocks of a stream share one array: the next block overwrites it.
    run_ptr : numpy.ndarray (n_genes, n_groups + 1) int64
        ``values[run_ptr[g, k]:run_ptr[g, k + 1]]`` are those of group k, 0 the control.
    group_sizes : numpy.ndarray (n_groups,) int64
        Cells of each group, zeros included.
    pooled : bool
        Group 0 is the pool of all cells, see :class:`Membership`.
    """

    start: int
    stop: int
    values: np.ndarray
    run_ptr: np.ndarray
    group_sizes: np.ndarray
    pooled: bool = False

    @property
    def n_genes(self) -> int:
        return self.stop - self.start

    @property
    def n_groups(self) -> int:
        return len(self.group_sizes)

    def part(self, first: int, n_groups: int) -> GroupedGenes:
        """Return some groups only, ``first`` as their group 0; the values stay where they are."""
        last = first + n_groups
        return replace(
            self,
            run_ptr=np.ascontiguousarray(self.run_ptr[:, first : last + 1]),
            group_sizes=self.group_sizes[first:last],
        )

    def dense(self, gene: int, group: int) -> np.ndarray:
        """Return all values of one group, zeros last, for one gene of the block (n_cells,)."""
        run = self.values[self.run_ptr[gene, group] : self.run_ptr[gene, group + 1]]
        vector = np.zeros(self.group_sizes[group])
        vector[: len(run)] = run
        return vector

    def dense_control(self, gene: int, group: int) -> np.ndarray:
        """Return all values of the control of ``group`` for one gene, in no particular order."""
        control = self.dense(gene, 0)
        if not self.pooled:
            return control
        values, counts = np.unique(control, return_counts=True)
        own, own_counts = np.unique(self.dense(gene, group), return_counts=True)
        counts[np.searchsorted(values, own)] -= own_counts
        return np.repeat(values, counts)
