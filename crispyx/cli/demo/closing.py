"""The closing words on standard output."""

from __future__ import annotations

import textwrap

from crispyx.cli.demo.own_data import OWN_DATA
from crispyx.cli.demo.words import findings
from crispyx.cli.demo.workflow import DemoOutcome

WIDTH = 96


def closing_summary(outcome: DemoOutcome) -> str:
    """Return what was found, where the files are, and what to do next."""
    analysis, folder = outcome.analysis, outcome.folder
    points = [
        textwrap.fill(point, WIDTH, initial_indent="  - ", subsequent_indent="    ")
        for point in findings(analysis)
    ]
    return "\n".join(
        [
            "",
            textwrap.fill(analysis.screen.reason, WIDTH),
            "",
            f"What was found (in {outcome.seconds:.0f} s)",
            *points,
            "",
            "Where it is",
            f"  {folder / 'report.html'}  <- open this in a browser",
            f"  {folder / 'tables'}  all results and one row per perturbation (CSV)",
            f"  {folder / 'plots'}  guide calls, quality control, volcano plots (PNG)",
            f"  {folder / 'data'}  every step as .h5ad, for scanpy and anndata",
            "",
            "Next: your own data, in Python",
            textwrap.indent(OWN_DATA, "    "),
        ]
    )
