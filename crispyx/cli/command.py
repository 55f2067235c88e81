"""Commands, their options and their exit codes: 0 done, 1 data error, 2 usage."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from crispyx._version import __version__
from crispyx.errors import CrispyxError, CrispyxWarning
from crispyx.settings import settings


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="crispyx")
def main() -> None:
    """Analyze single-cell CRISPR screens, from guide counts to differential expression."""


@main.command()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo_output"),
    show_default=True,
    help="Folder for everything the demo makes.",
)
@click.option(
    "--data",
    type=click.Choice(["auto", "schraivogel", "simulated"]),
    default="auto",
    show_default=True,
    help="The real screen, a simulated one, or the real one where it can be had.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Threads; all usable cores unless given. No number depends on it.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Replace files in the folder that the demo did not make.",
)
def demo(output: Path, data: str, threads: int | None, force: bool) -> None:
    """Run the main job on a screen: guide calls, QC, Wilcoxon tests, tables, plots, a report.

    Takes less than a minute on two cores. Open report.html in the output folder afterwards.
    """
    from crispyx.cli.demo import DemoOptions, closing_summary, run_demo

    with _plain_errors(), _warnings_as_notes(), _threads(threads):
        outcome = run_demo(DemoOptions(output, data, force), say=_progress)
    click.echo(closing_summary(outcome))


def _progress(text: str) -> None:
    click.echo(text, err=True)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """End with one line on standard error and exit code 1 when the data or the disk is at fault."""
    try:
        yield
    except (CrispyxError, OSError) as error:
        click.echo(f"crispyx: error: {' '.join(str(error).split())}", err=True)
        raise SystemExit(1) from error


@contextmanager
def _warnings_as_notes() -> Iterator[None]:
    """Show the package's own warnings as one line each, without the place in its source."""

    def note(message: Warning | str, category: type[Warning], *place: Any) -> None:
        if issubclass(category, CrispyxWarning):
            _progress(f"    note: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("always", CrispyxWarning)
        warnings.showwarning = note  # type: ignore[assignment]
        yield


@contextmanager
def _threads(n_threads: int | None) -> Iterator[None]:
    before = settings.n_threads
    if n_threads is not None:
        settings.n_threads = n_threads
    try:
        yield
    finally:
        settings.n_threads = before
