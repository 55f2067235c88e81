"""Methods that the calibration tool tests, and how each of them takes batches."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any

from crispyx.de.nb_choices import Choices, choose
from crispyx.de.nb_glm import (
    nb_glm_test,
    require_a_test_within_batches,
    require_what_covariates_need,
)
from crispyx.de.nb_tests import WITHIN_BATCHES
from crispyx.de.null_files import BATCH
from crispyx.de.t_test import t_test
from crispyx.de.wilcoxon import wilcoxon_test
from crispyx.errors import InputError

FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "t_test": t_test,
    "wilcoxon": wilcoxon_test,
    "nb_glm": nb_glm_test,
}
TOTALS = {"size_factor_method": "total"}
METHODS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "t_test": ("t_test", {}),
    "wilcoxon": ("wilcoxon", {}),
    "calibrated": ("nb_glm", {"preset": "calibrated"}),
    "nb_glm": ("nb_glm", {}),
    "pydeseq2": ("nb_glm", {"preset": "pydeseq2"}),
    "lrt": ("nb_glm", {"test": "lrt", **TOTALS}),
    "permutation": ("nb_glm", {"test": "permutation", "most_sets": 10_000, **TOTALS}),
}
# What the splits decide, what no p-value depends on, and what belongs to the run as a whole.
CELLS = ("data", "perturbation_column", "groupby", "control_label", "reference", "perturbations")
VALUES = ("layer", "gene_name_column", "size_factors", "covariates")
RESULTS = ("lfc_shrinkage_type", "lfc_base", "output_dir", "data_name", "output_path")
SAYING = ("scanpy_format", "verbose", "profiling", "resume", "checkpoint_interval", "force")
MACHINE = ("memory_limit_gb", "n_jobs", "executor")
SET_FOR_ALL = frozenset((*CELLS, *VALUES, *RESULTS, *SAYING, *MACHINE))


def methods_of(
    asked: Iterable[str] | Mapping[str, Mapping[str, Any]], batch_column: str | None
) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the function and the arguments of each method by its name.

    Parameters
    ----------
    asked : iterable of str, or mapping
        As in :func:`crispyx.de.calibration`.
    batch_column : str or None
        obs column of batches, within which methods are to compare.

    Raises
    ------
    InputError
        An unknown method or argument, one that is the tool's own, or a method that cannot compare
        within batches.
    """
    if isinstance(asked, str):
        asked = (asked,)
    given = asked if isinstance(asked, Mapping) else {name: {} for name in asked}
    if not given:
        raise InputError(f"methods is empty; choose some of {tuple(METHODS)}")
    return {str(name): _method(str(name), dict(own), batch_column) for name, own in given.items()}


def _method(name: str, own: dict[str, Any], batch_column: str | None) -> tuple[str, dict[str, Any]]:
    known = str(own.pop("method", name))
    if known not in METHODS:
        raise InputError(f"methods asks for {known!r}; choose some of {tuple(METHODS)}")
    function, before = METHODS[known]
    allowed = inspect.signature(FUNCTIONS[function]).parameters
    for key in own:
        if key not in allowed:
            raise InputError(f"methods[{name!r}]: {function} has no argument {key!r}")
        if key in SET_FOR_ALL:
            raise InputError(
                f"methods[{name!r}] gives {key!r}, which cx.tl.calibration decides for all "
                "methods; leave it out (batches are given once, as batch_column= beside methods=)"
            )
    arguments = {**before, **own}
    if arguments.get("batch_column") is not None:
        raise InputError(
            f"methods[{name!r}] gives batch_column={arguments['batch_column']!r}; give it beside "
            "methods=, for all of them, or None here to test this one without batches"
        )
    in_batches = batch_column is not None and "batch_column" not in arguments
    if function == "nb_glm":
        try:
            return function, arguments | _within(arguments, in_batches)
        except InputError as error:
            raise InputError(f"methods[{name!r}]: {error}") from error
    return function, arguments | ({"batch_column": BATCH} if in_batches else {})


def _within(arguments: Mapping[str, Any], in_batches: bool) -> dict[str, Any]:
    """Check a negative binomial test; return the argument by which it compares within batches.

    Tests against a common mean take batches apart, the others fit them beside the perturbation.
    """
    names = {field.name for field in fields(Choices)}
    chosen = choose(
        Choices(**{key: value for key, value in arguments.items() if key in names}),
        arguments.get("preset"),
    )
    if not in_batches:
        return {}
    try:
        if chosen.test in WITHIN_BATCHES:
            require_a_test_within_batches(chosen)
            return {"batch_column": BATCH}
        require_what_covariates_need(chosen, arguments.get("preset"), None)
        return {"covariates": [BATCH]}
    except InputError as error:
        raise InputError(
            "this test cannot compare within the batches of batch_column=. Leave it out of "
            "methods=, or give it the argument 'batch_column': None, which tests it without "
            f"batches. The reason: {error}"
        ) from error
