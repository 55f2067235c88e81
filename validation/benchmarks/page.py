"""The page of all comparisons, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import dedent

from validation.benchmarks.comparison import Comparison
from validation.benchmarks.job import OURS
from validation.benchmarks.projection import DISK_RATE, cost_table, costs, projection_table
from validation.benchmarks.screens import Screen
from validation.benchmarks.store import Store
from validation.benchmarks.tables import (
    fit_table,
    number,
    published_table,
    quality_table,
    time_table,
    tool_name,
)
from validation.machine import was_busy
from validation.peers.catalog import load_peers

TITLES = {
    "wilcoxon": "Wilcoxon rank-sum test, all perturbations",
    "t-test": "Welch's t-test, all perturbations",
    "nb-glm": "Negative binomial test of counts",
    "qc": "Quality control, filtered file written",
    "normalize": "Normalization and log1p, file to file",
    "convert": "CSR to CSC, file to file",
    "pseudobulk": "Pseudobulk sums, file to file",
    "pca": "Principal components, added to a copy of the file",
    "guides": "Guide assignment",
}
INTRODUCTION = """\
    Whole processes, one after the other, crispyx and one other tool in turns on the same file. Each
    tool runs in a virtual environment of its own with pinned versions; figures are medians over the
    turns, a ratio is the median over turns of other tool / crispyx: above 1, crispyx takes less.
    *operation*: with reading and writing, without imports. *process*: everything, imports included.
    *peak memory*: largest resident memory of the process, memory-mapped file pages included. Files
    are in the page cache. Numbers are written `crispyx / other tool`.
    """
SCATTER = """\
    **Provisional**: other processes were running. Seconds of operation and process are inflated and
    scatter; CPU seconds and their ratios hardly are.
    """
AGREEMENT = """\
    *max dp*, *max dz*: largest absolute difference over all (perturbation, gene) pairs; *NaN on one
    side*: share of pairs that only one of the tools tests; *max dx*: largest difference of values.
    """


PATHS = """\
    ns of processor time a stored value, the whole kernel on one thread (8,000 control cells and
    1,000 groups of 92): `python -m validation.kernel_paths`. The results are the same to the last
    bit.
    The paths of Student's tail are in [its page](methods/welch.md).
    """


def page(store: Store, screens: Mapping[str, Screen], plot: str, paths: str = "") -> str:
    """Return the page.

    ``plot`` is the name of the picture beside it, ``paths`` a table of the sets of instructions.
    """
    sections = [
        "# Benchmarks",
        _paragraph(INTRODUCTION),
        _commands(store),
        _machine(store),
        _paragraph(SCATTER) if was_busy(store.machine) else "",
        _screens(screens),
        f"![Ratios of operation time and peak memory]({plot})",
    ]
    for operation, title in TITLES.items():
        found = list(store.of(operation))
        if found:
            sections += [f"## {title}", time_table(found)]
            sections += _guides(found) if operation == "guides" else []
    sections += ["## How to read the agreement", _paragraph(AGREEMENT), _notes(store)]
    sections += _worse(store)
    sections += _projection(store, screens)
    if paths:
        sections += ["## Rank sums by instruction set", _paragraph(PATHS), paths]
    return "\n\n".join(section for section in sections if section) + "\n"


def _paragraph(text: str) -> str:
    return dedent(text).strip()


def _commands(store: Store) -> str:
    lines = "\n".join(["Made by", "", "```bash", *store.commands, "```"])
    return f"{lines}\n\nwhich takes up an interrupted session where it stopped."


def _machine(store: Store) -> str:
    ours = (run for found in store.comparisons.values() for run in found.ours if run.version)
    version = next((run.version for run in ours), "")
    facts = {"crispyx": version, **store.machine}
    return "\n".join(f"* {name}: {value}" for name, value in facts.items() if value)


def _notes(store: Store) -> str:
    """Return what to know about the tools that were run."""
    shown = {found.peer: tool_name(found) for found in store.comparisons.values() if found.theirs}
    notes = {shown[name]: peer.note for name, peer in load_peers().items() if name in shown}
    return "\n".join(f"* {name}: {note}" for name, note in notes.items() if note)


def _screens(screens: Mapping[str, Screen]) -> str:
    lines = [
        f"* {name}: {one.n_cells:,} cells x {one.n_genes:,} genes, {one.n_perturbations:,} "
        f"perturbations, {one.n_stored / 1e6:.1f} million values above 0 "
        f"({100 * one.n_stored / one.n_cells / one.n_genes:.1f} %)"
        for name, one in screens.items()
    ]
    return "\n".join(lines)


def _guides(found: list[Comparison]) -> list[str]:
    simulated = [one for one in found if one.data.startswith("simulated")]
    return [
        "`schraivogel-12` and `schraivogel-2` are its first guides, for what takes crispat up to a "
        "minute a guide.",
        "### Fit and call, without reading",
        fit_table(found, "kaichi"),
        "### Simulated guides with known truth: 200,000 cells x 2,000 guides",
        quality_table(simulated),
        "### Calls published by crispat's authors, Jaccard index of (cell, guide) pairs",
        published_table(one for one in found if one.data == "schraivogel"),
    ]


def _worse(store: Store) -> list[str]:
    """Name every comparison in which the other tool took less."""
    lines = []
    for found in store.comparisons.values():
        for quantity, words in (("operation", "time of the operation"), ("peak_rss", "memory")):
            ratio = found.ratio(quantity)
            if ratio is not None and ratio < 1:
                case = f"{found.operation}: {found.case} on {found.data}"
                lines.append(f"* {case}, {words}: {tool_name(found)} takes {number(ratio)} of ours")
    return ["## Where another tool takes less", "\n".join(lines)] if lines else []


def _projection(store: Store, screens: Mapping[str, Screen]) -> list[str]:
    measured = costs(store.comparisons.values(), screens)
    if not measured:
        return []
    return [
        "## Cost of one stored value, and larger screens",
        cost_table(measured),
        "Projected from the largest screen that was run, 8,248 genes at 20 % above 0 as in a "
        f"genome-wide screen. Reading is taken at {DISK_RATE / 1e9:.1f} GB/s of a local disk.",
        projection_table(measured),
    ]


def summary(found: Comparison) -> str:
    """Return one line about a comparison, for the terminal."""
    seconds = [found.middle(tool, "operation") for tool in (OURS, found.peer)]
    times = " / ".join(f"{number(x)} s" for x in seconds)
    ratio = found.ratio("operation")
    result = found.state if ratio is None else f"{number(ratio)}x"
    return f"{found.operation}: {found.case}, {found.data}, {found.peer}: {times}, {result}"
