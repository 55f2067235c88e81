"""Shares of small p-values where nothing has an effect."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from crispyx._stats.calibration import binomial_interval
from crispyx.de.calibration_tables import BINS, EDGES
from validation.calibration.methods import pvalues
from validation.calibration.pools import Null, Pool, split

LEVELS = (0.05, 0.001)
ALLOWED = ((0.04, 0.06), (0.0005, 0.002))


@dataclass(frozen=True)
class Shares:
    """Tests of one method on one kind of split, by mean count of the gene.

    Attributes
    ----------
    tests : numpy.ndarray (n_bins,) int64
    small : numpy.ndarray (n_levels, n_bins) int64, tests with p below each level
    """

    pool: str
    null: Null
    method: str
    tests: np.ndarray
    small: np.ndarray

    def overall(self) -> str:
        """Return the shares over all genes."""
        return "/".join(
            short(small.sum() / max(self.tests.sum(), 1), digits)
            for small, digits in zip(self.small, (3, 4), strict=True)
        )

    def in_bin(self, place: int) -> str:
        """Return the shares of a bin, in bold above what is allowed by 99 % confidence."""
        n = int(self.tests[place])
        if n < 1_000:
            return ""
        words = []
        for small, (_, high), digits in zip(self.small, ALLOWED, (3, 4), strict=True):
            text = short(small[place] / n, digits)
            words.append(
                f"**{text}**" if binomial_interval(int(small[place]), n)[0] > high else text
            )
        return "/".join(words)


def short(share: float, digits: int) -> str:
    """Return a share without its leading 0."""
    return f"{share:.{digits}f}".removeprefix("0") if share else "0"


def shares(pool: Pool, null: Null, methods: Iterable[str], n_splits: int) -> list[Shares]:
    """Split a pool again and again and count small p-values."""
    methods = tuple(methods)
    tests = {method: np.zeros(len(BINS), dtype=np.int64) for method in methods}
    small = {method: np.zeros((len(LEVELS), len(BINS)), dtype=np.int64) for method in methods}
    for number in range(n_splits):
        counts, labels = split(pool, null, np.random.default_rng([number, null.n_cells]))
        place = np.searchsorted(EDGES, np.asarray(counts.mean(axis=0)).ravel(), "right") - 1
        for method in methods:
            batches = pool.batches if null.stratified else None
            p = pvalues(counts, labels, batches, method)
            known = np.isfinite(p)
            for b in range(len(BINS)):
                here = known & (place == b)
                tests[method][b] += np.count_nonzero(here)
                for level, alpha in enumerate(LEVELS):
                    small[method][level, b] += np.count_nonzero(p[here] < alpha)
    return [Shares(pool.name, null, m, tests[m], small[m]) for m in methods]
