"""Run the cases of tools and judge every check."""

from __future__ import annotations

import time
import traceback
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from validation.parity.check import Row, Status, judge
from validation.parity.outside import Outside, PeerError
from validation.parity.suites import Bench, Case, cases
from validation.parity.tolerances import Tolerances, load_semantics, load_tolerances


@dataclass(frozen=True)
class Session:
    """What a run found.

    Attributes
    ----------
    rows : list of Row
        In the order of the cases.
    versions : dict of str to str
        Versions of the tools that answered.
    seconds : float
        Time of the run; answers that were kept cost none.
    """

    rows: list[Row] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def n_failing(self) -> int:
        """Rows that fail."""
        return sum(row.fails for row in self.rows)


def run(
    peers: Iterable[str],
    cache: Path,
    methods: Collection[str] | None = None,
    data: Collection[str] | None = None,
) -> Session:
    """Compare with tools, by all methods on all data or by some, and say what happens."""
    start = time.perf_counter()
    bench = Bench(cache, Outside(cache))
    tolerances, semantics = load_tolerances(), load_semantics()
    rows = []
    for peer in peers:
        for case in cases(peer):
            if not (chosen(case.method, methods) and chosen(case.data, data)):
                continue
            begun = time.perf_counter()
            for row in _rows(peer, case, bench, tolerances):
                unknown = set(row.explanations) - set(semantics)
                if unknown:
                    raise KeyError(f"semantics.toml has no {', '.join(sorted(unknown))}")
                rows.append(row)
                print(summary(row), flush=True)
            print(f"  {time.perf_counter() - begun:.1f} s", flush=True)
    return Session(rows, bench.outside.versions, time.perf_counter() - start)


def chosen(name: str, names: Collection[str] | None) -> bool:
    """Whether a name is among those asked for."""
    return names is None or name in names


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
