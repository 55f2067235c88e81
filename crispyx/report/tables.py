"""Tables of the page, written out so that they can be read and printed without any script."""

from __future__ import annotations

import math
from collections.abc import Sequence

from crispyx.report.content import GuideFit, Table
from crispyx.report.markup import Markup, element, join
from crispyx.report.numbers import NOTHING, count_text, lfc_text, p_text, percent_text
from crispyx.report.perturbations import PerturbationSummary, TargetEffect

ROWS_SHOWN = 200


def plain_table(table: Table) -> Markup:
    """Return a small table."""
    first = table.rows[0] if table.rows else ()
    is_number = [isinstance(value, int) for value in first] or [False] * len(table.header)
    head = element(
        "tr",
        join(
            element("th", name, scope="col", class_="number" if right else None)
            for name, right in zip(table.header, is_number, strict=True)
        ),
    )
    body = join(
        element("tr", join(_plain_cell(value, column) for column, value in enumerate(row)))
        for row in table.rows
    )
    return _framed(
        table.caption,
        element("table", element("caption", table.caption), _head(head), element("tbody", body)),
        "frame small",
    )


def _plain_cell(value: str | int, column: int) -> Markup:
    if column == 0:
        return element("th", value, scope="row")
    if isinstance(value, int):
        return element("td", count_text(value), class_="number")
    return element("td", value)


def guide_table(fits: Sequence[GuideFit]) -> Markup:
    """Return the sortable table of the mixtures fitted to all guides."""
    columns = [
        ("Guide", "text"),
        ("Fit", "text"),
        ("Cells with a UMI", "number"),
        ("Cells called", "number"),
        ("Called from UMIs", "number"),
        ("Expected false calls", "number"),
        ("BIC difference", "number"),
    ]
    rows = [_guide_row(fit) for fit in fits]
    return _sortable("guide-fits", "Mixture of every guide", columns, rows)


def _guide_row(fit: GuideFit) -> Markup:
    tone = "unchanged" if fit.status == "ok" else "up"
    threshold = NOTHING if math.isnan(fit.threshold) else f"{fit.threshold:,.0f}"
    difference = NOTHING if math.isnan(fit.bic_difference) else f"{fit.bic_difference:,.0f}"
    return element(
        "tr",
        element("th", fit.guide, scope="row", data_sort=fit.guide),
        element("td", fit.status, class_=f"verdict {tone}"),
        _number(count_text(fit.n_seen), fit.n_seen),
        _number(count_text(fit.n_called), fit.n_called),
        _number(threshold, fit.threshold),
        _number(percent_text(fit.expected_fdr), fit.expected_fdr),
        _number(difference, fit.bic_difference),
    )


def perturbation_table(rows: Sequence[PerturbationSummary], alpha: float) -> Markup:
    """Return the sortable table of all perturbations; their names lead to their volcanoes."""
    columns = [
        ("Perturbation", "text"),
        ("Cells", "number"),
        (f"Genes changed (adj p ≤ {alpha:g})", "number"),
        ("lowered", "number"),
        ("raised", "number"),
        ("Top gene", "text"),
        ("its log2FC", "number"),
        ("its adj p", "number"),
        ("Own target", "text"),
    ]
    made = [_perturbation_row(row, alpha) for row in rows]
    return _sortable("perturbations", "Every perturbation against the control", columns, made)


def _perturbation_row(row: PerturbationSummary, alpha: float) -> Markup:
    name = element("a", row.perturbation, href="#volcano", data_perturbation=row.perturbation)
    verdict = NOTHING if row.target is None else row.target.verdict(alpha)
    return element(
        "tr",
        element("th", name, scope="row", data_sort=row.perturbation),
        _number(count_text(row.n_cells), row.n_cells),
        _number(count_text(row.n_hits), row.n_hits),
        _number(count_text(row.n_lowered), row.n_lowered),
        _number(count_text(row.n_raised), row.n_raised),
        element("td", row.top_gene or NOTHING, class_="gene"),
        _number(lfc_text(row.top_logfoldchange), row.top_logfoldchange),
        _number(p_text(row.top_pvalue_adj), row.top_pvalue_adj),
        element("td", verdict, class_=f"verdict {_tone(verdict)}"),
    )


def target_table(rows: Sequence[PerturbationSummary], alpha: float, n_genes: int) -> Markup:
    """Return the table of what every perturbation does to its own target, where it is measured."""
    columns = [
        ("Perturbation", "text"),
        ("Target gene", "text"),
        ("log2FC", "number"),
        ("", "none"),
        ("p", "number"),
        ("adj p", "number"),
        (f"Rank of {count_text(n_genes)} genes", "number"),
        ("Control cells with a count", "number"),
        ("Perturbed cells with a count", "number"),
        ("Target is", "text"),
    ]
    aimed = [(row, row.target) for row in rows if row.target is not None]
    made = [_target_row(row.perturbation, target, alpha, n_genes) for row, target in aimed]
    return _sortable("targets", "Effect of each perturbation on its own target", columns, made)


def _target_row(name: str, target: TargetEffect, alpha: float, n_genes: int) -> Markup:
    verdict = target.verdict(alpha)
    rank = target.rank
    return element(
        "tr",
        element("th", name, scope="row", data_sort=name),
        element("td", target.gene, class_="gene"),
        _number(lfc_text(target.logfoldchange), target.logfoldchange),
        element("td", _bar(target.logfoldchange), class_="bar"),
        _number(p_text(target.pvalue), target.pvalue),
        _number(p_text(target.pvalue_adj), target.pvalue_adj),
        _number(
            NOTHING if rank is None else count_text(rank), n_genes + 1 if rank is None else rank
        ),
        _number(percent_text(target.pts_rest), target.pts_rest),
        _number(percent_text(target.pts), target.pts),
        element("td", verdict, class_=f"verdict {_tone(verdict)}"),
    )


def _bar(lfc: float, limit: float = 3.0) -> Markup:
    """Return a bar from zero to the fold change, for the eye only."""
    if not math.isfinite(lfc):
        return Markup("")
    width = 40 * min(abs(lfc), limit) / limit
    bar = element(
        "rect",
        x=f"{40 - width if lfc < 0 else 40:.1f}",
        y="3",
        width=f"{width:.1f}",
        height="8",
        class_="down" if lfc < 0 else "up",
    )
    zero = element("line", x1="40", x2="40", y1="0", y2="14", class_="zero")
    return element(
        "svg", bar, zero, viewBox="0 0 80 14", width="80", height="14", aria_hidden="true"
    )


def _tone(verdict: str) -> str:
    return {"lowered": "down", "raised": "up"}.get(verdict, "unchanged")


def _number(text: str, value: float) -> Markup:
    # Rows without a value sort last whichever way: they carry no sort key.
    key = f"{value:.9g}" if math.isfinite(value) else None
    return element("td", text, class_="number", data_sort=key)


def _sortable(
    name: str, caption: str, columns: Sequence[tuple[str, str]], rows: Sequence[Markup]
) -> Markup:
    """Return a table whose first rows stand in it; the others wait in a template.

    A browser reads a template without laying it out: thousands of rows cost nothing until they are
    asked for.
    """
    cells = join(
        element("th", title, scope="col", data_kind=kind if kind != "none" else None)
        if title
        else element("td", aria_hidden="true")
        for title, kind in columns
    )
    framed = _framed(
        caption,
        element(
            "table",
            element("caption", caption),
            _head(element("tr", cells)),
            element("tbody", join(rows[:ROWS_SHOWN])),
            id=f"table-{name}",
            class_="sortable",
        ),
    )
    if len(rows) <= ROWS_SHOWN:
        return framed
    waiting = element("template", element("table", join(rows[ROWS_SHOWN:])), id=f"more-{name}")
    note = element(
        "p",
        element("span", f"{count_text(ROWS_SHOWN)} of {count_text(len(rows))} rows are shown."),
        element("button", f"Show {ROWS_SHOWN} more", type="button", hidden=True),
        class_="more",
        id=f"note-{name}",
    )
    return join([framed, note, waiting])


def _head(row: Markup) -> Markup:
    return element("thead", row)


def _framed(caption: str, table: Markup, kind: str = "frame") -> Markup:
    # Wide tables scroll within their frame; focusable so that the keyboard reaches them.
    return element("div", table, class_=kind, role="region", aria_label=caption, tabindex="0")
