"""What a report says, without any HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crispyx.report.perturbations import PerturbationSummary

if TYPE_CHECKING:
    from crispyx.de import RankGenesGroupsResult


@dataclass(frozen=True)
class Fact:
    """A number worth a tile in the header, such as 19,060 cells."""

    value: str
    label: str


@dataclass(frozen=True)
class Step:
    """What is left after one step of the analysis."""

    count: int
    label: str
    removed: str = ""


@dataclass(frozen=True)
class Figure:
    """A drawing (see :func:`crispyx.report.inline_svg`), its caption and its text alternative."""

    svg: str
    caption: str
    alternative: str


@dataclass(frozen=True)
class Table:
    """A small table; columns whose first value is a number are set flush right."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str | int]]


@dataclass(frozen=True)
class Section:
    """Paragraphs with figures and a table."""

    paragraphs: Sequence[str]
    table: Table | None = None
    figures: Sequence[Figure] = ()


@dataclass(frozen=True)
class GuideFit:
    """The mixture fitted to one guide, and what was called with it.

    ``threshold`` is the smallest count called, ``expected_fdr`` the mean of 1 - posterior over the
    calls, ``bic_difference`` above 0 speaks for two components. NaN where there is none.
    """

    guide: str
    status: str
    n_seen: int
    n_called: int
    threshold: float
    expected_fdr: float
    bic_difference: float


@dataclass(frozen=True)
class DifferentialExpression:
    """The comparison of every perturbation with the control.

    Attributes
    ----------
    paragraphs : sequence of str
        What was compared, in words.
    result : RankGenesGroupsResult
        Numbers behind the volcano plots.
    perturbations : sequence of PerturbationSummary
        Rows of the table, in the order shown first.
    alpha : float
        Adjusted p up to which a gene counts as a hit.
    on_target : sequence of str
        Paragraphs above the table of effects on the perturbations' own targets.
    figures : sequence of Figure
        Drawings above the table of perturbations.
    """

    paragraphs: Sequence[str]
    result: RankGenesGroupsResult
    perturbations: Sequence[PerturbationSummary]
    alpha: float
    on_target: Sequence[str]
    figures: Sequence[Figure] = ()


@dataclass(frozen=True)
class OutputFile:
    """A file made beside the report."""

    path: str
    content: str


@dataclass(frozen=True)
class ReportContent:
    """Everything on the page; all text is plain text and is escaped when written.

    Attributes
    ----------
    title, subtitle : str
        Heading, and the line below it.
    notice : str
        Something the reader must not miss, such as that the data are simulated; empty for none.
    facts : sequence of Fact
        Tiles below the heading.
    summary : sequence of str
        The findings in plain language, one point each.
    steps : sequence of Step
        Cells left after each step.
    guides, quality : Section or None
        Guide calls and quality control; None leaves the section out.
    guide_fits : sequence of GuideFit
        Rows of the table of fits; none leaves the table out.
    expression : DifferentialExpression
        The comparison with the control.
    methods : sequence of str
        Paragraphs.
    references : sequence of str
        Citations; an address in them becomes a link.
    next_paragraphs : sequence of str
        How to do the same with other data, in words.
    next_code : str
        And in code.
    files : sequence of OutputFile
        Files made beside the report.
    version : str
        Version of crispyx.
    cells, calibration : Section or None
        Layout of the cells, and the behavior of the test where nothing changes.
    """

    title: str
    subtitle: str
    notice: str
    facts: Sequence[Fact]
    summary: Sequence[str]
    steps: Sequence[Step]
    guides: Section | None
    guide_fits: Sequence[GuideFit]
    quality: Section | None
    expression: DifferentialExpression
    methods: Sequence[str]
    references: Sequence[str]
    next_paragraphs: Sequence[str]
    next_code: str
    files: Sequence[OutputFile]
    version: str
    cells: Section | None = None
    calibration: Section | None = None
