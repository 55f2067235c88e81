"""Guide counts by guide, their distinct values, and the fits of a screen.

Reference: ``reference.mixtures``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from crispyx._kernels import distinct_counts as kernel
from reference.mixtures import MixtureFit

FALLBACK_UMI = 5
MIN_NONZERO_CELLS = 10
LARGEST_COUNT = 2**40
MAX_STARTS = 32
MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class Search:
    """How long EM climbs, and from where.

    Attributes
    ----------
    n_starts : int or None
        Starts, at most 32; None takes the model's own number of them.
    tolerance : float
        EM has arrived when no parameter moves by more than this.
    max_iterations : int or None
        Steps from each start; None takes 1000 (the reference, whose EM is not accelerated, 5000
        for the beta models).
    """

    n_starts: int | None = None
    tolerance: float = 1e-10
    max_iterations: int | None = None

    @property
    def n_iterations(self) -> int:
        """Steps from each start, of the kernels."""
        return MAX_ITERATIONS if self.max_iterations is None else self.max_iterations

    @property
    def reference(self) -> dict[str, Any]:
        """Arguments of the fits of the reference."""
        given = {"n_starts": self.n_starts, "max_iterations": self.max_iterations}
        used = {name: value for name, value in given.items() if value is not None}
        return used | {"tolerance": self.tolerance}


DEFAULT_SEARCH = Search()


@dataclass(frozen=True)
class GuideColumns:
    """The non-zero counts of a cells x guides matrix, guide after guide.

    Attributes
    ----------
    n_cells : int
        Rows of the matrix.
    ptr : numpy.ndarray (n_guides + 1,) int64
        Where each guide starts.
    cells : numpy.ndarray (nnz,) int32 or int64
        Row of each count, rising within a guide.
    counts : numpy.ndarray (nnz,) int64
        UMIs, all above 0.
    """

    n_cells: int
    ptr: np.ndarray
    cells: np.ndarray
    counts: np.ndarray

    @property
    def n_guides(self) -> int:
        return len(self.ptr) - 1

    def take(self, guides: np.ndarray) -> tuple[GuideColumns, np.ndarray]:
        """Return some guides (n_guides,) bool and which of the counts are theirs (nnz,) bool."""
        lengths = np.diff(self.ptr)
        kept = np.repeat(guides, lengths)
        ptr = np.concatenate([[0], np.cumsum(lengths[guides])])
        return GuideColumns(self.n_cells, ptr, self.cells[kept], self.counts[kept]), kept

    def dense(self, guide: int) -> np.ndarray:
        """Return the counts of all cells for one guide (n_cells,) int64."""
        here = slice(self.ptr[guide], self.ptr[guide + 1])
        column = np.zeros(self.n_cells, dtype=np.int64)
        column[self.cells[here]] = self.counts[here]
        return column


@dataclass(frozen=True)
class Bins:
    """Distinct keys of every guide.

    Attributes
    ----------
    ptr : numpy.ndarray (n_guides + 1,) int64
        Where each guide starts.
    keys : numpy.ndarray (n_bins,) int64
        Rising within a guide.
    n : numpy.ndarray (n_bins,) float64
        Cells of each key.
    """

    ptr: np.ndarray
    keys: np.ndarray
    n: np.ndarray

    @classmethod
    def of(cls, ptr: np.ndarray, keys: np.ndarray, n_threads: int) -> Bins:
        """Group keys (nnz,) int64 by guide."""
        longest = int(np.diff(ptr).max(initial=1))
        keys = keys.copy()
        n = np.empty(len(keys))
        n_distinct = np.zeros(len(ptr) - 1, dtype=np.int64)
        scratch = np.empty((n_threads, longest), dtype=np.int64)
        kernel.group_keys(ptr, keys, scratch, n, n_distinct, n_threads)
        bin_ptr = np.concatenate([[0], np.cumsum(n_distinct)])
        place = np.arange(bin_ptr[-1]) + np.repeat(ptr[:-1] - bin_ptr[:-1], n_distinct)
        return cls(bin_ptr, keys[place], n[place])

    def by_guide(self, values: np.ndarray) -> np.ndarray:
        """Repeat one value a guide for all its bins (n_bins,)."""
        return np.repeat(values, np.diff(self.ptr))

    def spread(
        self, values: np.ndarray, ptr: np.ndarray, keys: np.ndarray, n_threads: int
    ) -> np.ndarray:
        """Return the value of every key (nnz,) float64 from one value a bin (n_bins,)."""
        out = np.empty(len(keys))
        kernel.look_up(ptr, keys, self.ptr, self.keys, values, out, n_threads)
        return out


@dataclass(frozen=True)
class GuideFits:
    """One fit a guide.

    Attributes
    ----------
    names : tuple of str
        Names of the parameters.
    parameters : numpy.ndarray (n_guides, n_parameters) float64
        NaN where nothing was fitted.
    objective, log_likelihood : numpy.ndarray (n_guides,) float64
        Natural log, NaN idem; the objective has the log priors of the models that have priors.
    bic_difference : numpy.ndarray (n_guides,) float64
        BIC of one component minus that of the fit: above 0 speaks for two; NaN idem.
    n_iterations : numpy.ndarray (n_guides,) int64
        Steps of EM over all starts.
    converged : numpy.ndarray (n_guides,) bool
        Whether the parameters stood still.
    status : numpy.ndarray (n_guides,) str
        ``ok``, ``no_counts``, ``too_few``, ``no_separation``, ``weak``, ``not_converged``.
    log_odds : numpy.ndarray (nnz,) float64
        Log-odds of the signal for each count of the :class:`GuideColumns`, natural log, never
        falling with the count; NaN where there is no fit to rely on.
    """

    names: tuple[str, ...]
    parameters: np.ndarray
    objective: np.ndarray
    log_likelihood: np.ndarray
    bic_difference: np.ndarray
    n_iterations: np.ndarray
    converged: np.ndarray
    status: np.ndarray
    log_odds: np.ndarray


CONVERGED, NOT_CONVERGED, NO_SEPARATION = 0, 1, 2  # codes of the kernels


@dataclass(frozen=True)
class Fitted:
    """What an engine returns for guides that pass :func:`gate`; see :class:`GuideFits`."""

    names: tuple[str, ...]
    parameters: np.ndarray
    objective: np.ndarray
    log_likelihood: np.ndarray
    one_component: np.ndarray
    n_iterations: np.ndarray
    code: np.ndarray
    log_odds: np.ndarray


def gate(columns: GuideColumns) -> np.ndarray:
    """Return why a guide cannot be fitted, or ``ok`` (n_guides,) str.

    ``no_counts``: no count above 0; ``too_few``: one; ``no_separation``: all of them equal.
    """
    n = np.diff(columns.ptr)
    status = np.full(columns.n_guides, "ok", dtype="<U16")
    have = np.flatnonzero(n)
    if len(have):
        starts = columns.ptr[:-1][have]
        low = np.minimum.reduceat(columns.counts, starts)
        high = np.maximum.reduceat(columns.counts, starts)
        status[have[low == high]] = "no_separation"
    status[n == 1] = "too_few"
    status[n == 0] = "no_counts"
    return status


def assemble(
    columns: GuideColumns,
    status: np.ndarray,
    kept: np.ndarray,
    fitted: Fitted,
    n_observations: np.ndarray,
    n_more_parameters: int,
) -> GuideFits:
    """Put the fits of the guides of status ``ok`` in their places and name what is wrong with them.

    Parameters
    ----------
    columns : GuideColumns
        All guides.
    status : numpy.ndarray (n_guides,) str
        Of :func:`gate`.
    kept : numpy.ndarray (nnz,) bool
        Counts of the fitted guides.
    fitted : Fitted
        Fits of the guides that pass.
    n_observations : numpy.ndarray (n_fitted,)
        Sample size of the BIC.
    n_more_parameters : int
        Parameters of the mixture beyond those of one component.
    """
    passing = status == "ok"
    status = status.copy()
    code = np.full(len(status), CONVERGED)
    code[passing] = fitted.code
    gain = 2 * (fitted.log_likelihood - fitted.one_component)
    bic_difference = gain - n_more_parameters * np.log(np.maximum(n_observations, 1))
    status[passing & (np.diff(columns.ptr) < MIN_NONZERO_CELLS)] = "weak"
    status[code == NOT_CONVERGED] = "not_converged"
    one_is_enough = np.zeros(len(status), dtype=bool)
    one_is_enough[passing] = bic_difference <= 0
    status[(status == "ok") & one_is_enough] = "no_separation"
    status[code == NO_SEPARATION] = "no_separation"

    def placed(values: np.ndarray, empty: float) -> np.ndarray:
        out = np.full((len(status), *values.shape[1:]), empty, dtype=values.dtype)
        out[passing] = values
        return out

    log_odds = np.full(len(columns.counts), np.nan)
    log_odds[kept] = fitted.log_odds
    log_odds[np.repeat(status != "ok", np.diff(columns.ptr))] = np.nan
    return GuideFits(
        fitted.names,
        placed(fitted.parameters, np.nan),
        placed(fitted.objective, np.nan),
        placed(fitted.log_likelihood, np.nan),
        placed(bic_difference, np.nan),
        placed(fitted.n_iterations, 0),
        passing & (code == CONVERGED),
        status,
        log_odds,
    )


def from_reference(
    fits: list[MixtureFit], names: tuple[str, ...], log_odds: list[np.ndarray]
) -> Fitted:
    """Return the fits of the reference, one a guide, in the form of the kernels."""
    codes = [
        NO_SEPARATION if not fit.parameters else CONVERGED if fit.converged else NOT_CONVERGED
        for fit in fits
    ]
    return Fitted(
        names,
        np.array([[fit.parameters.get(name, np.nan) for name in names] for fit in fits]).reshape(
            len(fits), len(names)
        ),
        np.array([fit.objective for fit in fits], dtype=np.float64),
        np.array([fit.log_likelihood for fit in fits], dtype=np.float64),
        np.array([fit.one_component for fit in fits], dtype=np.float64),
        np.array([fit.n_iterations for fit in fits], dtype=np.int64),
        np.array(codes, dtype=np.int64),
        np.concatenate([np.empty(0), *log_odds]),
    )
