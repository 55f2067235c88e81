"""``python -m validation run``: compare results with other tools and write the reports."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from validation.cache import cache_folder
from validation.machine import describe_machine
from validation.parity.processes import run_suites
from validation.parity.report import html, markdown
from validation.parity.suites import PEERS
from validation.parity.tolerances import load_semantics

ROOT = Path(__file__).parents[2]
# Exit codes from 126 on have a meaning for shells.
LARGEST_CODE = 125


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add ``run`` to the commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "run", help="compare results with other tools"
    )
    parser.add_argument("peer", choices=(*PEERS, "all"))
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="only these; all by default")
    parser.add_argument("--data", nargs="+", metavar="NAME", help="only on these; all by default")
    parser.add_argument("--at-once", type=int, default=2, help="tools at the same time (2)")
    parser.add_argument("--output", type=Path, default=Path("validation_output"))
    parser.add_argument(
        "--docs", action="store_true", help="write validation/reports and docs/parity.md, too"
    )
    parser.set_defaults(run=compare)
    return parser


def compare(options: argparse.Namespace) -> int:
    """Compare and report; the exit code is the number of failing rows."""
    cache: Path = cache_folder(options.cache)
    cache.mkdir(parents=True, exist_ok=True)
    peers = PEERS if options.peer == "all" else (options.peer,)
    machine, semantics = describe_machine(), load_semantics()
    session = run_suites(peers, cache, options.methods, options.data, options.at_once)
    command = f"python -m validation run {options.peer}"
    for name in ("methods", "data"):
        if chosen := getattr(options, name):
            command += f" --{name} {' '.join(chosen)}"
    data = "" if os.environ.get("CRISPYX_DATA_DIR") else " (without CRISPYX_DATA_DIR)"
    machine |= session.facts
    options.output.mkdir(parents=True, exist_ok=True)
    text = markdown.page(session, command + data, machine, semantics)
    page = html.page(session, command + data, machine, semantics)
    for suffix, content in ((".md", text), (".html", page)):
        (options.output / f"{options.peer}{suffix}").write_text(content, encoding="utf-8")
    if options.docs:
        reports = ROOT / "validation" / "reports"
        reports.mkdir(exist_ok=True)
        (reports / f"{options.peer}.md").write_text(text, encoding="utf-8")
    if options.docs and options.peer == "all":
        short = markdown.overview(session, command + data, machine, semantics)
        (ROOT / "docs" / "parity.md").write_text(short, encoding="utf-8")
    print(f"{options.output / options.peer}.html, .md; {session.n_failing} rows fail")
    return min(session.n_failing, LARGEST_CODE)
