"""The rows of a run as cells of tables, the same in both formats."""

from __future__ import annotations

from collections.abc import Iterable

from validation.parity.check import Difference, Row

HEADER = (
    "method",
    "quantity",
    "data",
    "numbers",
    "reference, largest difference",
    "compiled, largest difference",
    "compiled and reference",
    "allowed",
    "result",
    "where it differs most: outside | reference | compiled",
)


def difference(found: Difference | None, n: int) -> str:
    """Return the largest difference in words; none where all ``n`` numbers are explained."""
    if found is None or found.n_explained == n:
        return "-"
    return "0" if found.largest == 0 else f"{found.largest:.1e}"


def share(found: Difference | None, n: int) -> str:
    """Return the share of numbers that differ."""
    if found is None:
        return "-"
    return f"{found.n_beyond:,} of {n:,}"


def cells(row: Row) -> list[str]:
    """Return the cells of a row."""
    result: str = row.status
    if row.explanations:
        counts = (f"{key} ({n:,})" for key, n in row.explanations.items())
        result = f"{result}: {', '.join(counts)}"
    if row.tolerance is None:
        return [row.method, row.quantity or "all", row.data, *("-",) * 5, result, row.note]
    if row.tolerance.share:
        figures = [share(row.reference, row.n), share(row.compiled, row.n)]
        allowed = f"{row.tolerance.share:.2%} of the numbers"
    else:
        figures = [difference(row.reference, row.n), difference(row.compiled, row.n)]
        allowed = f"{row.tolerance.outside:.0e}, {row.tolerance.measure}"
        allowed = "0" if row.tolerance.outside == 0 else allowed
    figures.append(difference(row.engines, row.n))
    return [row.method, row.quantity, row.data, f"{row.n:,}", *figures, allowed, result, row.worst]


def reasons(rows: Iterable[Row]) -> list[tuple[str, str]]:
    """Return quantities that may differ by the same reason, and the reason, each once."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.tolerance is not None:
            names = found.setdefault(row.tolerance.reason, [])
            name = f"{row.method}: {row.quantity}"
            if name not in names:
                names.append(name)
    return [("; ".join(names), reason) for reason, names in found.items()]


def explanations(rows: Iterable[Row]) -> dict[str, int]:
    """Return how many numbers each explanation covers."""
    found: dict[str, int] = {}
    for row in rows:
        for key, n in row.explanations.items():
            found[key] = found.get(key, 0) + n
    return found


def verdict(rows: Iterable[Row]) -> str:
    """Return how many rows came out how."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.status] = counts.get(row.status, 0) + 1
    return ", ".join(f"{n} {status}" for status, n in counts.items())
