"""``crispyx guides models``."""

from __future__ import annotations

import json
from typing import Any

import click

TEXTS = {
    "umi": "every guide with at least umi_threshold UMIs",
    "max": "the guide with the most UMIs; none when guides share the most",
    "ratio": "the guide with the most UMIs, where it has more than ratio of the cell's",
    "quantiles": "the cells with the highest proportions of each guide",
    "poisson_gauss": "Poisson background and Normal signal in log2 counts; a good start",
    "gauss": "two Normals in log10(count + 1), zeros included",
    "poisson": "two Poisson rates, given the cell's guide UMIs",
    "neg_binomial": "two negative binomial rates, given the cell's guide UMIs",
    "binomial": "two proportions of the cell's guide UMIs",
    "beta2": "two Beta components of the cells' largest proportions",
    "beta3": "three Beta components of the cells' largest proportions",
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def models(as_json: bool) -> None:
    """List the assignment models, what they call, and their parameters."""
    from crispyx.guides.models import MIXTURES, MODELS, resolve_model

    rows: list[dict[str, Any]] = []
    for model in MODELS:
        parameters = resolve_model(model).parameters
        if model == "max":
            parameters["umi_threshold"] = None  # no floor
        kind = "mixture" if model in MIXTURES else "rule"
        described = {"model": model, "kind": kind, "calls": TEXTS[model]}
        rows.append(described | {"parameters": parameters})
    if as_json:
        click.echo(json.dumps(rows))
        return
    width = max(map(len, MODELS))
    for row in rows:
        click.echo(f"{row['model']:<{width}}  {row['kind']:<7}  {row['calls']}")
        set_to = ", ".join(
            f"{name}={'none' if value is None else value}"
            for name, value in row["parameters"].items()
        )
        click.echo(f"{'':<{width}}           {set_to}")
