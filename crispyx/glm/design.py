"""Design matrices from obs columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from crispyx.errors import InputError, MissingColumnError


def build_design_matrix(
    obs_frame: Any,
    *,
    covariate_columns: Sequence[str],
    perturbation_indicator: np.ndarray,
    intercept: bool = True,
) -> tuple[np.ndarray, list[str]]:
    """Return a design of intercept, perturbation and covariates.

    Parameters
    ----------
    obs_frame : pandas.DataFrame or structured array (n_samples,)
        Covariates.
    covariate_columns : sequence of str
        Columns to include. Numbers are taken as they are; other columns, and booleans, get one
        column for every level but the first (of a categorical in its order, else sorted).
    perturbation_indicator : array (n_samples,)
        1 for perturbed cells, 0 for others.
    intercept : bool
        Put a column of ones first.

    Returns
    -------
    tuple of numpy.ndarray (n_samples, n_features) float64 and list of str
        The columns are ``intercept``, ``perturbation``, then covariates, levels as ``NAME[LEVEL]``.

    Raises
    ------
    MissingColumnError, InputError
        A column that is not there, or has missing values; an indicator of another length.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from crispyx.glm import build_design_matrix
    >>> obs = pd.DataFrame({"batch": ["a", "b", "a"], "depth": [1.0, 2.0, 3.0]})
    >>> design, names = build_design_matrix(
    ...     obs, covariate_columns=["batch", "depth"], perturbation_indicator=np.array([0, 1, 1])
    ... )
    >>> names
    ['intercept', 'perturbation', 'batch[b]', 'depth']
    >>> design.tolist()
    [[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 2.0], [1.0, 1.0, 0.0, 3.0]]
    """
    indicator = np.asarray(perturbation_indicator, dtype=np.float64)
    if indicator.shape != (len(obs_frame),):
        raise InputError(
            f"perturbation_indicator has shape {indicator.shape}; the table has {len(obs_frame)} "
            "rows"
        )
    columns, names = covariates(obs_frame, covariate_columns)
    if intercept:
        columns.insert(0, np.ones(len(indicator)))
        names.insert(0, "intercept")
    columns.insert(int(intercept), indicator)
    names.insert(int(intercept), "perturbation")
    return np.column_stack(columns), names


def covariates(
    obs_frame: Any, covariate_columns: Sequence[str]
) -> tuple[list[np.ndarray], list[str]]:
    """Return the columns (n_samples,) float64 that covariates make in a design, and their names."""
    import pandas as pd

    if isinstance(covariate_columns, str):
        raise InputError(f"covariate_columns is the text {covariate_columns!r}; give a list")
    columns, names = [], []
    there = obs_frame.columns if hasattr(obs_frame, "columns") else obs_frame.dtype.names
    for name in covariate_columns:
        if name not in there:
            raise MissingColumnError(f"covariate {name!r} is not among {sorted(map(str, there))}")
        values = (
            pd.Series(np.asarray(obs_frame[name]))
            if not hasattr(obs_frame, "columns")
            else obs_frame[name]
        )
        if values.isna().any():
            raise InputError(f"covariate {name!r} has missing values; leave those cells out")
        if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
            columns.append(values.to_numpy(dtype=np.float64))
            names.append(name)
            continue
        if isinstance(values.dtype, pd.CategoricalDtype):
            present = set(values.unique())
            levels = [level for level in values.cat.categories if level in present]
        else:
            levels = sorted(values.unique())
        for level in levels[1:]:
            columns.append((values == level).to_numpy(dtype=np.float64))
            names.append(f"{name}[{level}]")
    return columns, names
