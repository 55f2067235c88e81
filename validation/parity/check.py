"""One comparison of one quantity, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from validation.parity.tolerances import Tolerance

Status = Literal["agrees", "explained", "bug", "not installed", "failed", "not run"]
# What makes the exit code.
FAILING = ("bug", "not installed", "failed")
# p-values below this are rounded to 0 by some tools.
SMALLEST_P = 1e-300
OTHER_OPTIMUM = "another optimum"


@dataclass(frozen=True)
class Check:
    """The same numbers three times.

    Attributes
    ----------
    method, quantity : str
        Name of the method, as of its page in ``docs/methods``, and of what is compared.
    outside, reference, compiled : numpy.ndarray, of one shape
        Numbers of the other tool, of the definition and of the kernels; ``reference`` is None
        where a result has no definition of its own.
    explained : mapping of str to numpy.ndarray of bool
        Elements that differ by intention, by key of ``semantics.toml``.
    labels : tuple of sequences
        Names along each axis, for the element that differs most.
    other_optimum : numpy.ndarray of bool, or False
        Elements of fits whose likelihood is higher by the kernels than by the reference: there the
        engines may differ.
    handed_over : mapping of str to int
        How many numbers of the other tool stood in for ours before this quantity was computed, by
        key of ``semantics.toml``: such a row does not simply agree.
    held_to : tuple of str or None
        Method and quantity of the tolerance, where it is not this one's own.
    """

    method: str
    quantity: str
    outside: np.ndarray
    reference: np.ndarray | None
    compiled: np.ndarray
    explained: Mapping[str, np.ndarray] = field(default_factory=dict)
    labels: tuple[np.ndarray, ...] = ()
    other_optimum: np.ndarray | bool = False
    handed_over: Mapping[str, int] = field(default_factory=dict)
    held_to: tuple[str, str] | None = None


@dataclass(frozen=True)
class Difference:
    """How far one engine is from another.

    Attributes
    ----------
    median, largest : float
        Of the differences within or beyond the tolerance, explained ones left out.
    n_beyond, n_explained : int
        Elements beyond the tolerance: without an explanation, and with one.
    """

    median: float
    largest: float
    n_beyond: int
    n_explained: int = 0


@dataclass(frozen=True)
class Row:
    """One line of a report.

    Attributes
    ----------
    peer, method, quantity, data : str
        What was compared with whom, on which data.
    status : Status
        Only ``"agrees"``, ``"explained"`` and ``"not run"`` (no data) do not fail.
    n : int
        Numbers compared.
    reference, compiled, engines : Difference or None
        Reference and outside tool, kernels and outside tool, kernels and reference.
    tolerance : Tolerance or None
        What was allowed.
    explanations : mapping of str to int
        Elements by explanation, and numbers that were handed over.
    worst : str
        Element that differs most and its three values.
    note : str
        Why there is no comparison.
    check : Check or None
        The numbers, for plots.
    """

    peer: str
    method: str
    quantity: str
    data: str
    status: Status
    n: int = 0
    reference: Difference | None = None
    compiled: Difference | None = None
    engines: Difference | None = None
    tolerance: Tolerance | None = None
    explanations: Mapping[str, int] = field(default_factory=dict)
    worst: str = ""
    note: str = ""
    check: Check | None = None

    @property
    def fails(self) -> bool:
        """Whether the row counts in the exit code."""
        return self.status in FAILING


def differences(measure: str, ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Return the differences by a measure; infinite where one side alone has no number.

    Parameters
    ----------
    measure : {"exact", "absolute", "relative", "mixed", "log"}
        ``mixed`` divides by the larger of 1 and the number; ``log`` is of natural logarithms.
    ours, theirs : numpy.ndarray, of one shape
        Numbers, NaN where there is none.
    """
    a, b = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if a.shape != b.shape:
        raise ValueError(f"shapes {a.shape} and {b.shape} differ")
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        if measure == "log":
            found = np.abs(np.log(np.maximum(a, SMALLEST_P)) - np.log(np.maximum(b, SMALLEST_P)))
        else:
            found = np.abs(a - b)
            if measure == "relative":
                found = found / np.abs(b)
            elif measure == "mixed":
                found = found / np.maximum(1, np.abs(b))
    found[a == b] = 0
    found[np.isnan(a) & np.isnan(b)] = 0
    found[np.isnan(found)] = np.inf
    return found


def judge(check: Check, peer: str, data: str, tolerance: Tolerance) -> Row:
    """Return the row of a check."""
    reference = check.compiled if check.reference is None else check.reference
    beyond = np.zeros(np.shape(check.compiled), dtype=bool)
    explained = beyond.copy()
    for mask in check.explained.values():
        explained |= np.broadcast_to(mask, explained.shape)
    found: dict[str, Difference] = {}
    by_side = {"reference": reference, "compiled": check.compiled}
    of_side = {
        side: differences(tolerance.measure, ours, check.outside) for side, ours in by_side.items()
    }
    allowed = int(tolerance.share * beyond.size)
    is_bug = False
    for side, difference in of_side.items():
        too_far = difference > tolerance.outside
        beyond |= too_far
        found[side] = _difference(difference, too_far, explained & too_far)
        is_bug |= found[side].n_beyond > allowed
    between = differences(tolerance.measure, check.compiled, reference)
    apart = between > tolerance.engines
    optima = np.zeros_like(explained) | check.other_optimum
    found["engines"] = _difference(between, apart, optima & apart)
    is_bug |= found["engines"].n_beyond > 0
    if beyond.size == 0:
        return Row(peer, check.method, check.quantity, data, "failed", note="nothing to compare")
    counts = {
        key: int((np.broadcast_to(mask, beyond.shape) & beyond).sum())
        for key, mask in check.explained.items()
    }
    counts[OTHER_OPTIMUM] = found["engines"].n_explained
    counts |= check.handed_over
    worst = np.where(explained & beyond, -1.0, np.maximum(*of_side.values()))
    if found["engines"].n_beyond:
        worst = between
    return Row(
        peer=peer,
        method=check.method,
        quantity=check.quantity,
        data=data,
        status="bug" if is_bug else "explained" if any(counts.values()) else "agrees",
        n=beyond.size,
        reference=None if check.reference is None else found["reference"],
        compiled=found["compiled"],
        engines=None if check.reference is None else found["engines"],
        tolerance=tolerance,
        explanations={key: n for key, n in counts.items() if n},
        worst=_element(check, reference, int(np.argmax(worst))),
        check=check,
    )


def _difference(values: np.ndarray, beyond: np.ndarray, explained: np.ndarray) -> Difference:
    left = values[~explained]
    return Difference(
        median=float(np.median(left)) if left.size else 0.0,
        largest=float(left.max(initial=0)),
        n_beyond=int((beyond & ~explained).sum()),
        n_explained=int((beyond & explained).sum()),
    )


def _element(check: Check, reference: np.ndarray, flat: int) -> str:
    """Return the name of an element and its three values."""
    at = np.unravel_index(flat, check.compiled.shape)
    names = [str(labels[i]) for labels, i in zip(check.labels, at, strict=False)]
    name = ", ".join(names) or ", ".join(map(str, at))
    values = [
        np.asarray(one, dtype=float)[at] for one in (check.outside, reference, check.compiled)
    ]
    return f"{name}: {' | '.join(f'{value:.9g}' for value in values)}"
