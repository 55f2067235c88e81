"""Independent random streams: one for each part of a screen, and for each block of cells."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

# Part of the definition of a simulated screen: another value gives other (equally valid) counts.
CELLS_PER_BLOCK = 4096


class Stream(IntEnum):
    """Parts of a screen that draw their own random numbers."""

    GENES = 0
    TARGETS = 1
    EFFECTS = 2
    GUIDES = 3
    CELLS = 4
    EXPRESSION = 5
    GUIDE_COUNTS = 6


def generator(seed: int, stream: Stream, block: int = 0) -> np.random.Generator:
    """Return the generator of one stream and block, whatever was drawn elsewhere before."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, block)))
