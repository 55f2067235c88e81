"""Covariates of the cells, read from obs."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from crispyx._io.annotations import as_labels
from crispyx._io.source import MatrixSource
from crispyx._jobs.batches import Batches
from crispyx._stats.covariates import Strata
from crispyx.errors import CrispyxWarning, InputError

LARGEST_DESIGN = 512  # columns; a solve costs its cube unless there is one column of categories
SAME = 1e-10  # share of a column's square that those before it leave, below which it says nothing


@dataclass(frozen=True)
class Covariates:
    """Covariates of every cell.

    Attributes
    ----------
    columns : tuple of str
        obs columns in the order given.
    strata : Strata
        Cells that agree in every column of categories; one stratum without such columns.
    numbers : numpy.ndarray (n_cells, n_numbers) float64
        Columns of numbers, centered and scaled over the cells in use.
    """

    columns: tuple[str, ...]
    strata: Strata
    numbers: np.ndarray

    @property
    def batches(self) -> Batches:
        """The strata as batches."""
        names = tuple(str(b) for b in range(self.strata.n_strata))
        return Batches(", ".join(self.columns), names, self.strata.of_cell)


def read_covariates(
    source: MatrixSource, columns: Iterable[str], perturbation_column: str, used_cells: np.ndarray
) -> Covariates | None:
    """Read covariates; None where none are asked for.

    Text, booleans and categories are categories, everything else numbers. Cells that lack a value
    are left out, with a warning.

    Parameters
    ----------
    source : MatrixSource
        The screen.
    columns : iterable of str
        obs columns.
    perturbation_column : str
        The column that is tested, which cannot be a covariate.
    used_cells : numpy.ndarray (n_cells,) bool
        Cells that take part.

    Raises
    ------
    MissingColumnError, InputError
        No such column, the same one twice, a column of one value, or one that the others determine.
    """
    names = (columns,) if isinstance(columns, str) else tuple(columns)
    if not names:
        return None
    where = source.path or source.where
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"covariates names {name!r} twice")
        if name == perturbation_column:
            raise InputError(
                f"covariates names {name!r}, the column of perturbations, which is what is tested"
            )
    labels, numbers, known = [], [], used_cells.copy()
    for name in names:
        values = source.obs.column(name)
        if values.dtype.kind in "iuf":
            numbers.append((name, values.astype(np.float64)))
            known &= np.isfinite(numbers[-1][1])
        else:
            found = as_labels(values)
            present = np.array([label is not None for label in found])
            _, codes = np.unique([label or "" for label in found], return_inverse=True)
            labels.append((name, np.where(present, codes, -1)))
            known &= present
    n_missing = int(np.count_nonzero(used_cells & ~known))
    if n_missing:
        warnings.warn(
            f"{n_missing} of {int(used_cells.sum())} cells of {where} lack a value of "
            f"{_listed(names)}; they are left out",
            CrispyxWarning,
            stacklevel=7,
        )
    if not known.any():
        raise InputError(f"no cell of {where} has a value of every covariate ({_listed(names)})")
    levels = np.stack([codes for _, codes in labels] or [np.zeros(len(known), int)], axis=1)
    levels[~known] = -1
    strata = Strata.of_levels(levels)
    matrix = np.empty((len(known), len(numbers)))
    for j, (_, values) in enumerate(numbers):
        matrix[:, j] = values
    matrix[~known] = np.nan
    center, scale = np.nanmean(matrix, axis=0), np.nanstd(matrix, axis=0)
    matrix = np.where(known[:, None], (matrix - center) / np.where(scale > 0, scale, 1), 0.0)
    _require_new([name for name, _ in labels], strata, [name for name, _ in numbers], matrix, where)
    return Covariates(names, strata, matrix)


def _require_new(
    categories: list[str], strata: Strata, names: list[str], numbers: np.ndarray, where: object
) -> None:
    """Raise when a covariate has one value, or says what those before it have said."""
    known = strata.of_cell >= 0
    weights = np.bincount(strata.of_cell[known], minlength=strata.n_strata)
    design, owner = [np.ones(strata.n_strata)], [-1]
    for j in range(len(categories)):
        for level in range(1, int(strata.levels[:, j].max()) + 1):
            design.append((strata.levels[:, j] == level).astype(np.float64))
            owner.append(j)
    for j, name in enumerate(categories):
        if j not in owner:
            _refuse_constant(name, where)
    if len(design) > LARGEST_DESIGN:
        raise InputError(
            f"the covariates {_listed(categories)} of {where} have more than {LARGEST_DESIGN} "
            "categories; does one name single cells? Give columns of fewer categories"
        )
    for name, values in zip(names, numbers[known].T, strict=True):
        if values.min() == values.max():
            _refuse_constant(name, where)
    rows = np.stack(design, axis=1)
    sums = np.empty((strata.n_strata, len(names)))
    for j, values in enumerate(numbers.T):
        sums[:, j] = np.bincount(strata.of_cell[known], values[known], strata.n_strata)
    cross = rows.T @ sums
    gram = np.block([[rows.T @ (rows * weights[:, None]), cross], [cross.T, numbers.T @ numbers]])
    owners = owner + [len(categories) + j for j in range(len(names))]
    every = [*categories, *names]
    size = np.diag(gram).copy()
    for column, j in enumerate(owners):
        if gram[column, column] <= SAME * size[column]:
            raise InputError(
                f"covariate {every[j]!r} of {where} says what {_listed(every[:j])} say together; "
                "leave one of them out"
            )
        left = gram[column, column + 1 :] / gram[column, column]
        gram[column + 1 :, column + 1 :] -= np.outer(gram[column + 1 :, column], left)


def _refuse_constant(name: str, where: object) -> None:
    raise InputError(
        f"covariate {name!r} of {where} has the same value in all cells that take part; "
        "leave it out"
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)
