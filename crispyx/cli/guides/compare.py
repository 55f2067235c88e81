"""``crispyx guides compare``."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import click

from crispyx._io.atomic import atomic_path
from crispyx.cli.answers import Answer
from crispyx.cli.guides.calls import write_calls
from crispyx.cli.guides.options import counts_argument, one_input, output_options, running_options
from crispyx.cli.guides.outputs import (
    CALLS,
    FIGURES,
    TABLES,
    require_distinct,
    usable_output,
    write_file,
)
from crispyx.cli.guides.parameters import given_parameters, parameter_options, require_usable

PARAMETERS = ("min_models", "layer", "feature_type", "modality")
DEFAULTS = {"feature_type": "CRISPR Guide Capture"}


@click.command()
@counts_argument
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    help="Model to compare; give it once for each, or names with commas between.  "
    "[default: poisson_gauss,gauss,poisson,umi]",
)
@output_options(f"agreement, {', '.join(TABLES)}; printed unless given", required=False)
@click.option("--consensus", metavar="FILE", help=f"Also write the calls of the majority: {CALLS}.")
@click.option("--plot", metavar="FILE", help=f"Also draw the agreement: {', '.join(FIGURES)}.")
@parameter_options(PARAMETERS, DEFAULTS)
@running_options
def compare(
    counts: str | None,
    counts_option: str | None,
    models: tuple[str, ...],
    output: str | None,
    consensus: str | None,
    plot: str | None,
    force: bool,
    n_jobs: int | None,
    quiet: bool,
    as_json: bool,
    params: tuple[str, ...],
    **options: Any,
) -> None:
    """Call the guides of COUNTS by several models and say how far they agree (Jaccard)."""
    answer = Answer(quiet=quiet, as_json=as_json)
    source = one_input(counts, counts_option)
    given = given_parameters(PARAMETERS, options, params)
    names = [name.strip() for text in models for name in text.split(",")]
    for name in names:
        require_usable(name, {})
    if names:
        given["models"] = names
    if len(names) == 1 or len(set(names)) < len(names):
        raise click.UsageError(f"--model names {', '.join(names)}; give two or more, each once")
    with answer.running():
        from crispyx import guides as gd
        from crispyx.plotting import guide_comparison
        from crispyx.plotting.style import root_figure, save_as

        wanted = (
            (output, TABLES, "--output"),
            (consensus, CALLS, "--consensus"),
            (plot, FIGURES, "--plot"),
        )
        table_to, calls_to, plot_to = (
            None if name is None else usable_output(name, formats, option, [source], force)
            for name, formats, option in wanted
        )
        require_distinct([table_to, calls_to, plot_to])
        found = gd.compare(source, n_jobs=n_jobs, **given)
        table = found.agreement.copy()
        table.insert(0, "n_calls", found.n_calls)
        with ExitStack() as stack:
            if table_to is not None:
                work = stack.enter_context(atomic_path(table_to.path))
                write_file(table.reset_index(names="model"), work, table_to.suffix)
            if plot_to is not None:
                work = stack.enter_context(atomic_path(plot_to.path))
                save_as(root_figure(guide_comparison(found)[0]), work, plot_to.suffix)
            if calls_to is not None:
                write_calls(found.consensus, calls_to)
    facts = {
        "models": found.models,
        "n_calls": {str(name): int(n) for name, n in found.n_calls.items()},
        "agreement": {
            str(name): {str(other): _number(value) for other, value in row.items()}
            for name, row in found.agreement.iterrows()
        },
        "output": output,
        "consensus": consensus,
        "plot": plot,
    }
    if output is None and not as_json:
        click.echo(table.to_string(float_format=lambda value: f"{value:.3f}"))
    answer.done(facts, f"{len(found.models)} models compared")


def _number(value: float) -> float | None:
    return None if value != value else float(value)
