"""The arguments that all tests share, folded and checked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crispyx._stats.expression_filter import ExpressionThresholds
from crispyx._stats.multiple_testing import CORRECTIONS, SCOPES, Correction, Scope
from crispyx._stats.van_elteren import SIDES, Alternative
from crispyx.errors import InputError, InputTypeError


@dataclass(frozen=True)
class Selection:
    """Which cells and genes are compared."""

    perturbation_column: str
    control_label: str | None
    gene_name_column: str | None
    perturbations: tuple[str, ...] | None
    layer: str | None
    batch_column: str | None = None


@dataclass(frozen=True)
class Rules:
    """What is tested and how p-values are corrected."""

    thresholds: ExpressionThresholds
    min_cells_expressed: int
    min_cells_pert: int
    corr_method: Correction
    corr_scope: Scope


@dataclass(frozen=True)
class Running:
    """How the work is done and where it goes: never a number."""

    output_path: Path | None
    output_dir: Path | None
    data_name: str | None
    width: int | None
    cell_chunk_size: int | None
    n_jobs: int | None
    memory_limit_gb: float | None
    checkpoint_interval: int | None
    resume: bool
    force: bool
    scanpy_format: bool
    show: bool | None
    executor: Any = None


def select(
    perturbation_column: str | None,
    groupby: str | None,
    control_label: str | None,
    reference: str | None,
    gene_name_column: str | None,
    perturbations: Iterable[str] | None,
    layer: str | None,
    batch_column: str | None = None,
) -> Selection:
    """Fold the documented selection arguments and their scanpy aliases.

    Raises
    ------
    TypeError
        Both names of one argument, or no column.
    """
    for name, alias, values in (
        ("perturbation_column", "groupby", (perturbation_column, groupby)),
        ("control_label", "reference", (control_label, reference)),
    ):
        if None not in values:
            raise InputTypeError(
                f"{name!r} and {alias!r} are two names of one argument; give one of them"
            )
    column = perturbation_column if perturbation_column is not None else groupby
    if column is None:
        raise InputTypeError(
            "say which obs column holds the labels: perturbation_column= (or groupby=)"
        )
    if isinstance(perturbations, str):
        raise InputError(f"perturbations is the text {perturbations!r}; give a list of labels")
    return Selection(
        perturbation_column=column,
        control_label=control_label if control_label is not None else reference,
        gene_name_column=gene_name_column,
        perturbations=None if perturbations is None else tuple(map(str, perturbations)),
        layer=layer,
        batch_column=batch_column,
    )


def alternative_of(name: str) -> Alternative:
    """Return the alternative, or raise InputError when there is no such one."""
    if name not in SIDES:
        raise InputError(f"alternative is {name!r}; choose one of {tuple(SIDES)}")
    return name  # type: ignore[return-value]


def rules(
    min_pct: tuple[float, float, float | None],
    min_mean: tuple[float, float],
    min_cells_expressed: int,
    min_cells_pert: int,
    correction: tuple[str, str],
) -> Rules:
    """Fold and check the documented thresholds.

    ``min_pct`` is (control, perturbed, both), ``correction`` is (method, scope).

    Raises
    ------
    InputError
        An unknown correction, or a threshold that is negative or NaN.
    """
    control, perturbed, both = min_pct
    if both is not None:
        control = perturbed = both
    given = {
        "min_pct_ctrl": control,
        "min_pct_pert": perturbed,
        "min_mean_ctrl": min_mean[0],
        "min_mean_pert": min_mean[1],
        "min_cells_expressed": min_cells_expressed,
        "min_cells_pert": min_cells_pert,
    }
    for name, value in given.items():
        if not value >= 0:
            raise InputError(f"{name} is {value!r}; give a number >= 0 (0 switches it off)")
        if name.startswith("min_pct_") and value > 1:
            raise InputError(f"{name} is {value!r}; give a fraction of cells, from 0 to 1")
    for name, choice, allowed in zip(
        ("corr_method", "corr_scope"), correction, (CORRECTIONS, SCOPES), strict=True
    ):
        if choice not in allowed:
            raise InputError(f"{name} is {choice!r}; choose one of {allowed}")
    return Rules(
        ExpressionThresholds(control, perturbed, *min_mean),
        int(min_cells_expressed),
        int(min_cells_pert),
        *correction,  # type: ignore[arg-type]
    )
