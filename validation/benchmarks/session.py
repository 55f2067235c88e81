"""A session: comparisons in turns, each kept as soon as it is done."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

from validation.benchmarks.cases import WITHOUT_PROCESS, Case
from validation.benchmarks.comparison import OK, SLOW_NOTE, Comparison
from validation.benchmarks.inputs import job_of, warm_up
from validation.benchmarks.job import OURS, Job
from validation.benchmarks.outcome import outcome
from validation.benchmarks.page import summary
from validation.benchmarks.runs import ROOT, Run, late_imports, perform, warm
from validation.benchmarks.store import Store
from validation.cache import digest
from validation.peers.catalog import Peer
from validation.peers.environments import Environment, environment


@dataclass
class Session:
    """Settings of a session.

    Attributes
    ----------
    cache : pathlib.Path
        Environments and screens.
    outputs : pathlib.Path
        Folder for what the tools write, of this session alone.
    peers : dict of str to Peer
        All tools of the catalog.
    store : Store
        Where comparisons are kept.
    repeats : int
        Turns of each comparison; one of those that take minutes.
    timeout : float
        Seconds after which a process is given up.
    slow : bool
        Run what takes other tools minutes, too.
    """

    cache: Path
    outputs: Path
    peers: dict[str, Peer]
    store: Store
    repeats: int = 3
    timeout: float = 900.0
    slow: bool = False
    _environments: dict[str, Environment] = field(default_factory=dict)
    _preloads: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def run(self, cases: Iterable[Case]) -> None:
        """Run what the store does not have yet, and say what happens."""
        for case in cases:
            key = self._key(case)
            kept = self.store.comparisons.get(case.identity)
            if kept is None or kept.key != key or kept.is_failure:
                kept = replace(self._compare(case), key=key)
                self.store.keep(kept)
            print(summary(kept), flush=True)

    def _compare(self, case: Case) -> Comparison:
        found = Comparison(case.name, case.operation, case.data, case.peer, case.threads)
        if case.slow and not self.slow:
            found = replace(found, note=SLOW_NOTE)
        alone = case.peer in WITHOUT_PROCESS or found.note == SLOW_NOTE
        tools = [OURS] if alone else [OURS, case.peer]
        try:
            jobs = {
                tool: job_of(case, tool, self.cache, self.outputs, self._preload(case, tool))
                for tool in tools
            }
        except FileNotFoundError as error:  # a screen that is neither here nor to be had
            return replace(found, note=str(error))
        runs = self._turns(jobs, 1 if case.slow else self.repeats)
        found = replace(found, ours=tuple(runs[OURS]), theirs=tuple(runs.get(case.peer, ())))
        done = {
            tool: (job, python)
            for tool, job in jobs.items()
            if (python := self._environment(tool).python) and runs[tool][-1].status == OK
        }
        try:
            return replace(found, agreement=outcome(case, done, self.cache))
        except ValueError as error:
            return replace(found, note=str(error))

    def _turns(self, jobs: Mapping[str, Job], repeats: int) -> dict[str, list[Run]]:
        """Run the tools in turns, first the one and then the other first; stop without a result."""
        runs: dict[str, list[Run]] = {tool: [] for tool in jobs}
        warm(jobs[OURS].input)
        for turn in range(repeats):
            for tool in list(jobs) if turn % 2 == 0 else list(jobs)[::-1]:
                made = self._environment(tool)
                if made.python is None:
                    runs[tool].append(Run("not installed", error=made.error))
                else:
                    runs[tool].append(perform(jobs[tool], made.python, self.timeout))
            if any(of_tool[-1].status != OK for of_tool in runs.values()):
                break
        return runs

    def _preload(self, case: Case, tool: str) -> tuple[str, ...]:
        """Return the modules a tool imports late, found by a small run that also compiles."""
        python = self._environment(tool).python
        job = job_of(warm_up(case), tool, self.cache, self.outputs)
        if python is None:
            return ()
        if job.encode() not in self._preloads:
            perform(job, python, self.timeout)
            self._preloads[job.encode()] = late_imports(job)
        return self._preloads[job.encode()]

    def _environment(self, tool: str) -> Environment:
        if tool == OURS:
            return Environment(Peer(OURS, ()), Path(sys.executable))
        if tool not in self._environments:
            self._environments[tool] = environment(self.peers[tool], self.cache)
        return self._environments[tool]

    def _key(self, case: Case) -> str:
        """Return a text that changes with the case, the code, the pins or the settings."""
        peer = self.peers.get(case.peer)
        settings = [self.repeats, self.timeout, self.slow or not case.slow]
        return digest(asdict(case), peer and peer.pins, settings, code_digest())


@cache
def code_digest() -> str:
    """Return a checksum of crispyx and its reference, sources and kernels, and of the adapters."""
    content = hashlib.sha256()
    for package in ("crispyx", "reference", "validation/benchmarks/tools"):
        for path in sorted((ROOT / package).rglob("*")):
            if path.suffix in {".py", ".so"}:
                content.update(path.read_bytes())
    return content.hexdigest()
