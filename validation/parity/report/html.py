"""A run as one page for the browser, pictures inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from validation.parity.report.markdown import INTRODUCTION
from validation.parity.report.plots import picture, worth_drawing
from validation.parity.report.tables import HEADER, cells, explanations, reasons, verdict
from validation.parity.session import Session

STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem; padding: 0 1rem }
table { border-collapse: collapse; margin: .6rem 0; width: 100% }
th, td { border-bottom: 1px solid #ddd; padding: .25rem .5rem; text-align: left }
td { vertical-align: top }
th { background: #f3f3f3; position: sticky; top: 0 }
td { overflow-wrap: break-word } td:nth-child(-n+3) { white-space: nowrap }
details { display: inline-block; max-width: 49% }
tr.agrees td.result { color: #176b2c } tr.explained td.result { color: #7a5600 }
tr.fails { background: #fde8e6 } tr.fails td.result { color: #a3150a; font-weight: 600 }
details { margin: .3rem 0 } summary { cursor: pointer } img { max-width: 100% }
code { background: #f3f3f3; padding: .1rem .3rem }
"""


def page(session: Session, command: str, machine: Mapping[str, str], semantics: dict) -> str:
    """Return the report of a run as HTML that needs no other file."""
    rows = session.rows
    tools = ", ".join(f"{name} {version}" for name, version in session.versions.items())
    facts = {"other tools": tools, **machine}
    introduction = escape(INTRODUCTION).replace("**", "").replace("*", "").replace("`", "")
    parts = [
        "<h1>Agreement with other tools</h1>",
        f"<p>{introduction}</p>",
        f"<p><strong>{escape(verdict(rows))}</strong></p>",
        f"<p><code>{escape(command)}</code></p>",
        "<ul>" + "".join(f"<li>{escape(k)}: {escape(v)}</li>" for k, v in facts.items()) + "</ul>",
    ]
    for peer in dict.fromkeys(row.peer for row in rows):
        chosen = [row for row in rows if row.peer == peer]
        version = session.versions.get(peer, "")
        parts.append(f"<h2>{escape(f'{peer} {version}')}</h2>")
        parts.append(
            _table(
                HEADER,
                [cells(row) for row in chosen],
                ["fails" if row.fails else row.status.replace(" ", "-") for row in chosen],
            )
        )
        for row in chosen:
            if worth_drawing(row):
                title = escape(f"{row.method}: {row.quantity}, {row.data}")
                image = f'<img alt="{title}" src="data:image/png;base64,{picture(row)}">'
                shown = " open" if row.fails else ""
                parts.append(f"<details{shown}><summary>{title}</summary>{image}</details>")
    found = explanations(rows)
    if found:
        table = [[key, f"{n:,}", semantics[key]] for key, n in found.items()]
        parts += ["<h2>Other meanings</h2>", _table(("name", "numbers", "explanation"), table)]
    parts += ["<h2>Why this much may differ</h2>"]
    parts += [_table(("quantities", "reason"), [list(pair) for pair in reasons(rows)])]
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>Agreement with other tools</title><style>{STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def _table(
    header: Sequence[str], rows: Sequence[Sequence[str]], classes: Sequence[str] = ()
) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    lines = []
    for i, row in enumerate(rows):
        kind = f' class="{classes[i]}"' if classes else ""
        marked = (
            f'<td class="result">{escape(text)}</td>'
            if name == "result"
            else f"<td>{escape(text)}</td>"
            for name, text in zip(header, row, strict=True)
        )
        lines.append(f"<tr{kind}>{''.join(marked)}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
