"""``crispyx guides assign``."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import click

from crispyx._io.atomic import atomic_path
from crispyx.cli.answers import Answer
from crispyx.cli.elsewhere import with_executor
from crispyx.cli.guides.calls import described, guide_table, sentence, write_calls
from crispyx.cli.guides.options import (
    counts_argument,
    model_option,
    one_input,
    output_options,
    running_options,
    strict_option,
)
from crispyx.cli.guides.outputs import CALLS, TABLES, require_distinct, usable_output, write_file
from crispyx.cli.guides.parameters import given_parameters, parameter_options, require_usable
from crispyx.cli.guides.statuses import end_strictly

PARAMETERS = (
    "min_confidence",
    "min_umi",
    "quantile",
    "umi_threshold",
    "ratio",
    "batch_key",
    "min_cells_per_batch",
    "layer",
    "feature_type",
    "modality",
    "exposure",
    "cut",
    "priors",
    "variant",
    "n_starts",
    "tolerance",
    "max_iterations",
)
DEFAULTS = {
    "min_confidence": "0.8; 0.5 for beta2, beta3",
    "quantile": "0.1",
    "umi_threshold": "umi: 5; max: none",
    "ratio": "0.3",
    "feature_type": "CRISPR Guide Capture",
    "exposure": "consistent",
    "priors": "by model",
    "cut": "last_crossing",
    "variant": "exact",
}


@with_executor
@click.command()
@counts_argument
@output_options(f"{', '.join(CALLS)}, or - for an Arrow stream on standard output")
@model_option
@parameter_options(PARAMETERS, DEFAULTS)
@click.option("--constructs", metavar="FILE", help="Table of guides and their constructs.")
@click.option("--control-target", metavar="NAME", help="Target of non-targeting constructs.")
@click.option("--fits", metavar="FILE", help=f"Also write one row per guide: {', '.join(TABLES)}.")
@click.option("--long", "as_long", is_flag=True, help="One row per call instead of one per cell.")
@strict_option
@running_options
def assign(
    counts: str | None,
    counts_option: str | None,
    output: str,
    model: str,
    constructs: str | None,
    control_target: str | None,
    fits: str | None,
    as_long: bool,
    strict: bool,
    force: bool,
    n_jobs: int | None,
    quiet: bool,
    as_json: bool,
    params: tuple[str, ...],
    **options: Any,
) -> None:
    """Call the guide of every cell of COUNTS (cells x guides; .h5ad, .h5mu, 10x .h5 or folder)."""
    answer = Answer(quiet=quiet, as_json=as_json)
    source = one_input(counts, counts_option)
    given = given_parameters(PARAMETERS, options, params)
    require_usable(model, given)
    if strict:
        require_usable(model, given, mixture=True, reason="--strict is about fits")
    if control_target is not None and constructs is None:
        raise click.UsageError("--control-target is about --constructs; give both")
    with answer.running():
        from crispyx import guides as gd

        inputs = [source, *([constructs] if constructs else [])]
        target = usable_output(output, CALLS, "--output", inputs, force, stdout=True)
        if as_long and target.suffix == ".h5ad":
            raise click.UsageError("--long is a layout of tables, .h5ad has every call anyway")
        fit_target = None
        if fits is not None:
            fit_target = usable_output(fits, TABLES, "--fits", inputs, force)
        require_distinct([target, fit_target])
        calls = gd.assign(source, model, n_jobs=n_jobs, **given)
        if constructs is not None:
            calls = gd.constructs(calls, constructs, control_target=control_target)
        with ExitStack() as stack:
            if fit_target is not None:
                # Renamed last: both files appear, or neither.
                work = stack.enter_context(atomic_path(fit_target.path))
                write_file(guide_table(calls.var), work, fit_target.suffix)
            write_calls(calls, target, as_long=as_long)
    facts = described(calls) | {"output": output, "fits": fits}
    answer.done(facts, sentence(facts), data_on_stdout=target.is_stdout)
    end_strictly(strict, calls.var)
