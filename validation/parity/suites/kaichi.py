"""Guide calls of kaichi: by its variant of every model, and by the models as defined here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from validation.benchmarks.cases import MIXTURES, RULES
from validation.parity.check import Check
from validation.parity.ours import better_fits, by_engine, called_pairs, output_folder
from validation.parity.screens import guides, n_guides
from validation.parity.suites import Bench, Case
from validation.parity.suites.crispat import METHOD
from validation.parity.suites.guide_calls import STRIDE, calls_check, pair_numbers

# Models that look at the largest guide of a cell, which the sum of other guides would be.
BETA = ("beta2", "beta3")
VARIANT = {"variant": "kaichi"}


def _calls(model: str, arguments: Mapping[str, Any]) -> Callable[[Bench, str], Iterator[Check]]:
    repeats = bool(arguments)

    def checks(bench: Bench, data: str) -> Iterator[Check]:
        import anndata

        path = guides(data, bench.cache)
        theirs = bench.outside.ask("kaichi", "called", files={"guides": path}, model=model)
        counts = anndata.read_h5ad(path).X.toarray()
        outside = pair_numbers(theirs["cells"], theirs["guides"])
        ours = by_engine(called_pairs(path, model, **arguments))
        method = "kaichi_mixtures" if repeats else METHOD[model]
        quantity = f"{model}, {'its variant' if repeats else 'as defined here'}"
        explained = {} if repeats else _explained(model, path, counts, outside, ours[1])
        # Which optimum is better matters where the engines end at two.
        apart = set(pair_numbers(*ours[0].T)) != set(pair_numbers(*ours[1].T))
        optima = better_fits(path, model, **arguments) if apart and model in MIXTURES else None
        yield calls_check(
            method, quantity, outside, ours, counts, n_guides(data), explained, optima
        )

    return checks


def _explained(
    model: str, path: Path, counts: np.ndarray, outside: np.ndarray, ours: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the pairs (n_cells, n_guides) that differ by what is known of kaichi's rule."""
    if model in MIXTURES:
        with output_folder() as folder:
            repeated = called_pairs(path, model, **VARIANT)(folder)
        alike = _flags(pair_numbers(*repeated.T), counts) == _flags(outside, counts)
        return {"another model": alike}
    if model == "ratio":
        largest = counts.max(axis=1, keepdims=True)
        shared = ((counts == largest) & (counts > 0)).sum(axis=1, keepdims=True) > 1
        return {"largest count shared": np.broadcast_to(shared, counts.shape)}
    if model == "quantiles":
        proportion = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        called = _flags(pair_numbers(*ours.T), counts)
        last = np.where(called, proportion, np.inf).min(axis=0)
        return {"tied with the last": proportion == last}
    return {}


def _flags(pairs: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return called pairs as a matrix (n_cells, n_guides) bool."""
    flags = np.zeros(counts.shape, dtype=bool)
    flags[np.divmod(pairs, STRIDE)] = True
    return flags


def _data(model: str) -> str:
    return "guides" if model in (*RULES, *BETA) else "guides-12"


CASES = (
    *(Case(METHOD[model], "guides", _calls(model, {})) for model in RULES),
    *(Case("kaichi_mixtures", _data(model), _calls(model, VARIANT)) for model in MIXTURES),
    *(Case(METHOD[model], _data(model), _calls(model, {})) for model in MIXTURES),
)
