"""How far each perturbation moves its cells in an embedding; the matrix is never touched."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.source import open_source
from crispyx._jobs.screen import Screen, resolve_screen
from crispyx._run.progress import track
from crispyx._run.threads import resolve_threads
from crispyx._stats.energy_distance import (
    Pool,
    energies,
    joined_pool,
    padded,
    permutation_pvalue,
    whole_pool,
)
from crispyx._stats.multiple_testing import adjust_rows
from crispyx.data.arguments import whole
from crispyx.dimred.graph import used_embedding
from crispyx.dimred.target import resolve_target
from crispyx.errors import CrispyxWarning
from crispyx.settings import settings

if TYPE_CHECKING:
    import pandas as pd

DRAWN = 4_000_000  # positions of permuted cells held at once


def energy_distance(
    data: Any,
    *,
    perturbation_column: str,
    control_label: str | None = None,
    perturbations: Iterable[str] | None = None,
    use_rep: str = "X_pca",
    n_pcs: int | None = None,
    n_permutations: int = 1000,
    max_cells: int | None = None,
    min_cells_pert: int = 2,
    random_state: int = 0,
    n_jobs: int | None = None,
    show_progress: bool = True,
) -> pd.DataFrame:
    r"""Measure how far each perturbation's cells lie from the control's, with a permutation test.

    .. math::

        E = 2 \, \overline{|x - y|} - \overline{|x - x'|} - \overline{|y - y'|}, \qquad
        p = \frac{1 + \#\{b : E_b \ge E\}}{1 + B}

    with the mean Euclidean distances between perturbed cells x and control cells y, and within
    either, in the embedding. :math:`E_b` are those of the same cells with shuffled labels. Unlike a
    test of single genes, this one sees any difference of the two clouds, and it ranks perturbations
    by their whole effect.

    In memory are the embedding and, per perturbation, its cells and the control's; distances are
    summed as they are computed and never kept. Threads change no number.

    Parameters
    ----------
    data : path, crispyx.AnnData or anndata.AnnData (backed or in memory)
        Screen with an embedding (:func:`crispyx.dimred.pca`); nothing is added to it.
    perturbation_column : str
        obs column of labels, or ``"obsm/NAME"`` with the perturbations each cell carries.
    control_label : str or None
        Label of the control; None infers it. ``"rest"`` compares with all other cells.
    perturbations : iterable of str or None
        Perturbations to compare; None takes all. Each one's numbers are the same either way.
    use_rep : str
        Entry of obsm.
    n_pcs : int or None
        Columns of the embedding to use; None takes all.
    n_permutations : int >= 0
        Shuffles of the labels; the smallest possible p is ``1 / (n_permutations + 1)``, and 0
        leaves p out.
    max_cells : int or None
        Use at most this many cells of a perturbation, and of the control, drawn at random; None
        uses all. Time grows with the cells of the screen times those of the control, and with the
        permutations times the square of the cells of each perturbation.
    min_cells_pert : int
        A smaller perturbation, or control, gets NaN.
    random_state : int
        Seed of the permutations and of ``max_cells``.
    n_jobs : int or None
        Threads; None takes ``settings.n_threads``, else every usable core.
    show_progress : bool
        Progress on standard error, where that is a terminal.

    Returns
    -------
    pandas.DataFrame (n_perturbations, 5)
        By ``perturbation``, the largest distance first: ``n_cells``, ``energy_distance`` (unit of
        the embedding), ``expected`` (mean of the shuffled distances, which is above 0 and larger
        for fewer cells), ``pvalue`` and ``pvalue_adj`` (Benjamini-Hochberg). ``attrs`` hold
        ``control_label``, ``n_control``, ``use_rep`` and ``n_permutations``.

    Raises
    ------
    InputError, MissingColumnError
        No such embedding, column or label; a number out of range.

    Warns
    -----
    CrispyxWarning
        Perturbations with too few cells; cells without a label.

    Notes
    -----
    Source: Szekely and Rizzo, J. Stat. Plan. Inference 143 (2013) 1249-1272; Peidli et al., Nature
    Methods 21 (2024) 531-540, who square the distances: that sees a shift of the mean only.
    Reference: ``reference.energy_distance``.
    """
    n_permutations = whole("n_permutations", n_permutations, 0)
    least = whole("min_cells_pert", min_cells_pert, 1)
    most = None if max_cells is None else whole("max_cells", max_cells, least)
    embedding = used_embedding(resolve_target(data), use_rep, n_pcs)
    with open_source(data) as source:
        screen = resolve_screen(
            source,
            perturbation_column=perturbation_column,
            control_label=control_label,
            perturbations=perturbations,
        )
    arms = _Arms(screen, padded(embedding), whole("random_state", random_state, 0), most)
    n_threads = resolve_threads(n_jobs)
    progress = track(
        screen.groups,
        total=len(screen.groups),
        label="energy distance",
        unit="perturbation",
        show=None if show_progress else False,
    )
    control = None
    found = np.full((3, len(screen.groups)), np.nan)
    for k, label in enumerate(progress):
        own, others = arms.cells(label)
        if min(len(own), len(others)) < least:
            continue
        if control is None or screen.membership.pooled:
            control = whole_pool(arms.points[others], settings.engine, n_threads)
        pool = joined_pool(arms.points[own], control, settings.engine, n_threads)
        found[:, k] = _tested(
            pool, len(own), n_permutations, arms.generator(label, "permutations"), n_threads
        )
    _warn_about_small(screen, found[0], least)
    return _table(screen, arms, found, use_rep, n_permutations)


@dataclass
class _Arms:
    """Cells of each perturbation and of its control."""

    screen: Screen
    points: np.ndarray
    random_state: int
    most: int | None

    def __post_init__(self) -> None:
        membership = self.screen.membership
        cell = np.repeat(np.arange(len(membership.ptr) - 1), np.diff(membership.ptr))
        order = np.argsort(membership.groups, kind="stable")
        edges = np.cumsum(membership.sizes)[:-1]
        self._members = dict(
            zip((None, *self.screen.groups), np.split(cell[order], edges), strict=True)
        )

    def n_cells(self, label: str) -> int:
        return len(self._members[label])

    def cells(self, label: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the cells of a perturbation, and of its control, at most ``most`` of each."""
        own, others = self._members[label], self._members[None]
        if self.screen.membership.pooled:
            others = np.setdiff1d(others, own, assume_unique=True)
            return self._drawn(own, label), self._drawn(others, label)
        return self._drawn(own, label), self._drawn(others, "")

    def _drawn(self, cells: np.ndarray, name: str) -> np.ndarray:
        if self.most is None or len(cells) <= self.most:
            return cells
        generator = self.generator(name, "cells")
        return np.sort(generator.choice(cells, self.most, replace=False, shuffle=False))

    def generator(self, name: str, what: str) -> np.random.Generator:
        """Return the random numbers of one perturbation, whichever others are asked for."""
        return np.random.default_rng([self.random_state, zlib.crc32(f"{what}\0{name}".encode())])


def _tested(
    pool: Pool, n_own: int, n_permutations: int, generator: np.random.Generator, n_threads: int
) -> tuple[float, float, float]:
    """Return distance, mean of the shuffled ones and p of the first ``n_own`` cells of a pool."""
    own = np.arange(n_own, dtype=np.int32)[None]
    observed = float(energies(pool, own, settings.engine, n_threads)[0])
    if not n_permutations:
        return observed, np.nan, np.nan
    drawn = [
        energies(pool, subsets, settings.engine, n_threads)
        for subsets in _permutations(len(pool.points), n_own, n_permutations, generator)
    ]
    permuted = np.concatenate(drawn)
    return observed, float(permuted.mean()), permutation_pvalue(observed, permuted)


def _permutations(
    n_cells: int, n_own: int, n_permutations: int, generator: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield positions that carry the perturbation's label when it is shuffled (n, n_own) int32."""
    step = max(1, DRAWN // n_own)
    for start in range(0, n_permutations, step):
        drawn = [
            generator.choice(n_cells, n_own, replace=False, shuffle=False)
            for _ in range(min(step, n_permutations - start))
        ]
        yield np.sort(np.array(drawn, dtype=np.int32), axis=1)


def _warn_about_small(screen: Screen, distances: np.ndarray, least: int) -> None:
    small = [label for label, d in zip(screen.groups, distances, strict=True) if np.isnan(d)]
    if small:
        warnings.warn(
            f"{len(small)} perturbations are not tested: they, or the control, have fewer than "
            f"{least} cells (first: {small[0]!r}); see min_cells_pert=",
            CrispyxWarning,
            stacklevel=3,
        )


def _table(
    screen: Screen,
    arms: _Arms,
    found: np.ndarray,
    use_rep: str,
    n_permutations: int,
) -> pd.DataFrame:
    import pandas as pd

    distances, expected, pvalues = found
    adjusted = adjust_rows(pvalues[None], "benjamini-hochberg", settings.engine)[0]
    table = pd.DataFrame(
        {
            "n_cells": [arms.n_cells(label) for label in screen.groups],
            "energy_distance": distances,
            "expected": expected,
            "pvalue": pvalues,
            "pvalue_adj": adjusted,
        },
        index=pd.Index(screen.groups, name="perturbation"),
    )
    table = table.sort_values("energy_distance", ascending=False, kind="stable")
    table.attrs = {
        "control_label": screen.control_label,
        "n_control": int(screen.membership.sizes[0]),
        "use_rep": use_rep,
        "n_permutations": n_permutations,
    }
    return table
