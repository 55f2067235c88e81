"""Perturbed minus control for every perturbation, all cells together or within batches."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from crispyx._io.source import MatrixSource
from crispyx._jobs.batches import Batches, read_batches
from crispyx._jobs.screen import Screen, resolve_screen
from crispyx._jobs.tiles import TileStore
from crispyx._stats.pseudobulk import batch_weights, log_of_mean, weighted_difference
from crispyx.errors import CrispyxWarning, InputError
from crispyx.pseudobulk.files import Frame
from crispyx.settings import Engine

Profile = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Differences:
    """Differences of the profiles of a screen.

    Attributes
    ----------
    screen : Screen
        Perturbations, control and genes.
    batches : Batches
        Batch of every cell.
    n_cells : numpy.ndarray (n_batches, n_groups) int64
        Cells; group 0 is the control.
    """

    screen: Screen
    batches: Batches
    n_cells: np.ndarray

    @property
    def n_batches(self) -> int:
        """Number of batches."""
        return len(self.batches.names)

    @property
    def genes(self) -> Frame:
        """Columns of the result."""
        return Frame(self.screen.genes, self.screen.gene_name_column or "_index", {})

    def weights(self, engine: Engine, min_cells: int = 1) -> np.ndarray:
        """Return the weight of every batch (n_perturbations, n_batches)."""
        n = np.where(self.n_cells >= min_cells, self.n_cells, 0).T
        return batch_weights(n[:1], n[1:], engine)

    def means(self, store: TileStore, start: int, stop: int) -> np.ndarray:
        """Return means of groups ``start`` to ``stop`` (n_batches, stop - start, n_genes)."""
        n_groups = self.n_cells.shape[1]
        totals = np.stack(
            [
                store.rows("total", b * n_groups + start, b * n_groups + stop)
                for b in range(self.n_batches)
            ]
        )
        with np.errstate(invalid="ignore"):
            return totals / self.n_cells[:, start:stop, None]

    def mean(self, store: TileStore, group: int, batch: int) -> np.ndarray:
        """Return the mean of one group within one batch (n_genes,)."""
        row = batch * self.n_cells.shape[1] + group
        return store.rows("total", row, row + 1)[0] / self.n_cells[batch, group]

    def control_mean(self, store: TileStore) -> np.ndarray:
        """Return the mean of all control cells (n_genes,)."""
        means, n = self.means(store, 0, 1)[:, 0], self.n_cells[:, 0]
        if self.n_batches == 1:
            return means[0]
        return n[n > 0] @ means[n > 0] / n.sum()

    def strip(
        self,
        start: int,
        stop: int,
        *,
        store: TileStore,
        profile: Profile,
        weights: np.ndarray,
        engine: Engine,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return difference, control and perturbed of perturbations ``start`` to ``stop``.

        Three tables (stop - start, n_genes); NaN where no batch has both arms.
        """
        control = profile(self.means(store, 0, 1)[:, 0])
        perturbed = profile(self.means(store, 1 + start, 1 + stop))
        rows = [
            weighted_difference(control, perturbed[:, k], weights[start + k], engine)
            for k in range(stop - start)
        ]
        difference, low, high = np.array(rows).transpose(1, 0, 2)
        return difference, low, high


def find_differences(
    source: MatrixSource,
    perturbation_column: str,
    control_label: str | None,
    gene_name_column: str | None,
    perturbations: Iterable[str] | None,
    batch_column: str | None = None,
) -> Differences:
    """Read who is compared with whom, and check it.

    Raises
    ------
    MissingColumnError, InputError
        See :func:`crispyx._jobs.screen.resolve_screen`; the control is the rest of the screen.
    """
    screen = resolve_screen(
        source,
        perturbation_column=perturbation_column,
        control_label=control_label,
        gene_name_column=gene_name_column,
        perturbations=perturbations,
    )
    if screen.membership.pooled:
        raise InputError(
            f"control_label is {screen.control_label!r}, which is another control for every "
            "perturbation; these profiles have one: give the label of the control cells"
        )
    batches = read_batches(source, batch_column)
    sizes = batches.split(screen.membership).sizes.reshape(len(batches.names), -1)
    found = Differences(screen, batches, sizes)
    if batch_column is not None:
        _warn_about_batches(found)
    return found


def _warn_about_batches(found: Differences) -> None:
    without = [
        name
        for name, n in zip(found.batches.names, found.n_cells, strict=True)
        if n[0] == 0 and n.any()
    ]
    if without:
        warnings.warn(
            f"batches {', '.join(map(repr, without))} of obs column {found.batches.column!r} hold "
            f"no control ({found.screen.control_label!r}); perturbed cells there are left out",
            CrispyxWarning,
            stacklevel=4,
        )


def as_it_is(mean: np.ndarray) -> np.ndarray:
    """Return the mean itself as the profile."""
    return mean


def log_profile(baseline_count: float, engine: Engine) -> Profile:
    """Return the profile ln(1 + baseline_count * mean)."""
    return partial(log_of_mean, baseline_count=baseline_count, engine=engine)


def perturbation_frame(found: Differences, **columns: Any) -> Frame:
    """Return one row per perturbation, named as in all result files."""
    labels = np.array(found.screen.groups, dtype=object)
    return Frame(labels, "perturbation", {found.screen.perturbation_column: labels, **columns})
