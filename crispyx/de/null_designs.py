"""Which control cells stand for which perturbation, and how deep they are made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from crispyx._stats.calibration import groups_that_fit, split_generator, split_within_batches


@dataclass(frozen=True)
class Cells:
    """What designs are made from.

    Attributes
    ----------
    names : tuple of str
        Perturbations that are large enough to be imitated.
    in_batch : numpy.ndarray (n_names, n_batches) int64
        Their cells in each batch; none where the control cannot be split.
    ratio : numpy.ndarray (n_names,) float64
        Median total count over the control's.
    batch : numpy.ndarray (n_control,) int64
        Batch of each control cell.
    """

    names: tuple[str, ...]
    in_batch: np.ndarray
    ratio: np.ndarray
    batch: np.ndarray


@dataclass(frozen=True)
class Design:
    """Groups of control cells that are tested together.

    Attributes
    ----------
    kind : {"splits", "guides", "depth"}
    split : int
        Number of the split.
    names : tuple of str
        What each group stands for.
    labels : numpy.ndarray (n_control,) int64
        0 for the control, k for group k.
    kept : numpy.ndarray (1 + n_groups,) float64
        Share of the molecules that the cells of each label keep.
    """

    kind: str
    split: int
    names: tuple[str, ...]
    labels: np.ndarray
    kept: np.ndarray

    @property
    def is_thinned(self) -> bool:
        """Whether any cell loses molecules."""
        return bool((self.kept < 1).any())


def split_designs(
    cells: Cells, n_splits: int, n_groups: int, match_depth: bool, random_state: int
) -> Iterator[Design]:
    """Yield splits with the sizes, and if asked for the depths, of perturbations drawn anew."""
    for split in range(n_splits):
        rng = split_generator(random_state, "splits", split)
        chosen, sizes = _fitting(cells, rng.permutation(len(cells.names)), n_groups)
        kept = np.minimum(cells.ratio[chosen], 1.0) if match_depth else np.ones(len(chosen))
        yield _design("splits", split, cells, chosen, sizes, np.concatenate([[1.0], kept]), rng)


def depth_designs(
    cells: Cells, shifted: np.ndarray, n_splits: int, n_groups: int, random_state: int
) -> Iterator[Design]:
    """Yield splits with the depths of the perturbations that differ most from the control.

    As many shallow ones as fit are tested together, every split beginning with the next. Of the
    deep ones the deepest is imitated, by thinning the cells that stand for the control.
    """
    order = np.argsort(cells.ratio, kind="stable")
    shallow = order[shifted[order] & (cells.ratio[order] < 1)]
    deep = order[shifted[order] & (cells.ratio[order] > 1)][-1:]
    for split in range(n_splits):
        rng = split_generator(random_state, "depth", split)
        if len(shallow):
            chosen, sizes = _fitting(cells, np.roll(shallow, -split), n_groups)
            kept = np.concatenate([[1.0], cells.ratio[chosen]])
            yield _design("depth", split, cells, chosen, sizes, kept, rng)
        if len(deep):
            chosen, sizes = _fitting(cells, deep, 1)
            kept = np.array([1 / cells.ratio[deep[0]], 1.0])
            yield _design("depth", split, cells, chosen, sizes, kept, rng)


def guide_designs(guides: np.ndarray, least: int) -> Iterator[Design]:
    """Yield each control guide with enough cells against all other control cells."""
    names, number, sizes = np.unique(guides, return_inverse=True, return_counts=True)
    for k, (name, size) in enumerate(zip(names, sizes, strict=True)):
        if name and size >= least and 2 * size <= len(guides):
            labels = (number == k).astype(np.int64)
            yield Design("guides", k, (str(name),), labels, np.ones(2))


def _fitting(cells: Cells, order: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return perturbations that together leave half of the control, and their cells by batch."""
    controls = np.bincount(cells.batch, minlength=cells.in_batch.shape[1])
    return groups_that_fit(cells.in_batch, controls, order.tolist(), most)


def _design(
    kind: str,
    split: int,
    cells: Cells,
    chosen: np.ndarray,
    sizes: np.ndarray,
    kept: np.ndarray,
    rng: np.random.Generator,
) -> Design:
    labels = split_within_batches(cells.batch, sizes, rng)
    return Design(kind, split, tuple(cells.names[k] for k in chosen), labels, kept)
