"""The passes of the negative binomial test as work on blocks that anybody can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from crispyx._jobs.tiles import Rows
from crispyx._kernels.layout import CompressedBlock
from crispyx._stats.apeglm import Searching
from crispyx.de.nb_passes import FIELDS, GENEWISE, Passes, Tile
from crispyx.de.nb_shrinkage import SHRUNK_FIELDS, Shrinking, prior_scales
from crispyx.de.nb_stages import Shrinkage

DISPERSIONS, TESTS, SHRINKAGE = "dispersions", "tests", "shrinkage"


@dataclass(frozen=True)
class NegativeBinomialWork:
    """What is computed of each block, pass after pass, with a barrier between two passes.

    Attributes
    ----------
    estimation : Passes
        The first two passes.
    shrinks_effects : bool
        There is a third.
    literal : bool
        It follows PyDESeq2.
    shape : tuple
        Perturbations and genes.
    """

    estimation: Passes
    shrinks_effects: bool
    literal: bool
    shape: tuple[int, int]
    grouped = False

    @property
    def passes(self) -> tuple[str, ...]:
        """Names of the passes."""
        first = (DISPERSIONS,) if self.estimation.has_barrier else ()
        return (*first, TESTS, *((SHRINKAGE,) if self.shrinks_effects else ()))

    @property
    def prior_mode(self) -> str:
        """Whether fold changes have one prior, or each perturbation its own."""
        return "per_comparison" if self.literal else "global"

    def with_threads(self, n_threads: int) -> NegativeBinomialWork:
        """Return the same work by so many threads."""
        passes = self.estimation
        cells = replace(passes.cells, n_threads=n_threads)
        return replace(self, estimation=replace(passes, cells=cells, n_threads=n_threads))

    def fields(self, number: int) -> Mapping[str, np.dtype]:
        """Return the arrays of a tile of a pass."""
        by_name = {DISPERSIONS: GENEWISE, TESTS: FIELDS, SHRINKAGE: SHRUNK_FIELDS}
        return by_name[self.passes[number]]

    def barrier(self, number: int, before: Rows) -> Any:
        """Return trend and prior of dispersions, or the prior of fold changes."""
        if self.passes[number] == TESTS:
            return self.estimation.shrinkage(before)
        return self.prior_scales(before, None)

    def tile(
        self, number: int, block: CompressedBlock, before: Any = None, barrier: Any = None
    ) -> Tile:
        """Return the tile of a block in a pass."""
        name = self.passes[number]
        if name == DISPERSIONS:
            return self.estimation.genewise(block)
        if name == TESTS:
            return self.tested(block, before, barrier)
        return self.shrunk(block, before, barrier)

    def tested(
        self,
        block: CompressedBlock,
        before: Mapping[str, np.ndarray] | None,
        shrinkage: list[Shrinkage] | None,
    ) -> Tile:
        """Return the tests of a block, given its dispersions and their trend, if any."""
        if shrinkage is None:
            shrinkage = [Shrinkage(None, None)] * self.estimation.n_fits
        return self.estimation.tested(block, before=before, shrinkage=shrinkage)

    def prior_scales(self, fits: Rows, memory_limit_gb: float | None) -> np.ndarray:
        """Return the scale of the prior of every perturbation (n_groups,) float64."""
        return prior_scales(
            lambda name, k: fits.rows(name, k, k + 1)[0],
            self.shape,
            self.prior_mode,
            memory_limit_gb,
        )

    def shrunk(
        self, block: CompressedBlock, fits: Mapping[str, np.ndarray], scale: np.ndarray
    ) -> Tile:
        """Return the shrunken fold changes of a block, given its fits."""
        passes = self.estimation
        shrinking = Shrinking(
            scale,
            passes.in_log2,
            passes.engine,
            passes.n_threads,
            Searching(literal=self.literal),
            passes.cells,
        )
        return shrinking.of_counts({name: np.array(fits[name]) for name in FIELDS}, block)
