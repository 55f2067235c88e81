"""``crispyx run``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from crispyx.cli.answers import Answer
from crispyx.cli.conduct import threads, to_stderr
from crispyx.cli.operation import plain
from crispyx.settings import settings

EXAMPLE = """\
[screen]
expression = "expression.h5ad"     # counts, cells x genes
guides = "guide_counts.h5ad"       # guide counts, cells x guides; leave out where obs has labels
output = "screen_results"
control_label = "non-targeting"
# perturbation_column = "perturbation"
# n_jobs = 8
# memory_limit_gb = 16.0

[guides]                           # crispyx.guides.assign
model = "poisson_gauss"

[join]                             # crispyx.guides.add_to
targets = "targets.csv"            # columns guide and target

[qc]                               # crispyx.qc.quality_control_summary
min_genes = 100
min_cells_per_perturbation = 50
min_cells_per_gene = 100

[normalize]                        # crispyx.data.normalize_total_log1p
target_sum = 10_000.0

[pca]                              # crispyx.dimred.pca; run = false leaves a step out
n_comps = 50

[umap]
min_dist = 0.5

[de]                               # crispyx.de: wilcoxon, t-test or nb-glm
method = "wilcoxon"

[calibration]                      # crispyx.de.calibration; only where the section is there
n_splits = 5

[report]                           # crispyx.report.screen_report
alpha = 0.05
"""


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--dry-run", is_flag=True, help="Say what would be done, with what it takes.")
@click.option("--example", is_flag=True, help="Print a FILE to start from.")
@click.option("--force", is_flag=True, help="Replace files in the output folder that no run made.")
@click.option("-j", "--n-jobs", "--threads", "n_jobs", type=click.IntRange(min=1), help="Threads.")
@click.option("--memory-limit-gb", "--memory", "memory", type=click.FLOAT, help="Memory in GB.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Say everything as one JSON object.")
def run(
    file: Path | None,
    dry_run: bool,
    example: bool,
    force: bool,
    n_jobs: int | None,
    memory: float | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run a whole screen as FILE (.toml) says: guide calls to report.

    Every section is a function, its keys are the parameters. A step that is done is left alone: the
    same command goes on where it was interrupted, and repeats what a change of FILE or of an input
    touches.
    """
    if example:
        click.echo(EXAMPLE, nl=False)
        return
    if file is None:
        raise click.UsageError("Missing argument 'FILE'; --example prints one.")
    answer = Answer(quiet=quiet, as_json=as_json)
    before = settings.memory_limit_gb, settings.progress
    with answer.running():
        from crispyx.cli.run.configuration import read_configuration

        configuration = read_configuration(file)
        screen = configuration.screen
        try:
            settings.memory_limit_gb = memory or screen.get("memory_limit_gb") or before[0]
            settings.progress = False if quiet else before[1]
            with threads(n_jobs or screen.get("n_jobs")):
                facts = _run(configuration, dry_run, force, quiet=quiet or as_json)
        finally:
            settings.memory_limit_gb, settings.progress = before
    if dry_run and not quiet:
        answer.answer(plain(facts), _table(facts))
    else:
        answer.done(plain(facts), f"report: {facts['report']}" if facts["report"] else "done")


def _run(configuration: Any, dry_run: bool, force: bool, *, quiet: bool) -> dict[str, Any]:
    from crispyx._run.budget import working_memory
    from crispyx.cli.run.costs import BASIS, size_of
    from crispyx.cli.run.journal import Journal
    from crispyx.cli.run.pipeline import column_of, plan, run_steps, steps_of

    journal = Journal(configuration.output)
    size = size_of(
        configuration.expression,
        configuration.guides,
        column_of(configuration),
        configuration.screen.get("control_label"),
    )
    steps = steps_of(configuration)
    planned = plan(steps, journal, configuration.method, size, float(working_memory()))
    listed: list[dict[str, Any]] = [
        {
            "step": one.step.name,
            "does": one.step.text,
            "reads": str(one.step.source),
            "writes": str(one.step.output),
            "done": one.done,
            "seconds": one.cost.seconds,
            "memory_gb": one.cost.memory / 1e9,
            "disk_gb": one.cost.disk / 1e9,
        }
        for one in planned
    ]
    report = next((one.output for one in steps if one.name == "report"), None)
    facts = {
        "command": "run",
        "input": str(configuration.path),
        "output": str(configuration.output),
        "report": None if report is None else str(report),
        "steps": listed,
    }
    if dry_run:
        return facts | {"estimates": BASIS}
    configuration.output.mkdir(parents=True, exist_ok=True)
    say = (lambda text: None) if quiet else to_stderr
    took = dict(run_steps(configuration, planned, journal, force=force, say=say))
    for row in listed:
        row |= {"done": True, "took_seconds": took[row["step"]]}
    return facts


def _table(facts: dict[str, Any]) -> str:
    lines = [f"{'step':<10} {'state':<8} {'time':>8} {'memory':>9} {'disk':>9}  writes"]
    for one in facts["steps"]:
        lines.append(
            f"{one['step']:<10} {'done' if one['done'] else 'to do':<8} "
            f"{_time(one['seconds']):>8} {one['memory_gb']:>6.2f} GB {one['disk_gb']:>6.2f} GB  "
            f"{one['writes']}"
        )
    todo = [one for one in facts["steps"] if not one["done"]]
    lines.append(
        f"to do: {len(todo)} of {len(facts['steps'])} steps, about "
        f"{_time(sum(one['seconds'] for one in todo))}, at most "
        f"{max((one['memory_gb'] for one in todo), default=0.0):.2f} GB of memory, "
        f"{sum(one['disk_gb'] for one in todo):.2f} GB of disk"
    )
    lines.append(f"estimates: {facts['estimates']}; see docs/command_line.md")
    return "\n".join(lines)


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
