"""The page put together from its template."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

from crispyx._io.atomic import atomic_path
from crispyx.errors import InputError
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
from crispyx.report.markup import Markup, element, escape, join, linked, paragraphs
from crispyx.report.numbers import count_text
from crispyx.report.tables import guide_table, perturbation_table, plain_table, target_table
from crispyx.report.volcano_data import volcano_json

# Sections that a screen may lack, before and after those of the comparison.
BEFORE = {"guides": "Guide calls", "quality": "Quality control", "cells": "Layout of the cells"}
AFTER = {"calibration": "Calibration"}


def write_report(path: str | os.PathLike[str], content: ReportContent) -> Path:
    """Write one HTML page that needs nothing else: no network, no other file.

    The same content gives the same bytes.

    Parameters
    ----------
    path : path
        File to write; its folder must exist.
    content : ReportContent
        What the page says.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    InputError
        The folder does not exist.
    """
    target = Path(path).expanduser()
    if not target.parent.is_dir():
        raise InputError(f"{str(target.parent)!r} is not a folder; create it, or write elsewhere")
    with atomic_path(target) as work:
        work.write_text(page(content), encoding="utf-8")
    return target


def page(content: ReportContent) -> str:
    """Return the page as text."""
    script = _resource("page.js")
    expression = content.expression
    return Template(_resource("page.html")).substitute(
        title=escape(content.title),
        subtitle=escape(content.subtitle),
        notice=element("p", content.notice, class_="notice", role="note") if content.notice else "",
        facts=join(_fact(fact) for fact in content.facts),
        summary=join(element("li", text) for text in content.summary),
        steps=join(_step(step) for step in content.steps),
        navigation=_navigation(content),
        before=_sections(content, BEFORE),
        after=_sections(content, AFTER),
        expression=join(
            [paragraphs(expression.paragraphs), *(_figure(one) for one in expression.figures)]
        ),
        alpha=escape(f"{expression.alpha:g}"),
        perturbation_table=perturbation_table(expression.perturbations, expression.alpha),
        targets=_targets(expression),
        methods=paragraphs(content.methods),
        references=join(element("li", linked(text)) for text in content.references),
        next_paragraphs=paragraphs(content.next_paragraphs),
        next_code=escape(content.next_code),
        files=_files(content.files),
        version=escape(content.version),
        style=_resource("page.css"),
        script=script,
        # The browser runs this very script and no other, whatever the data says.
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=volcano_json(expression),
    )


def _resource(name: str) -> str:
    return files("crispyx.report").joinpath(name).read_text(encoding="utf-8")


def _fact(fact: Fact) -> Markup:
    return element("div", element("dt", fact.label), element("dd", fact.value))


def _step(step: Step) -> Markup:
    removed = element("span", step.removed, class_="removed") if step.removed else Markup("")
    count = element("b", count_text(step.count))
    return element("li", count, element("span", step.label), removed)


def _navigation(content: ReportContent) -> Markup:
    names = {
        "summary": "Findings",
        **{name: title for name, title in BEFORE.items() if getattr(content, name) is not None},
        "expression": "Differential expression",
        "volcano": "Volcano plots",
        "targets": "Own targets",
        **{name: title for name, title in AFTER.items() if getattr(content, name) is not None},
        "methods": "Methods",
        "next": "Go on",
    }
    return join(
        (element("a", title, href=f"#{name}") for name, title in names.items()), separator="\n"
    )


def _sections(content: ReportContent, titles: Mapping[str, str]) -> Markup:
    pieces = []
    for name, title in titles.items():
        section = getattr(content, name)
        if section is None:
            continue
        fits = _guide_fits(content.guide_fits) if name == "guides" else Markup("")
        pieces.append(element("section", element("h2", title), _section(section), fits, id=name))
    return join(pieces, separator="\n")


def _section(section: Section) -> Markup:
    pieces = [paragraphs(section.paragraphs)]
    pieces.extend(_figure(figure) for figure in section.figures)
    if section.table is not None:
        pieces.append(plain_table(section.table))
    return join(pieces)


def _guide_fits(fits: Sequence[GuideFit]) -> Markup:
    if not fits:
        return Markup("")
    doubtful = sum(fit.status != "ok" for fit in fits)
    count = f"{count_text(len(fits))} guides, {count_text(doubtful)} without a reliable fit"
    return element(
        "details", element("summary", f"The fit of every guide ({count})"), guide_table(fits)
    )


def _figure(figure: Figure) -> Markup:
    drawing = element(
        "div", Markup(figure.svg), role="img", aria_label=figure.alternative, tabindex="0"
    )
    return element("figure", drawing, element("figcaption", figure.caption), class_="drawing")


def _targets(expression: DifferentialExpression) -> Markup:
    text = paragraphs(expression.on_target)
    if all(one.target is None for one in expression.perturbations):
        return text
    table = target_table(expression.perturbations, expression.alpha, len(expression.result.genes))
    return join([text, table])


def _files(rows: Sequence[OutputFile]) -> Markup:
    return plain_table(
        Table(
            caption="Paths relative to this report",
            header=("File", "Content"),
            rows=[(row.path, row.content) for row in rows],
        )
    )
