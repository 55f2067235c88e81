"""Comparisons as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from validation.benchmarks.cases import MIXTURES, PUBLISHED
from validation.benchmarks.comparison import OK, Comparison
from validation.benchmarks.job import OURS

TIME_HEADER = (
    "input",
    "data",
    "other tool",
    "threads",
    "operation, s",
    "ratio",
    "process, s",
    "ratio",
    "CPU, s",
    "ratio",
    "peak memory, MB",
    "ratio",
    "agreement",
)
# Whose calls, in the comparison with which peer, stand in which column.
PUBLISHED_COLUMNS = {
    (PUBLISHED, OURS): "crispyx, crispat's rule",
    ("kaichi", OURS): "crispyx, defaults",
    ("kaichi", "kaichi"): "kaichi",
    ("crispat", "crispat"): "crispat, run",
}
# A peer of this name is another project.
NAMESAKE = "crispyx"
# The model whose time is that of reading and of handing over calls.
WITHOUT_FIT = "umi"
NUMERIC = {"threads", "operation, s", "ratio", "process, s", "CPU, s", "peak memory, MB"}


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; columns of numbers are aligned to the right."""
    marks = ["---:" if name in NUMERIC else "---" for name in header]
    lines = [header, marks, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with three significant digits, a dash for None."""
    if value is None:
        return "-"
    if value == 0 or 0.001 <= abs(value) < 1e6:
        return f"{float(f'{value:.{digits}g}'):,.10g}"
    return f"{value:.1e}"


def time_table(comparisons: Iterable[Comparison]) -> str:
    """Return times and memory, crispyx / other tool, and their ratios."""
    rows = [time_row(found) for found in comparisons if found.peer != PUBLISHED]
    return markdown_table(TIME_HEADER, rows)


def time_row(found: Comparison) -> list[str]:
    """Return one row of :func:`time_table`."""
    case = found.case.partition(", ")[2] or found.case
    megabytes = 1e-6
    return [
        case,
        found.data,
        tool_name(found),
        str(found.threads),
        _both(found, "operation"),
        _times(found, "operation"),
        _both(found, "wall"),
        _times(found, "wall"),
        _both(found, "cpu"),
        _times(found, "cpu"),
        _both(found, "peak_rss", megabytes),
        _times(found, "peak_rss"),
        _agreement(found) if found.state == OK else found.state,
    ]


def tool_name(found: Comparison) -> str:
    """Return the other tool with its version; crispyx's namesake with where it is from."""
    version = next((run.version for run in found.theirs if run.version), "")
    origin = " (PyPI)" if found.peer == NAMESAKE else ""
    return f"{found.peer} {version}".strip() + origin


def quality_table(comparisons: Iterable[Comparison]) -> str:
    """Return precision and recall of each tool's calls on simulated guides, by model."""
    header = ("model", "tool", "precision", "recall")
    rows: dict[tuple[str, str], list[str]] = {}
    for found in comparisons:
        for tool in (OURS, found.peer):
            if f"precision {tool}" in found.agreement:
                name = "crispyx" if tool == OURS else tool
                values = [found.agreement[f"{what} {tool}"] for what in ("precision", "recall")]
                rows[found.case, name] = [found.case, name, *(f"{x:.4f}" for x in values)]
    return markdown_table(header, rows.values())


def fit_table(comparisons: Iterable[Comparison], peer: str) -> str:
    """Return seconds beyond those of the rule ``umi``, which reads and calls without a fit."""
    found = {(one.case, one.data, one.threads): one for one in comparisons if one.peer == peer}
    rows = []
    for (model, data, threads), one in found.items():
        base = found.get((WITHOUT_FIT, data, threads))
        if base is None or model not in MIXTURES:
            continue
        times = [_beyond(one, base, tool) for tool in (OURS, peer)]
        ours, theirs = times
        ratio = theirs / ours if ours and theirs and min(ours, theirs) > 0 else None
        words = " / ".join(number(seconds) for seconds in times)
        rows.append([model, data, str(threads), words, _quotient(ratio)])
    header = ("model", "data", "threads", f"beyond `{WITHOUT_FIT}`, s", "ratio")
    return markdown_table(header, rows)


def _beyond(one: Comparison, base: Comparison, tool: str) -> float | None:
    whole, without = one.middle(tool, "operation"), base.middle(tool, "operation")
    return None if whole is None or without is None else whole - without


def published_table(comparisons: Iterable[Comparison]) -> str:
    """Return the Jaccard index of each tool's calls with those crispat's authors published."""
    header = ("model", *PUBLISHED_COLUMNS.values())
    cells: dict[str, dict[str, str]] = {}
    for found in comparisons:
        row = cells.setdefault(found.case, dict.fromkeys(header[1:], "-"))
        for (peer, tool), column in PUBLISHED_COLUMNS.items():
            value = found.agreement.get(f"Jaccard {tool} and published")
            if peer == found.peer and value is not None:
                row[column] = f"{value:.5f}"
    shown = {model: row for model, row in cells.items() if set(row.values()) != {"-"}}
    return markdown_table(header, ([model, *row.values()] for model, row in shown.items()))


def _both(found: Comparison, quantity: str, scale: float = 1.0) -> str:
    values = [found.middle(tool, quantity) for tool in (OURS, found.peer)]
    return " / ".join(number(None if x is None else x * scale) for x in values)


def _times(found: Comparison, quantity: str) -> str:
    return _quotient(found.ratio(quantity))


def _quotient(ratio: float | None) -> str:
    return "-" if ratio is None else f"{number(ratio)}x"


def _agreement(found: Comparison) -> str:
    measures: Mapping[str, float] = {
        name: value
        for name, value in found.agreement.items()
        if not name.startswith(("precision", "recall", "Jaccard ours", f"Jaccard {found.peer}"))
    }
    return (
        ", ".join(f"{name} {number(value, 5)}" for name, value in measures.items())
        or found.note
        or "-"
    )
