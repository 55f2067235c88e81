"""Batches of a guide screen, and the table of their fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crispyx._io.annotations import as_labels
from crispyx._io.source import MatrixSource
from crispyx._stats.batch_effects import BatchEffectFits
from crispyx._stats.batch_fits import BetaBatches, HistogramBatches
from crispyx._stats.mixtures import GuideColumns
from crispyx.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Joined:
    """Batches of which the small ones are one.

    Attributes
    ----------
    of : numpy.ndarray (n_cells,) int64
        New batch of each cell.
    position : numpy.ndarray (n_batches,) int64
        New batch of each label.
    small : numpy.ndarray (n_batches,) bool
        The label is of a small batch.
    """

    of: np.ndarray
    position: np.ndarray
    small: np.ndarray


@dataclass(frozen=True)
class Batches:
    """Which batch each cell is of.

    Attributes
    ----------
    of : numpy.ndarray (n_cells,) int64
        Position in ``labels``.
    labels : numpy.ndarray (n_batches,) str
        Names, in the order of text, whatever the type of the column.
    min_cells : int
        Smallest batch that is fitted on its own.
    """

    of: np.ndarray
    labels: np.ndarray
    min_cells: int

    def joined(self, has_depth: np.ndarray) -> Joined:
        """Return the batches with all small ones as one.

        Parameters
        ----------
        has_depth : numpy.ndarray (n_cells,) bool
            Cells that count.
        """
        small = np.bincount(self.of[has_depth], minlength=len(self.labels)) < self.min_cells
        position = np.cumsum(~small) - 1
        position[small] = np.count_nonzero(~small)
        return Joined(position[self.of], position, small)


def read_batches(source: MatrixSource, key: str | None, min_cells: int | None) -> Batches | None:
    """Return the batches of an obs column, None without a column or with one batch in it.

    Raises
    ------
    MissingColumnError
        No such column.
    InputError
        A cell without a batch.
    """
    if key is None or min_cells is None:
        return None
    labels = as_labels(source.obs.column(key))
    missing = np.flatnonzero([label is None for label in labels])
    if len(missing):
        raise InputError(
            f"{source.where}: obs column {key!r} names no batch for cell "
            f"{source.obs.index[missing[0]]!r} and {len(missing) - 1} more; fill them in, for "
            "example with a batch 'unknown', or leave these cells out"
        )
    names, of = np.unique(labels.astype(str), return_inverse=True)
    return Batches(of.astype(np.int64), names.astype(object), min_cells) if len(names) > 1 else None


def effect_table(
    fits: BatchEffectFits, batches: Batches, joined: Joined, guides: np.ndarray
) -> pd.DataFrame:
    """Return one row for every guide and batch: the effect of the batch and its two rates."""
    names = fits.fits.names
    effects = fits.effects[:, joined.position]
    low, high = (fits.fits.parameters[:, [names.index(names[k])]] + effects for k in (1, 2))
    served = np.where(joined.small, "joined", "own")
    return _long(
        batches,
        guides,
        {
            "fit": np.tile(served, (len(guides), 1)),
            "effect": effects,
            names[1]: low,
            names[2]: high,
        },
    )


def own_table(
    fits: HistogramBatches, columns: GuideColumns, batches: Batches, guides: np.ndarray
) -> pd.DataFrame:
    """Return one row for every guide and batch: cells with the guide and the fit that serves."""
    n_batches = len(batches.labels)
    guide = np.repeat(np.arange(columns.n_guides), np.diff(columns.ptr))
    n = np.bincount(
        guide * n_batches + batches.of[columns.cells], minlength=columns.n_guides * n_batches
    )
    values = {
        "n_cells": n.reshape(columns.n_guides, n_batches),
        "fit": np.where(fits.has_own, "own", "pooled"),
    }
    parameters = np.moveaxis(fits.parameters, 2, 0)
    return _long(batches, guides, values | dict(zip(fits.pooled.names, parameters, strict=True)))


def screen_table(fits: BetaBatches, batches: Batches, depth: np.ndarray) -> pd.DataFrame:
    """Return one row for every batch: cells with guide UMIs and the fit that serves."""
    import pandas as pd

    n = np.bincount(batches.of[depth > 0], minlength=len(batches.labels))
    rows = [fit or fits.pooled for fit in fits.own]
    return pd.DataFrame(
        {
            "batch": batches.labels,
            "n_cells": n,
            "fit": ["pooled" if fit is None else "own" for fit in fits.own],
        }
        | {name: [row.parameters.get(name, np.nan) for row in rows] for name in _names(rows)}
    )


def _names(rows: list) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.parameters))


def _long(batches: Batches, guides: np.ndarray, values: dict[str, np.ndarray]) -> pd.DataFrame:
    import pandas as pd

    keys = {
        "guide": np.repeat(guides, len(batches.labels)),
        "batch": np.tile(batches.labels, len(guides)),
    }
    return pd.DataFrame(keys | {name: column.ravel() for name, column in values.items()})
