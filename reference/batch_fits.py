r"""``poisson_gauss``, ``gauss``, ``beta2`` and ``beta3`` of a screen made in several batches.

These models have no place for a batch effect: a batch has a fit of its own or shares the *pooled*
one, of all cells. It has its own where

1. at least ``min_cells`` of its cells have a count (of the guide; of any guide for beta models),
2. its own fit has the status ``ok``, and
3. the pooled fit has not, or its own describes the batch better by BIC:
   :math:`2 (\ell_\text{own} - \ell_\text{pooled}) > p \log n`, both log likelihoods taken on the
   :math:`n` observations of the batch, with :math:`p` parameters.

So batches that are alike are called as if there were none, and small ones lean on all cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reference import beta_mixtures, histogram_mixtures
from reference.mixtures import MixtureFit

FIT: dict[str, Callable[..., MixtureFit]] = {
    "poisson_gauss": histogram_mixtures.fit_poisson_gauss,
    "gauss": histogram_mixtures.fit_gauss,
    "beta2": beta_mixtures.fit_beta2,
    "beta3": beta_mixtures.fit_beta3,
}
N_PARAMETERS = {"poisson_gauss": 4, "gauss": 4, "beta2": 5, "beta3": 8}
MIN_CELLS = 50


class BatchFits(NamedTuple):
    """The pooled fit, and of each batch its own fit, or None where the pooled one serves."""

    pooled: MixtureFit
    own: tuple[MixtureFit | None, ...]


def fit_in_batches(
    model: str, values: ArrayLike, batch: ArrayLike, *, min_cells: int = MIN_CELLS, **given: Any
) -> BatchFits:
    """Fit one guide, or one screen (beta models), in all batches together and in each.

    Parameters
    ----------
    model : ``poisson_gauss``, ``gauss``, ``beta2`` or ``beta3``
    values : (n_cells,) counts of the guide, or the largest proportion of each cell
    batch : (n_cells,) int, 0 to n_batches - 1
    min_cells : cells with a count that a fit of its own needs
    given : further arguments of the model's fit
    """
    x, of = np.asarray(values), np.asarray(batch)
    pooled = FIT[model](x, **given)
    own = []
    for b in range(int(of.max(initial=-1)) + 1):
        here = x[of == b]
        fit = FIT[model](here, **given) if _with_counts(here).sum() >= min_cells else None
        serves = fit is not None and has_own_fit(
            fit.status,
            fit.log_likelihood,
            pooled.status,
            _log_likelihood(model, here, pooled),
            _n_observations(model, here),
            N_PARAMETERS[model],
        )
        own.append(fit if serves else None)
    return BatchFits(pooled, tuple(own))


def has_own_fit(
    status: str,
    log_likelihood: float,
    pooled_status: str,
    pooled_log_likelihood: float,
    n_observations: float,
    n_parameters: int,
) -> bool:
    """Say whether a batch is called by its own fit; both log likelihoods are those of its cells."""
    if status != "ok" or pooled_status != "ok":
        return status == "ok"
    gain = 2.0 * (log_likelihood - pooled_log_likelihood)
    return gain > n_parameters * math.log(n_observations)


def _with_counts(values: NDArray[Any]) -> NDArray[np.bool_]:
    return np.nan_to_num(values) > 0


def _n_observations(model: str, values: NDArray[Any]) -> float:
    return float(values.size if model == "gauss" else _with_counts(values).sum())


def _log_likelihood(model: str, values: NDArray[Any], fit: MixtureFit) -> float:
    if not fit.parameters:
        return math.nan
    if model in ("beta2", "beta3"):
        return beta_mixtures.log_likelihood(values, fit.parameters)
    return histogram_mixtures.log_likelihood(model, values, fit.parameters)
