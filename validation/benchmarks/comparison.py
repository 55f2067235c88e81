"""Paired runs of crispyx and one other tool, and what they amount to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from validation.benchmarks.cases import Identity
from validation.benchmarks.job import OURS
from validation.benchmarks.runs import Run

SLOW_NOTE = "takes minutes; run with --slow"
OK, FAILURES = "ok", ("failed", "not installed")


@dataclass(frozen=True)
class Comparison:
    """One operation on one file, done by crispyx and by a peer in turns.

    Attributes
    ----------
    case : str
        Operation and input, such as ``"wilcoxon, log CSR"``.
    operation, data : str
        Name of the operation, and of the screen or guide set.
    peer : str
        Name of the other tool.
    threads : int
        Threads of both.
    ours, theirs : tuple of Run
        In the order they ran, one of each a turn.
    agreement : mapping of str to float
        How far the results agree, by name of the measure.
    note : str
        Why there is nothing to compare, or what to know when reading the figures.
    key : str
        Changes when anything that decides the figures does.
    """

    case: str
    operation: str
    data: str
    peer: str
    threads: int
    ours: tuple[Run, ...] = ()
    theirs: tuple[Run, ...] = ()
    agreement: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    key: str = ""

    @property
    def identity(self) -> Identity:
        """What is compared, however often; that of its case."""
        return self.operation, self.case, self.data, self.peer, self.threads

    @property
    def on_screen(self) -> bool:
        """Whether the data are a screen that was there, not guide counts."""
        return self.operation != "guides" and bool(self.ours or self.theirs)

    @property
    def complete(self) -> bool:
        """Whether both tools did it in every turn."""
        runs = (*self.ours, *self.theirs)
        return bool(self.ours and self.theirs) and all(run.status == OK for run in runs)

    @property
    def is_failure(self) -> bool:
        """Whether data are missing, a tool has failed or is not there, or its result is unclear."""
        bad = any(run.status in FAILURES for run in (*self.ours, *self.theirs))
        return bad or self.note not in ("", SLOW_NOTE)

    def middle(self, tool: str, quantity: str) -> float | None:
        """Return the median of a quantity over the runs of ``"ours"`` or ``"theirs"``."""
        runs = self.ours if tool == OURS else self.theirs
        values = [getattr(run, quantity) for run in runs if run.status == OK]
        return median(values) if values else None

    def ratio(self, quantity: str) -> float | None:
        """Return the median over turns of theirs / ours; above 1, crispyx takes less."""
        turns = zip(self.ours, self.theirs, strict=False)
        pairs = [
            (getattr(ours, quantity), getattr(theirs, quantity))
            for ours, theirs in turns
            if ours.status == theirs.status == OK
        ]
        ratios = [theirs / ours for ours, theirs in pairs if ours > 0]
        return median(ratios) if ratios else None

    @property
    def state(self) -> str:
        """Return ``"ok"``, or in words which tool has no result and why."""
        states = []
        for name, runs in (("crispyx", self.ours), (self.peer, self.theirs)):
            bad = next((run for run in runs if run.status != OK), None)
            if bad is not None:
                states.append(f"{name}: {bad.error if bad.status == 'over time' else bad.status}")
        return "; ".join(states) or self.note or (OK if self.ours else "not run")

    def encode(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    @classmethod
    def decode(cls, table: Mapping[str, Any]) -> Comparison:
        """Return the comparison of :meth:`encode`."""
        runs = {name: tuple(Run(**run) for run in table[name]) for name in ("ours", "theirs")}
        return cls(**{**table, **runs})
