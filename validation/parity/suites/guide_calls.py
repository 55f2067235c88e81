"""Called pairs of cell and guide as an array of flags, and how two sets of calls are compared."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from validation.parity.check import Check

# One number a pair.
STRIDE = 1 << 32


def pair_numbers(cells: np.ndarray, guides: np.ndarray) -> np.ndarray:
    """Return called pairs as sorted distinct numbers (n_pairs,) int64."""
    return np.unique(np.asarray(cells, dtype=np.int64) * STRIDE + np.asarray(guides))


def calls_check(
    method: str,
    quantity: str,
    outside: np.ndarray,
    ours: tuple[np.ndarray | None, np.ndarray],
    counts: np.ndarray,
    n_guides: int,
    explained: Mapping[str, np.ndarray] | None = None,
    other_optimum: np.ndarray | None = None,
) -> Check:
    """Return a check over the pairs that anyone calls; the share that differs is 1 - Jaccard.

    Parameters
    ----------
    method, quantity : str
        See :class:`Check`.
    outside : numpy.ndarray (n_pairs,) int64
        Numbers of the pairs that the other tool calls.
    ours : tuple of (n_pairs, 2) int arrays
        Pairs of the reference, which may be missing, and of the kernels.
    counts : numpy.ndarray (n_cells, n_guides)
        UMIs, for the names of pairs.
    n_guides : int
        Guides that are compared, the first ones.
    explained : mapping of str to numpy.ndarray (n_cells, n_guides) bool, optional
        Pairs that differ by intention.
    other_optimum : numpy.ndarray (n_guides,) bool, optional
        Guides that the kernels fit better than the reference.
    """
    called = [None if pairs is None else pair_numbers(*pairs.T) for pairs in ours]
    known = [outside, *(pairs for pairs in called if pairs is not None)]
    anyone = np.unique(np.concatenate(known))
    anyone = anyone[anyone % STRIDE < n_guides]
    cells, guides = np.divmod(anyone, STRIDE)
    of_pair = {key: mask[cells, guides] for key, mask in (explained or {}).items()}
    names = np.array(
        [
            f"cell {c}, guide {g}, {counts[c, g]:.0f} UMIs"
            for c, g in zip(cells, guides, strict=True)
        ]
    )
    flags = [None if pairs is None else np.isin(anyone, pairs) for pairs in called]
    assert flags[1] is not None
    outside_flags = np.isin(anyone, outside)
    apart = False if other_optimum is None else other_optimum[guides]
    return Check(method, quantity, outside_flags, flags[0], flags[1], of_pair, (names,), apart)
