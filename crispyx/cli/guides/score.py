"""``crispyx guides score``."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import click

from crispyx._io.atomic import atomic_path
from crispyx.cli.answers import Answer
from crispyx.cli.elsewhere import with_executor
from crispyx.cli.guides.calls import guide_table
from crispyx.cli.guides.options import (
    counts_argument,
    model_option,
    one_input,
    output_options,
    running_options,
    strict_option,
)
from crispyx.cli.guides.outputs import SCORES, TABLES, require_distinct, usable_output, write_file
from crispyx.cli.guides.parameters import given_parameters, parameter_options, require_usable
from crispyx.cli.guides.statuses import end_strictly, statuses

PARAMETERS = (
    "batch_key",
    "min_cells_per_batch",
    "layer",
    "feature_type",
    "modality",
    "exposure",
    "priors",
    "variant",
    "n_starts",
    "tolerance",
    "max_iterations",
)
DEFAULTS = {
    "feature_type": "CRISPR Guide Capture",
    "exposure": "consistent",
    "priors": "by model",
    "variant": "exact",
}


@with_executor
@click.command()
@counts_argument
@output_options(f"{' or '.join(SCORES)}, for `crispyx guides decide`")
@model_option
@parameter_options(PARAMETERS, DEFAULTS)
@click.option("--fits", metavar="FILE", help=f"Also write one row per guide: {', '.join(TABLES)}.")
@strict_option
@running_options
def score(
    counts: str | None,
    counts_option: str | None,
    output: str,
    model: str,
    fits: str | None,
    strict: bool,
    force: bool,
    n_jobs: int | None,
    quiet: bool,
    as_json: bool,
    params: tuple[str, ...],
    **options: Any,
) -> None:
    """Fit a mixture to every guide of COUNTS and keep the posteriors, to decide at will."""
    answer = Answer(quiet=quiet, as_json=as_json)
    source = one_input(counts, counts_option)
    given = given_parameters(PARAMETERS, options, params)
    require_usable(model, given, mixture=True)
    with answer.running():
        from crispyx import guides as gd

        target = usable_output(output, SCORES, "--output", [source], force)
        fit_target = None
        if fits is not None:
            fit_target = usable_output(fits, TABLES, "--fits", [source], force)
        require_distinct([target, fit_target])
        scores = gd.score(source, model, n_jobs=n_jobs, **given)
        with ExitStack() as stack:
            if fit_target is not None:
                # Renamed last: both files appear, or neither.
                work = stack.enter_context(atomic_path(fit_target.path))
                write_file(guide_table(scores.fits), work, fit_target.suffix)
            scores.save(target.path)
    kinds = statuses(scores.fits)
    facts = {
        "model": scores.model,
        "n_cells": scores.n_cells,
        "n_guides": scores.n_guides,
        "guides_by_status": kinds,
        "output": output,
        "fits": fits,
    }
    counted = ", ".join(f"{n:,} {status}" for status, n in kinds.items())
    text = f"{model}: {scores.n_cells:,} cells x {scores.n_guides:,} guides ({counted}) -> {output}"
    answer.done(facts, text)
    end_strictly(strict, scores.fits)
