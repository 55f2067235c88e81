"""From seconds on the screens that were run to screens that were not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from validation.benchmarks.comparison import Comparison
from validation.benchmarks.job import OURS
from validation.benchmarks.screens import LARGEST, Screen
from validation.benchmarks.tables import markdown_table, number

# Cells, genes and share of values above 0; the first as in Replogle et al. (2022), K562.
LARGE = {
    "2 million cells": (1_989_578, 8_248, 0.20),
    "8 million cells": (8_000_000, 8_248, 0.20),
    "100 million cells": (100_000_000, 8_248, 0.20),
}
# Screens large enough for the cost of a value to show.
MEASURED = ("S", "M", LARGEST)
# Bytes a second of a local solid-state disk; a network file system has a tenth.
DISK_RATE = 1.8e9


@dataclass(frozen=True)
class Cost:
    """What an operation of crispyx takes for one stored value.

    Attributes
    ----------
    n_stored : int
        Stored values of the screen it was measured on.
    nanoseconds : float
        Seconds of the operation / stored values, 10^-9 s.
    file_bytes : float
        Bytes read from disk for one stored value.
    """

    operation: str
    data: str
    n_stored: int
    nanoseconds: float
    file_bytes: float

    @property
    def disk_nanoseconds(self) -> float:
        """Time to read a stored value from disk, 10^-9 s."""
        return self.file_bytes / DISK_RATE * 1e9

    def seconds(self, n_stored: float) -> float:
        """Return the projected time: reading and computing overlap, the slower one counts."""
        return max(self.nanoseconds, self.disk_nanoseconds) * 1e-9 * n_stored


def costs(comparisons: Iterable[Comparison], screens: Mapping[str, Screen]) -> list[Cost]:
    """Return the cost of every case on every screen, the fastest median over its peers."""
    best: dict[tuple[str, str], Cost] = {}
    for found in comparisons:
        seconds, screen = found.middle(OURS, "operation"), screens.get(found.data)
        if seconds is None or screen is None or found.data not in MEASURED:
            continue
        nanoseconds = seconds / screen.n_stored * 1e9
        cost = Cost(found.case, found.data, screen.n_stored, nanoseconds, screen.bytes_per_value)
        at = found.case, found.data
        best[at] = min(best.get(at, cost), cost, key=lambda one: one.nanoseconds)
    return list(best.values())


def cost_table(found: Iterable[Cost]) -> str:
    """Return nanoseconds a stored value by operation and screen."""
    rows = [[c.operation, c.data, number(c.nanoseconds), number(c.file_bytes)] for c in found]
    header = ("operation", "data", "ns a stored value", "bytes a stored value on disk")
    return markdown_table(header, rows)


def projection_table(found: Iterable[Cost]) -> str:
    """Return projected times, each operation's from the largest screen it was run on."""
    largest: dict[str, Cost] = {}
    for cost in found:
        known = largest.get(cost.operation, cost)
        largest[cost.operation] = max(known, cost, key=lambda one: one.n_stored)
    rows = []
    for cost in largest.values():
        times = [_time(cost, cells * genes * share) for cells, genes, share in LARGE.values()]
        rows.append([cost.operation, cost.data, *times])
    return markdown_table(["operation", "from", *LARGE], rows)


def _time(cost: Cost, n_stored: float) -> str:
    seconds = cost.seconds(n_stored)
    limit = "disk" if cost.disk_nanoseconds > cost.nanoseconds else "computing"
    size = number(n_stored * cost.file_bytes / 1e9)
    return f"{number(seconds / 60)} min ({limit}; file {size} GB)"
