"""Batches of cells: lanes, replicates, days."""

from __future__ import annotations

import warnings
import zlib
from dataclasses import dataclass, replace

import numpy as np

from crispyx._io.annotations import as_labels
from crispyx._io.source import MatrixSource
from crispyx._kernels.layout import Membership
from crispyx.errors import CrispyxWarning, InputError


@dataclass(frozen=True)
class Batches:
    """The batch of every cell.

    Attributes
    ----------
    column : str or None
        obs column they come from; None when all cells are one batch.
    names : tuple of str
        Batches in order of first appearance.
    of_cell : numpy.ndarray (n_cells,) int64
        Number of each cell's batch, -1 for a cell without one.
    """

    column: str | None
    names: tuple[str, ...]
    of_cell: np.ndarray

    @property
    def checksum(self) -> int:
        """Checksum of who is in which batch, for fingerprints."""
        return zlib.crc32("\0".join(self.names).encode(), zlib.crc32(self.of_cell.data))

    def split(self, membership: Membership) -> Membership:
        """Return every group within every batch: group k of batch b has number b G + k of G."""
        cell, batch, kept = self._members(membership)
        n_groups = len(membership.sizes)
        groups = batch[kept] * n_groups + membership.groups[kept]
        return self._rebuilt(membership, cell[kept], groups, len(self.names) * n_groups)

    def beside(self, membership: Membership) -> Membership:
        """Return the groups as they are, followed by those of :meth:`split`."""
        cell, batch, kept = self._members(membership)
        n_groups = len(membership.sizes)
        groups = np.repeat(membership.groups[kept], 2)
        groups[1::2] += ((1 + batch[kept]) * n_groups).astype(groups.dtype)
        cells = np.repeat(cell[kept], 2)
        return self._rebuilt(membership, cells, groups, (1 + len(self.names)) * n_groups)

    def _members(self, membership: Membership) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        cell = np.repeat(np.arange(len(membership.ptr) - 1), np.diff(membership.ptr))
        batch = self.of_cell[cell]
        return cell, batch, batch >= 0

    @staticmethod
    def _rebuilt(
        membership: Membership, cells: np.ndarray, groups: np.ndarray, n_groups: int
    ) -> Membership:
        n_cells = len(membership.ptr) - 1
        ptr = np.concatenate([[0], np.cumsum(np.bincount(cells, minlength=n_cells))])
        split = Membership.from_lists(ptr, groups, n_groups)
        return replace(split, pooled=membership.pooled)


def read_batches(source: MatrixSource, column: str | None) -> Batches:
    """Return the batches of an obs column of any type; None makes all cells one batch.

    Cells without a batch are left out, with a warning.

    Raises
    ------
    MissingColumnError, InputError
        No such column; no cell has a batch.
    """
    n_cells = source.shape[0]
    if column is None:
        return Batches(None, ("",), np.zeros(n_cells, dtype=np.int64))
    labels = as_labels(source.obs.column(column))
    names = list(dict.fromkeys(label for label in labels if label is not None))
    if not names:
        raise InputError(
            f"no cell has a batch in obs column {column!r} of {source.path or source.where}"
        )
    number = {name: b for b, name in enumerate(names)} | {None: -1}
    of_cell = np.array([number[label] for label in labels], dtype=np.int64)
    n_missing = int(np.count_nonzero(of_cell < 0))
    if n_missing:
        warnings.warn(
            f"{n_missing} of {n_cells} cells have no batch in obs column {column!r} of "
            f"{source.path or source.where}; they are left out",
            CrispyxWarning,
            stacklevel=4,
        )
    return Batches(column, tuple(names), of_cell)
