"""``crispyx info``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from crispyx.cli.answers import Answer
from crispyx.cli.operation import plain
from crispyx.cli.signature import TEXTS

SAMPLE = 1_000_000
SLOTS = ("layers", "obsm", "varm", "obsp", "uns")
MANY = 12


@click.command()
@click.argument("file")
@click.option("--layer", help=TEXTS["layer"])
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Say everything as one JSON object.")
def info(file: str, layer: str | None, quiet: bool, as_json: bool) -> None:
    """Say what FILE holds: matrix, columns, labels, and what made it.

    FILE is anything crispyx reads: .h5ad, .h5mu (or screen.h5mu/modality), a 10x .h5 file or
    folder.
    """
    answer = Answer(quiet=quiet, as_json=as_json)
    with answer.running():
        facts = plain(description(file, layer))
    if not quiet:
        answer.answer(facts, _text(facts))


def description(file: str, layer: str | None = None) -> dict[str, Any]:
    """Return what a file holds, from its first block and its tables."""
    from crispyx._io.elements import element_names
    from crispyx._io.record import read_record
    from crispyx._io.source import is_h5ad, open_source

    with open_source(file, layer) as source:
        n_stored = source.storage.n_stored
        first = next(
            source.storage.blocks(0, source.storage.n_major, max_values=SAMPLE, max_major=SAMPLE)
        )
        facts: dict[str, Any] = {
            "file": file,
            "n_cells": source.shape[0],
            "n_genes": source.shape[1],
            "layout": source.layout,
            "dtype": str(source.dtype),
            "n_stored": n_stored,
            "density": n_stored / (source.shape[0] * source.shape[1]),
            "values": values_of(first.values),
            "obs": list(source.obs.columns),
            "var": list(source.var.columns),
            "duplicate_cells": len(source.obs.index) - len(set(source.obs.index)),
            "duplicate_genes": len(source.var.index) - len(set(source.var.index)),
        }
        path = source.path
    if path is not None and is_h5ad(path):
        facts |= {slot: element_names(path, slot) for slot in SLOTS}
        facts |= _labels(path)
        record = read_record(path)
        facts["made_by"] = None if record is None else f"crispyx {record['version']}"
        facts["kind"] = None if record is None else record["kind"]
    if path is not None and path.is_file():
        facts["bytes"] = path.stat().st_size
    return facts


def values_of(values: np.ndarray) -> str:
    """Say what kind of numbers a block holds."""
    if not len(values):
        return "none stored"
    if not np.isfinite(values).all():
        return "NaN or infinity among them"
    if float(values.min()) < 0:
        return "negative among them"
    if np.issubdtype(values.dtype, np.integer) or bool(np.all(values == np.floor(values))):
        return "counts"
    return "fractional" if float(values.max()) > 30 else "fractional (as log-normalized ones are)"


def _labels(path: Path) -> dict[str, Any]:
    from crispyx.data import detect_perturbation_column, load_obs, resolve_control_label
    from crispyx.errors import CrispyxError

    column = detect_perturbation_column(path, verbose=False)
    if column is None:
        return {"perturbation_column": None}
    counted = load_obs(path)[column].value_counts()
    labels = {str(label): int(n) for label, n in counted.items() if n}
    try:
        control = resolve_control_label(list(labels), None, verbose=False)
    except CrispyxError:
        control = None
    return {
        "perturbation_column": column,
        "control_label": control,
        "n_labels": len(labels),
        "cells_of_labels": labels,
    }


def _text(facts: dict[str, Any]) -> str:
    lines = [
        f"{facts['file']}",
        f"  matrix        {facts['n_cells']:,} cells x {facts['n_genes']:,} genes, "
        f"{facts['layout']}, {facts['dtype']}, {facts['n_stored']:,} stored "
        f"({100 * facts['density']:.1f} %)",
        f"  values        {facts['values']}",
    ]
    for axis, word in (("duplicate_cells", "cell"), ("duplicate_genes", "gene")):
        if facts[axis]:
            lines.append(f"  duplicates    {facts[axis]:,} {word} names are not unique")
    if facts.get("kind"):
        lines.append(f"  made by       {facts['made_by']}: {facts['kind']}")
    column = facts.get("perturbation_column")
    if column:
        control = facts["control_label"] or "not found; give --control-label"
        lines.append(f"  perturbations {facts['n_labels']:,} labels in obs[{column!r}]")
        lines.append(f"  control       {control}")
        few = sorted(facts["cells_of_labels"].items(), key=lambda one: -one[1])[:5]
        lines.append(f"  most cells    {', '.join(f'{name} {n:,}' for name, n in few)}")
    lines.extend(f"  {slot:<13} {_listed(facts[slot])}" for slot in ("obs", "var"))
    lines.extend(f"  {slot:<13} {_listed(facts[slot])}" for slot in SLOTS if facts.get(slot))
    return "\n".join(lines)


def _listed(names: list[str]) -> str:
    rest = f" and {len(names) - MANY:,} more" if len(names) > MANY else ""
    return (", ".join(names[:MANY]) or "none") + rest
