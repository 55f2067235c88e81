"""``crispyx demo``."""

from __future__ import annotations

from pathlib import Path

import click

from crispyx.cli.conduct import plain_errors, threads, to_stderr, warnings_as_notes


@click.command()
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
    "n_threads",
    type=click.IntRange(min=1),
    help="Threads; all usable cores unless given. No number depends on it.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Replace files in the folder that the demo did not make.",
)
def demo(output: Path, data: str, n_threads: int | None, force: bool) -> None:
    """Run the main job on a screen: guide calls, QC, Wilcoxon tests, tables, plots, a report.

    Takes less than a minute on two cores. Open report.html in the output folder afterwards.
    """
    from crispyx.cli.demo import DemoOptions, closing_summary, run_demo

    def note(text: str) -> None:
        to_stderr(f"    note: {text}")

    with plain_errors(), warnings_as_notes(note), threads(n_threads):
        outcome = run_demo(DemoOptions(output, data, force), say=to_stderr)
    click.echo(closing_summary(outcome))
