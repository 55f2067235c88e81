"""One self-contained HTML page about a screen."""

from __future__ import annotations

from crispyx.report.content import (
    DifferentialExpression,
    Fact,
    Figure,
    GuideFit,
    OutputFile,
    ReportContent,
    Section,
    Step,
    Table,
)
from crispyx.report.figures import inline_svg
from crispyx.report.page import write_report
from crispyx.report.perturbations import PerturbationSummary, TargetEffect, summarize_perturbations

__all__ = [
    "DifferentialExpression",
    "Fact",
    "Figure",
    "GuideFit",
    "OutputFile",
    "PerturbationSummary",
    "ReportContent",
    "Section",
    "Step",
    "Table",
    "TargetEffect",
    "inline_svg",
    "summarize_perturbations",
    "write_report",
]
