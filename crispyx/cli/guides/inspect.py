"""``crispyx guides inspect``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import click

from crispyx.cli.answers import Answer
from crispyx.cli.guides.options import saying_options
from crispyx.cli.guides.outputs import FIGURES, SCORES, usable_output
from crispyx.cli.guides.parameters import given_parameters, parameter_options
from crispyx.cli.guides.statuses import statuses

PARAMETERS = ("layer", "feature_type", "modality")
DEFAULTS = {"feature_type": "CRISPR Guide Capture"}


@dataclass(frozen=True)
class _Found:
    """What a file holds, and how to draw it into a file where that can be."""

    facts: dict[str, Any]
    draw: Callable[[Path, str | None], None] | None = None


@click.command()
@click.argument("file")
@parameter_options(PARAMETERS, DEFAULTS)
@click.option(
    "--plot",
    metavar="FIGURE",
    help=f"Also draw the calls, or the fit of --guide: {', '.join(FIGURES)}.",
)
@click.option("--guide", metavar="NAME", help="Guide whose fit is drawn.")
@click.option("--force", is_flag=True, help="Replace a figure that exists.")
@saying_options
def inspect(
    file: str,
    plot: str | None,
    guide: str | None,
    force: bool,
    quiet: bool,
    as_json: bool,
    params: tuple[str, ...],
    **options: Any,
) -> None:
    """Say what FILE holds: guide counts, calls of `assign` (.h5ad), or scores of `score`."""
    answer = Answer(quiet=quiet, as_json=as_json)
    given = given_parameters(PARAMETERS, options, params)
    if guide is not None and plot is None:
        raise click.UsageError("--guide says whose fit --plot draws; give --plot too")
    with answer.running():
        figure = None
        if plot is not None:
            figure = usable_output(plot, FIGURES, "--plot", [file], force)
        found = _look(file, given)
        if figure is not None:
            if found.draw is None:
                raise click.UsageError("--plot draws calls or scores, these are counts")
            found.draw(figure.path, guide)
    text = "\n".join(
        f"{name.replace('_', ' ')}: {_text(fact)}" for name, fact in found.facts.items()
    )
    answer.answer(found.facts, text)


def _look(file: str, given: dict[str, Any]) -> _Found:
    path = Path(file).expanduser()
    if path.suffix.lower() in SCORES:
        return _scores(path)
    if path.suffix.lower() == ".h5ad" and path.is_file() and _has_calls(path):
        return _calls(path)
    return _counts(path, given)


def _has_calls(path: Path) -> bool:
    from crispyx._io.elements import element_names

    has_layer = "assigned" in element_names(path, "layers")
    return has_layer and "crispyx_guides" in element_names(path, "uns")


def _scores(path: Path) -> _Found:
    from crispyx.guides import ScoreResult

    scores = ScoreResult.load(path)

    def draw(figure: Path, guide: str | None) -> None:
        from crispyx.plotting import guide_fit

        guide_fit(scores, guide, savepath=figure)

    facts = {
        "holds": "scores",
        "model": scores.model,
        "model_params": scores.model_params,
        "version": scores.version,
        "n_cells": scores.n_cells,
        "n_guides": scores.n_guides,
        "guides_by_status": statuses(scores.fits),
        "counts_sha256": scores._scored.checksum(),
    }
    return _Found(facts, draw)


def _calls(path: Path) -> _Found:
    import anndata

    from crispyx.cli.guides.calls import described
    from crispyx.guides import moi

    calls = anndata.read_h5ad(path)

    def draw(figure: Path, guide: str | None) -> None:
        from crispyx.plotting import guide_summary

        if guide is not None:
            raise click.UsageError("--guide draws a fit, which scores have and calls have not")
        guide_summary(calls, savepath=figure)

    facts = {"holds": "calls"} | described(calls)
    if facts["n_calls"]:
        estimate = float(moi(calls).moi)
        # JSON knows no infinity: where no number explains the cells, there is none.
        facts["multiplicity_of_infection"] = round(estimate, 4) if isfinite(estimate) else None
    return _Found(facts, draw)


def _counts(path: Path, given: dict[str, Any]) -> _Found:
    import numpy as np

    from crispyx._run.threads import resolve_threads
    from crispyx.guides.counts import call_counts, require_unique_names
    from crispyx.guides.inputs import open_guides
    from crispyx.settings import settings

    layer = given.pop("layer", None)
    with open_guides(path, layer, **given) as source:
        require_unique_names(source.obs.index, source.var.index, source.where)
        counts = call_counts(source, None, settings.engine, resolve_threads(None))
    depth = counts.depth
    seen = np.bincount(counts.guides, minlength=counts.shape[1])
    facts = {
        "holds": "guide counts",
        "n_cells": counts.shape[0],
        "n_guides": counts.shape[1],
        "n_counts": len(counts.counts),
        "total_umis": int(depth.sum()),
        "largest_count": int(counts.counts.max(initial=0)),
        "median_guide_umis_per_cell": float(np.median(depth)) if len(depth) else None,
        "cells_without_guide_umis": int((depth == 0).sum()),
        "guides_without_umis": int((seen == 0).sum()),
        "counts_sha256": counts.checksum(),
    }
    return _Found(facts)


def _text(fact: Any) -> str:
    if isinstance(fact, dict):
        return ", ".join(f"{name} {_text(value)}" for name, value in fact.items()) or "none"
    if isinstance(fact, int) and not isinstance(fact, bool):
        return f"{fact:,}"
    return f"{fact:,.6g}" if isinstance(fact, float) else str(fact)
