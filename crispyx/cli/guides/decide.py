"""``crispyx guides decide``."""

from __future__ import annotations

from typing import Any

import click

from crispyx.cli.answers import Answer
from crispyx.cli.guides.calls import write_calls
from crispyx.cli.guides.options import one_input, output_options, saying_options
from crispyx.cli.guides.outputs import TABLES, usable_output
from crispyx.cli.guides.parameters import given_parameters, parameter_options

PARAMETERS = ("min_confidence", "min_umi", "max_guides", "margin", "expected_fdr")
DEFAULTS = {"min_confidence": "0.9"}


@click.command()
@click.argument("scores", required=False)
@click.option("--scores", "scores_option", metavar="SCORES", help="The same as the argument.")
@output_options(f"{', '.join(TABLES)}, or - for an Arrow stream on standard output")
@parameter_options(PARAMETERS, DEFAULTS)
@saying_options
def decide(
    scores: str | None,
    scores_option: str | None,
    output: str,
    force: bool,
    quiet: bool,
    as_json: bool,
    params: tuple[str, ...],
    **options: Any,
) -> None:
    """Call guides from SCORES that `crispyx guides score` wrote; nothing is fitted again."""
    answer = Answer(quiet=quiet, as_json=as_json)
    source = one_input(scores, scores_option, "SCORES")
    given = given_parameters(PARAMETERS, options, params)
    with answer.running():
        from crispyx import guides as gd

        target = usable_output(output, TABLES, "--output", [source], force, stdout=True)
        loaded = gd.ScoreResult.load(source)
        batch = gd.decide(loaded, **given)
        write_calls(batch, target)
    table = batch.to_pandas()
    none, several = (int(table[name].sum()) for name in ("is_unassigned", "is_multi_infected"))
    facts = {
        "model": loaded.model,
        "parameters": given,
        "n_cells": len(table),
        "n_cells_one_guide": len(table) - none - several,
        "n_cells_several_guides": several,
        "n_cells_no_guide": none,
        "output": output,
    }
    text = (
        f"{loaded.model}: {len(table) - none - several:,} cells with one guide, {several:,} with "
        f"several, {none:,} with none"
    )
    answer.done(facts, text, data_on_stdout=target.is_stdout)
