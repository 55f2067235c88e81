"""A run in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from validation.benchmarks.tables import markdown_table
from validation.parity.check import Row
from validation.parity.report.tables import HEADER, cells, explanations, reasons, verdict
from validation.parity.session import Session

METHODS = Path(__file__).parents[3] / "docs" / "methods"
INTRODUCTION = """\
Every method beside an outside tool, on real and simulated screens. *reference* is the definition in
`reference/`, *compiled* the kernels; both run through the same public functions. A difference is
classified: **agrees** (within the tolerance), **explained** (another meaning, of which every
number is found by a rule and named below), **bug** (neither). The exit code of the command is the
number of rows that fail."""

MUTANTS = """\
## Would a wrong kernel show?

`make mutants` builds the package with one error at a time, such as a tie term that is one too
large or a dispersion times 1.001, in a copy of the source tree. Each has to fail the property tests
of its method, and a row of this comparison that names the method:
[validation/reports/mutants.md](../validation/reports/mutants.md)."""


def page(session: Session, command: str, machine: Mapping[str, str], semantics: dict) -> str:
    """Return the report of a run."""
    rows = session.rows
    parts = [
        "# Agreement with other tools",
        INTRODUCTION,
        f"Result: {verdict(rows)}.",
        f"```bash\n{command}\n```",
        facts(session, machine),
    ]
    for peer in dict.fromkeys(row.peer for row in rows):
        version = session.versions.get(peer, "")
        parts.append(f"## {peer} {version}".rstrip())
        chosen = [_escaped(cells(row)) for row in rows if row.peer == peer]
        parts.append(markdown_table(HEADER, chosen))
    found = explanations(rows)
    if found:
        parts.append("## Other meanings")
        table = [[key, f"{n:,}", semantics[key]] for key, n in found.items()]
        parts.append(markdown_table(("name", "numbers", "explanation"), table))
    parts.append("## Why this much may differ")
    why = (_escaped(list(pair)) for pair in reasons(rows))
    parts.append(markdown_table(("quantities", "reason"), why))
    return "\n\n".join(parts) + "\n"


def overview(session: Session, command: str, machine: Mapping[str, str], semantics: dict) -> str:
    """Return the page for users: one line a method and tool, and what differs by intention."""
    header = ("method", "tool", "data", "numbers", "largest difference allowed", "result")
    lines: dict[tuple[str, str], list[Row]] = {}
    for row in session.rows:
        lines.setdefault((row.method, row.peer), []).append(row)
    table = []
    for (method, peer), rows in sorted(lines.items()):
        data = ", ".join(dict.fromkeys(row.data for row in rows))
        allowed = max((_allowed(row) for row in rows), key=lambda pair: pair[0])[1]
        name = (
            f"[{method}](methods/{method}.md)" if (METHODS / f"{method}.md").is_file() else method
        )
        n = sum(row.n for row in rows)
        table.append([name, peer, data, f"{n:,}", allowed, verdict(rows)])
    found = [[key, f"{n:,}", semantics[key]] for key, n in explanations(session.rows).items()]
    parts = [
        "# Agreement with other tools",
        INTRODUCTION,
        f"Result: {verdict(session.rows)}. Every row, with the number that differs most, stands in "
        "[validation/reports](../validation/reports/all.md); the command also writes a page with "
        "plots.",
        f"```bash\n{command}\n```",
        facts(session, machine),
        markdown_table(header, table),
        "## What differs by intention",
        markdown_table(("name", "numbers", "explanation"), found),
        MUTANTS,
    ]
    return "\n\n".join(parts) + "\n"


def _allowed(row: Row) -> tuple[float, str]:
    """Return what a row may differ by, to compare and in words."""
    if row.tolerance is None:
        return -1.0, "-"
    if row.tolerance.share:
        return row.tolerance.share, f"{row.tolerance.share:.2%} of the numbers"
    return row.tolerance.outside, f"{row.tolerance.outside:.0e} ({row.tolerance.measure})"


def facts(session: Session, machine: Mapping[str, str]) -> str:
    """Return versions and machine as a list."""
    tools = ", ".join(f"{name} {version}" for name, version in session.versions.items())
    lines = {"other tools": tools, **machine}
    return "\n".join(f"* {name}: {text}" for name, text in lines.items() if text)


def _escaped(texts: list[str]) -> list[str]:
    return [text.replace("|", "\\|").replace("\n", " ") for text in texts]
