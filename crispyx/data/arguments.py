"""Checks of the arguments that the documented functions of data and qc share."""

from __future__ import annotations

import math
import numbers
import os
from pathlib import Path
from typing import Any

import numpy as np

from crispyx._io.paths import prepare_output, resolve_output_path
from crispyx._io.source import MatrixSource, MatrixSummary
from crispyx.errors import InputError

PathLike = str | os.PathLike[str]


def whole(name: str, value: Any, least: int) -> int:
    """Return ``value`` as int, or raise unless it is a whole number of at least ``least``."""
    known = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not known or not float(value).is_integer() or int(value) < least:  # type: ignore[call-overload]
        raise InputError(f"{name} is {value!r}; give a whole number >= {least}")
    return int(value)  # type: ignore[call-overload]


def positive(name: str, value: Any) -> float:
    """Return ``value`` as float, or raise unless it is a finite number above 0."""
    known = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not known or not (math.isfinite(float(value)) and float(value) > 0):
        raise InputError(f"{name} is {value!r}; give a finite number above 0")
    return float(value)


def mask_of(name: str, values: Any, n: int, what: str, where: str) -> np.ndarray:
    """Return a mask (n,) bool, or raise unless ``values`` is one."""
    mask = np.asarray(values)
    if mask.dtype != bool:
        raise InputError(f"{name} has type {mask.dtype}; give True or False for each of the {what}")
    if mask.shape != (n,):
        raise InputError(f"{name} has shape {mask.shape} but {where} has {n} {what}")
    return np.ascontiguousarray(mask)


def output_of(
    source: MatrixSource,
    suffix: str,
    output_path: PathLike | None,
    output_dir: PathLike | None,
    data_name: str | None,
) -> Path:
    """Return where an output goes, after checking that it can be written there.

    Raises
    ------
    InputError
        A matrix in memory without a place given; the output is the input.
    """
    if output_path is not None:
        output = Path(output_path).expanduser()
    elif source.path is None and output_dir is None:
        raise InputError(
            f"{source.where} has no folder for the output; give output_path= or output_dir="
        )
    else:
        output = resolve_output_path(
            source.path or "", suffix=suffix, output_dir=output_dir, data_name=data_name
        )
    return prepare_output(output, source.paths, store=True)


def require_nonnegative(source: MatrixSource, summary: MatrixSummary, what: str) -> None:
    """Raise when a value below zero has been seen.

    Raises
    ------
    InputError
        Names the value, its cell and its gene.
    """
    if summary.negative is not None:
        cell, gene, value = summary.negative
        raise InputError(
            f"{source.where} holds {value:g} at cell {source.obs.index[cell]!r} (row {cell}), "
            f"column {source.var.index[gene]!r} ({gene}); {what} needs counts, which are never "
            f"below 0: give the file with the raw counts{source.counts_elsewhere()}"
        )
