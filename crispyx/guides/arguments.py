"""Ranges of the parameters of guide assignment."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

from crispyx._stats.beta_mixtures import STARTS
from crispyx._stats.mixtures import MAX_STARTS
from crispyx.errors import InputError


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_whole(value: Any, least: int, most: int | None = None) -> bool:
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    return whole and value >= least and (most is None or value <= most)


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _one_of(*allowed: str) -> tuple[Callable[[Any], bool], str]:
    return lambda value: isinstance(value, str) and value in allowed, " or ".join(
        map(repr, allowed)
    )


CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "min_confidence": (_is_share, "a number from 0 to 1"),
    "ratio": (_is_share, "a number from 0 to 1"),
    "quantile": (
        lambda value: _is_number(value) and 0 < value <= 1,
        "a number above 0 and up to 1",
    ),
    "umi_threshold": (lambda value: _is_whole(value, 1), "a whole number of UMIs >= 1"),
    "min_umi": (lambda value: _is_whole(value, 1), "a whole number of UMIs >= 1"),
    "exposure": _one_of("consistent", "crispat"),
    "priors": (lambda value: isinstance(value, bool), "True or False"),
    "tolerance": (
        lambda value: _is_number(value) and 1e-14 <= value <= 1e-2,
        "a number from 1e-14 to 0.01",
    ),
    "max_iterations": (lambda value: _is_whole(value, 1), "a whole number >= 1"),
    "batch_key": (
        lambda value: isinstance(value, str) and bool(value),
        "the name of an obs column",
    ),
    "min_cells_per_batch": (lambda value: _is_whole(value, 1), "a whole number of cells >= 1"),
    "variant": _one_of("exact", "kaichi"),
    "cut": _one_of("last_crossing", "grid"),
}


def check_values(given: dict[str, Any], *, beta: bool) -> None:
    """Raise unless every value is in its range.

    Parameters
    ----------
    given : dict
        Parameters by name.
    beta : bool
        The model is a beta mixture, which has fewer starts.

    Raises
    ------
    InputError
        Names parameter, value and range.
    """
    n_starts = len(STARTS["beta2"]) if beta else MAX_STARTS
    checks = CHECKS | {
        "n_starts": (
            lambda value: _is_whole(value, 1, n_starts),
            f"a whole number from 1 to {n_starts}",
        )
    }
    for name, value in given.items():
        is_valid, wanted = checks[name]
        if not is_valid(value):
            raise InputError(f"{name} is {value!r}; give {wanted}")
