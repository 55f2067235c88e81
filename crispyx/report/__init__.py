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
from crispyx.report.guide_fits import guide_fits
from crispyx.report.page import write_report
from crispyx.report.perturbations import PerturbationSummary, TargetEffect, summarize_perturbations
from crispyx.report.screen import screen_report

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
    "guide_fits",
    "inline_svg",
    "screen_report",
    "summarize_perturbations",
    "write_report",
]
