"""Run the cases of a tool and judge every check."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from validation.parity.check import Row, Status, judge
from validation.parity.outside import Outside, PeerError
from validation.parity.suites import Bench, Case, cases
from validation.parity.tolerances import Tolerances, load_semantics, load_tolerances


@dataclass
class Session:
    """What a run found.

    Attributes
    ----------
    rows : list of Row
        In the order of the cases.
    versions : dict of str to str
        Versions of the tools that answered.
    computed, kept : int
        Answers of the tools that were asked for now, and that had been kept.
    seconds : float
        Time of the run; answers that were kept cost none.
    of_suite : dict of str to float
        Time of every tool's suite.
    """

    rows: list[Row] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    computed: int = 0
    kept: int = 0
    seconds: float = 0.0
    of_suite: dict[str, float] = field(default_factory=dict)

    @property
    def n_failing(self) -> int:
        """Rows that fail."""
        return sum(row.fails for row in self.rows)

    @property
    def facts(self) -> dict[str, str]:
        """What the run took, in words."""
        times = ", ".join(f"{peer} {time / 60:.1f}" for peer, time in self.of_suite.items())
        return {
            "time": f"{self.seconds / 60:.0f} min; of the suites, side by side: {times} min",
            "answers of the tools": f"{self.computed} computed, {self.kept} kept from before",
        }


def run(
    peer: str,
    cache: Path,
    methods: Collection[str] | None = None,
    data: Collection[str] | None = None,
    tell: Callable[[Row], object] | None = None,
) -> Session:
    """Compare with a tool, by all methods on all data or by some, and say what happens.

    Parameters
    ----------
    tell : callable, optional
        Is given every row as soon as it is judged.
    """
    start = time.perf_counter()
    bench = Bench(cache, Outside(cache))
    tolerances, semantics = load_tolerances(), load_semantics()
    session = Session()
    for case in cases(peer):
        if not (chosen(case.method, methods) and chosen(case.data, data)):
            continue
        begun = time.perf_counter()
        for row in _rows(peer, case, bench, tolerances):
            found = _explained_by(row, semantics)
            session.rows.append(found)
            if tell is not None:
                tell(found)
            print(summary(found), flush=True)
        took = time.perf_counter() - begun
        print(f"  {peer}: {case.method}, {case.data}: {took:.1f} s", flush=True)
    session.versions |= bench.outside.versions
    session.computed, session.kept = bench.outside.computed, bench.outside.kept
    session.seconds = time.perf_counter() - start
    return session


def chosen(name: str, names: Collection[str] | None) -> bool:
    """Whether a name is among those asked for."""
    return names is None or name in names


def _explained_by(row: Row, semantics: Collection[str]) -> Row:
    """Return a row, or its failure when an explanation of it has no words."""
    unknown = sorted(set(row.explanations) - set(semantics))
    if not unknown:
        return row
    note = f"semantics.toml has no {', '.join(unknown)}"
    return Row(row.peer, row.method, row.quantity, row.data, "failed", note=note)


def _rows(peer: str, case: Case, bench: Bench, tolerances: Tolerances) -> Iterator[Row]:
    try:
        for check in case.checks(bench, case.data):
            allowed = tolerances.of(*(check.held_to or (check.method, check.quantity)), peer)
            yield judge(check, peer, case.data, allowed)
    except PeerError as error:
        status: Status = "not installed" if error.status == "not installed" else "failed"
        yield Row(peer, case.method, "", case.data, status, note=str(error))
    except FileNotFoundError as error:
        yield Row(peer, case.method, "", case.data, "not run", note=str(error).splitlines()[0])
    except Exception as error:  # noqa: BLE001 - whatever a case raises is its result
        traceback.print_exc()
        note = f"{type(error).__name__}: {error}"
        yield Row(peer, case.method, "", case.data, "failed", note=note)


def summary(row: Row) -> str:
    """Return one line about a row, for the terminal."""
    name = f"{row.status:9s} {row.peer}: {row.method}, {row.quantity or 'all'}, {row.data}"
    if row.compiled is None:
        return f"{name}: {row.note}"
    far = f"{name}: {row.compiled.largest:.1e} of {row.n:,}"
    return f"{far}; {row.worst}" if row.fails else far
