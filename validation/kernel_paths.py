"""What each set of loops of the rank sum costs: ``python -m validation.kernel_paths``.

The loops that suit the processor are chosen when crispyx is imported; here every one it has runs on
the same genes, on one thread. Time is that of the processor, which other processes hardly change.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import product
from unittest import mock

import numpy as np

from crispyx._kernels.layout import GroupedGenes
from crispyx._stats import rank_sum

PATHS = ("portable", "AVX2", "AVX-512")
N_CONTROL, N_GROUPS, N_PER_GROUP, N_GENES = 8_000, 1_000, 92, 64
EXPRESSED = {"10 %": 0.1, "30 %": 0.3}
TURNS = 5


def genes(expressed: float, *, logged: bool, seed: int = 0) -> GroupedGenes:
    """Return the genes of a simulated screen by group; of counts or of log-normalized values."""
    rng = np.random.default_rng(seed)
    sizes = np.array([N_CONTROL] + [N_PER_GROUP] * N_GROUPS, dtype=np.int64)
    n_stored = rng.binomial(sizes, expressed, (N_GENES, len(sizes)))
    flat = np.concatenate([[0], np.cumsum(n_stored)])
    ends = flat[np.arange(N_GENES)[:, None] * len(sizes) + np.arange(len(sizes) + 1)]
    values = rng.geometric(0.6, flat[-1]).astype(float)
    if logged:
        values = np.log1p(values * rng.lognormal(0.5, 0.4, flat[-1]))
    return GroupedGenes(0, N_GENES, values.astype(np.float32), ends, sizes)


def seconds(block: GroupedGenes, path: int) -> float:
    """Return the processor time of one call, the least of some turns."""
    found = []
    with mock.patch.object(rank_sum, "PATH", path):
        for _ in range(TURNS):
            begun = time.process_time()
            rank_sum.rank_sum_statistics(block, True, "compiled", 1)
            found.append(time.process_time() - begun)
    return min(found)


def rows() -> Iterator[str]:
    """Yield the lines of a table in Markdown, ns a stored value."""
    there = PATHS[: rank_sum.kernel.best_path() + 1]
    yield f"| values | above 0 | {' | '.join(there)} |"
    yield f"| --- | --- |{' ---: |' * len(there)}"
    for (share, expressed), logged in product(EXPRESSED.items(), (True, False)):
        block = genes(expressed, logged=logged)
        costs = [1e9 * seconds(block, path) / len(block.values) for path in range(len(there))]
        kind = "log-normalized" if logged else "counts"
        yield f"| {kind} | {share} | {' | '.join(f'{cost:.1f}' for cost in costs)} |"


if __name__ == "__main__":
    for line in rows():
        print(line, flush=True)
