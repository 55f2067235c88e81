r"""Log fold change of one comparison beside covariates, for one gene of known dispersion.

The model is :math:`\log \mu_i = \log s_i + z_i^T \theta + \delta d_i` with d = 1 in the perturbed
cells and a row z of covariates for every cell. The likelihood is concave in
:math:`(\theta, \delta)`.

Categories are fitted jointly in both arms (:func:`fit_beside_covariates`). Numbers are not: their
slopes are those of the control cells, and enter as offsets (:func:`control_slopes`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reference.nb_coefficients import Arm, penalized_log_mean
from reference.nb_likelihood import log_likelihood

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

LARGEST_STEP = 2.0
OVERSHOOT = 0.5
MAX_HALVINGS = 30
NOTHING = 1e-9  # information, in counts, below which a coefficient has run off to infinity
ALIASED = 1e-10  # share of its information that a column keeps beside those before it
SE_METHODS = ("sandwich", "fisher", "robust")


class Maximum(NamedTuple):
    """Coefficients (n_columns,) of highest likelihood; those without any information run off."""

    coefficients: Vector
    iterations: int
    converged: bool


class AdjustedFit(NamedTuple):
    """One comparison beside covariates.

    Attributes
    ----------
    intercept : mean linear predictor of the control cells, natural log
    log_fold_change : natural log
    standard_error : natural log units
    silent_z : signed root of the likelihood ratio where one arm has no count, else NaN
    ratio_z : signed root of the likelihood ratio of any comparison, where asked for, else NaN
    iterations, converged : of Newton's method
    """

    intercept: float
    log_fold_change: float
    standard_error: float
    silent_z: float
    ratio_z: float
    iterations: int
    converged: bool


def highest_likelihood(
    counts: ArrayLike,
    size_factors: ArrayLike,
    design: ArrayLike,
    alpha: float,
    start: ArrayLike,
    max_iterations: int = 100,
    tolerance: float = 1e-7,
) -> Maximum:
    r"""Return the coefficients of highest likelihood for any design, by Newton's method.

    .. math::

        S = X^T \frac{y - \mu}{1 + \alpha \mu}, \qquad
        J = X^T \operatorname{diag}\Big(\frac{\mu (1 + \alpha y)}{(1 + \alpha \mu)^2}\Big) X

    A step changes no coefficient by more than 2, and is halved while the score along it has turned
    round to more than half of what it was. A column that separates cells without counts sends its
    coefficient to minus infinity: once its pivot in J falls below 1e-9 counts it is left where it
    stands, which no longer changes a mean.

    Parameters
    ----------
    counts : (n_cells,) int
    size_factors : (n_cells,)
    design : (n_cells, n_columns), of full rank
    alpha : dispersion
    start : (n_columns,)
    max_iterations, tolerance : stop after a step no longer than the tolerance

    Returns
    -------
    Maximum
    """
    y, s = np.asarray(counts, dtype=np.float64), np.asarray(size_factors, dtype=np.float64)
    x, beta = np.asarray(design, dtype=np.float64), np.array(start, dtype=np.float64)

    def score_at(point: Vector) -> tuple[Vector, Vector]:
        mu = s * np.exp(x @ point)
        return x.T @ ((y - mu) / (1 + alpha * mu)), mu

    score, mu = score_at(beta)
    for iteration in range(1, max_iterations + 1):
        weight = mu * (1 + alpha * y) / (1 + alpha * mu) ** 2
        step = solve_pivoting((x * weight[:, None]).T @ x, score)
        step *= min(1.0, LARGEST_STEP / max(float(np.abs(step).max()), LARGEST_STEP))
        slope = float(score @ step)
        new, new_mu = score_at(beta + step)
        for _ in range(MAX_HALVINGS):
            if float(new @ step) >= -OVERSHOOT * slope:
                break
            step, slope = step / 2, slope / 2
            new, new_mu = score_at(beta + step)
        beta, score, mu = beta + step, new, new_mu
        if float(np.abs(step).max()) <= tolerance:
            return Maximum(beta, iteration, True)
    return Maximum(beta, max_iterations, False)


def solve_pivoting(matrix: Matrix, right: Vector) -> Vector:
    """Solve a symmetric system by elimination; unknowns without a pivot of their own are 0."""
    n = len(right)
    lower, pivots = np.eye(n), np.zeros(n)
    kept = np.zeros(n, dtype=bool)
    for j in range(n):
        pivots[j] = matrix[j, j] - np.sum(lower[j, :j] ** 2 * pivots[:j])
        kept[j] = pivots[j] > NOTHING + ALIASED * matrix[j, j]
        if not kept[j]:
            pivots[j] = 0
            continue
        for i in range(j + 1, n):
            inner = np.sum(lower[i, :j] * lower[j, :j] * pivots[:j])
            lower[i, j] = (matrix[i, j] - inner) / pivots[j]
    forward = np.zeros(n)
    for j in range(n):
        forward[j] = right[j] - lower[j, :j] @ forward[:j] if kept[j] else 0.0
    solution = np.zeros(n)
    for j in reversed(range(n)):
        if kept[j]:
            solution[j] = forward[j] / pivots[j] - lower[j + 1 :, j] @ solution[j + 1 :]
    return solution


def fit_beside_covariates(
    control: Arm,
    perturbed: Arm,
    control_levels: ArrayLike,
    perturbed_levels: ArrayLike,
    alpha: float,
    se_method: str = "fisher",
    max_iterations: int = 100,
    tolerance: float = 1e-7,
    with_ratio: bool = False,
) -> AdjustedFit | None:
    r"""Fit one comparison beside categories, jointly and exactly.

    With one column of categories, such as a batch, every category has a baseline of its own and the
    information is an arrowhead: with :math:`h_{kb}` that of arm k in batch b, the profile
    information of the fold change is

    .. math::  J = \sum_b \frac{h_{0b} h_{1b}}{h_{0b} + h_{1b}}

    A batch that lacks one arm adds nothing to it. Several columns are additive, as in the design
    ``~ batch + sex + perturbation``. Cells of a category without a single count in either arm drop
    out: its baseline is minus infinity.

    An arm without counts has no finite fold change of highest likelihood. The covariates are then
    those of the other arm, and the fold change has Firth's penalty given them.

    The likelihood ratio compares with the covariates alone, fitted anew without the fold change:

    .. math::

        z = \pm \sqrt{2 \big(\ell(\hat\theta, \hat\delta) - \ell(\tilde\theta, 0)\big)} .

    Parameters
    ----------
    control, perturbed : the two arms
    control_levels, perturbed_levels : (n_cells, n_columns) int, the category of each cell
    alpha : dispersion
    se_method : "fisher" and "sandwich" invert the expected information (here they are the same),
        "robust" has the empirical filling of Huber and White
    max_iterations, tolerance : as in :func:`highest_likelihood`
    with_ratio : also fit without the fold change

    Returns
    -------
    AdjustedFit, or None where the data do not tell the perturbation from the covariates.

    Raises
    ------
    ValueError
        If the method is unknown.

    Notes
    -----
    Source: Mantel-Haenszel's argument for strata; the arrowhead solve is its Newton step.
    """
    if se_method not in SE_METHODS:
        raise ValueError(f"se_method={se_method!r}; allowed: {list(SE_METHODS)}.")
    y = np.concatenate([control.counts, perturbed.counts])
    s = np.concatenate([control.size_factors, perturbed.size_factors])
    levels = np.concatenate([np.atleast_2d(control_levels), np.atleast_2d(perturbed_levels)])
    arm = np.repeat([0, 1], [len(control.counts), len(perturbed.counts)])
    silent = [not y[arm == k].any() for k in (0, 1)]
    kept = _with_counts(y, levels)
    if any(silent):
        loud = levels[arm == int(silent[0])]
        kept &= (levels[:, None] == loud[None]).all(axis=2).any(axis=1)
    z, d = design_of(levels)[kept], arm[kept].astype(np.float64)
    y, s = y[kept], s[kept]
    if not y.any() or not 0 < d.sum() < len(d):
        return None
    x = np.column_stack([z, d])
    start = np.zeros(x.shape[1])
    start[: -1 if levels.shape[1] == 1 else 1] = math.log(y.sum() / s.sum())
    silent_z = ratio_z = math.nan
    if any(silent):
        loud_arm = d == float(silent[0])
        fit = highest_likelihood(
            y[loud_arm], s[loud_arm], z[loud_arm], alpha, start[:-1], max_iterations, tolerance
        )
        rest = Arm(y[~loud_arm], s[~loud_arm] * np.exp(z[~loud_arm] @ fit.coefficients))
        shift = penalized_log_mean(rest, alpha, max_iterations, tolerance)
        beta = np.append(fit.coefficients, shift.eta)
        if silent[0]:
            # The perturbed arm is the baseline, and the control is shifted from it.
            x[:, -1] = 1 - d
        null = highest_likelihood(y, s, z, alpha, start[:-1], max_iterations, tolerance)
        ratio = log_likelihood(
            y[loud_arm], s[loud_arm] * np.exp(z[loud_arm] @ fit.coefficients), alpha
        ) - log_likelihood(y, s * np.exp(z @ null.coefficients), alpha)
        silent_z = math.copysign(math.sqrt(max(2 * ratio, 0)), -1 if silent[1] else 1)
        ratio_z = silent_z if with_ratio else math.nan
        iterations, converged = fit.iterations, fit.converged and shift.converged
    else:
        found = highest_likelihood(y, s, x, alpha, start, max_iterations, tolerance)
        beta, iterations, converged = found
        if with_ratio:
            null = highest_likelihood(y, s, z, alpha, start[:-1], max_iterations, tolerance)
            ratio = log_likelihood(y, s * np.exp(x @ beta), alpha)
            ratio -= log_likelihood(y, s * np.exp(z @ null.coefficients), alpha)
            ratio_z = math.copysign(math.sqrt(max(2 * ratio, 0)), beta[-1])
            converged = converged and null.converged
    error = _standard_error(y, s, x, beta, alpha, se_method)
    if error is None:
        return None
    effect = -beta[-1] if silent[0] else beta[-1]
    intercept = float(np.mean((x @ beta)[d == 0]))
    return AdjustedFit(intercept, float(effect), error, silent_z, ratio_z, iterations, converged)


def design_of(levels: ArrayLike) -> Matrix:
    """Return the columns of categories (n_cells, n_columns): a baseline each, or additive ones.

    One column of categories has an indicator for every category; several have an intercept and
    indicators for all categories but the first.
    """
    levels = np.asarray(levels)
    n_levels = levels.max(axis=0) + 1
    if levels.shape[1] == 1:
        return np.eye(n_levels[0])[levels[:, 0]]
    dummies = [np.eye(n)[column][:, 1:] for n, column in zip(n_levels, levels.T, strict=True)]
    return np.column_stack([np.ones(len(levels)), *dummies])


def control_slopes(
    control: Arm, control_levels: ArrayLike, numbers: ArrayLike, alpha: float
) -> Vector:
    r"""Return the slopes of numeric covariates among the control cells.

    .. math::  \log \mu_i = \log s_i + z_i^T \theta + x_i^T \gamma

    Taken as known, they make the size factor of any cell :math:`s_i e^{x_i^T \hat\gamma}`, another
    one for every gene, for :func:`fit_beside_covariates`. Their own uncertainty is no part of the
    standard error of a fold change: it is small where the control has many more cells than the
    perturbation.

    Parameters
    ----------
    control : counts (n_cells,) and size factors of the control cells
    control_levels : (n_cells, n_columns) int, categories
    numbers : (n_cells, n_numbers), best centered and scaled
    alpha : dispersion

    Returns
    -------
    numpy.ndarray (n_numbers,); 0 for a gene without a count in the control.
    """
    levels = np.atleast_2d(control_levels)
    x = np.asarray(numbers, dtype=np.float64)
    kept = _with_counts(control.counts, levels)
    if not kept.any():
        return np.zeros(x.shape[1])
    y, s = control.counts[kept], control.size_factors[kept]
    z = design_of(levels)[kept]
    start = np.zeros(z.shape[1] + x.shape[1])
    start[: z.shape[1] if levels.shape[1] == 1 else 1] = math.log(y.sum() / s.sum())
    fit = highest_likelihood(y, s, np.column_stack([z, x[kept]]), alpha, start)
    return fit.coefficients[z.shape[1] :]


def _with_counts(y: Vector, levels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether each cell's categories all have a count in some cell (n_cells,)."""
    kept = np.ones(len(y), dtype=bool)
    for column in levels.T:
        kept &= np.bincount(column, weights=y)[column] > 0
    return kept


def _standard_error(
    y: Vector, s: Vector, x: Matrix, beta: Vector, alpha: float, se_method: str
) -> float | None:
    mu = s * np.exp(x @ beta)
    information = (x * (mu / (1 + alpha * mu))[:, None]).T @ x
    # Row of the inverse that belongs to the fold change; it is 0 where there is no information.
    row = solve_pivoting(information, np.eye(len(beta))[-1])
    if row[-1] == 0:
        return None
    if se_method != "robust":
        return math.sqrt(row[-1])
    residual = (y - mu) / (1 + alpha * mu)
    return math.sqrt(float(np.sum((residual * (x @ row)) ** 2)))
