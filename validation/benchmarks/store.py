"""Comparisons kept in one JSON file, which a session can be taken up from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from validation.benchmarks.cases import Identity
from validation.benchmarks.comparison import Comparison


@dataclass
class Store:
    """What has been measured, and on what.

    Attributes
    ----------
    path : pathlib.Path
        JSON file, written whole after every comparison.
    machine : dict of str to str
        See :func:`validation.machine.describe_machine`.
    commands : list of str
        What was run, each once.
    comparisons : dict
        By operation, case, data, peer and threads, in the order they were first run.
    """

    path: Path
    machine: dict[str, str] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    comparisons: dict[Identity, Comparison] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, *, fresh: bool = False) -> Store:
        """Return what a file holds; nothing when there is none, or ``fresh``."""
        store = cls(path)
        if path.is_file() and not fresh:
            content = json.loads(path.read_text(encoding="utf-8"))
            store.machine, store.commands = content["machine"], content["commands"]
            for table in content["comparisons"]:
                store._add(Comparison.decode(table))
        return store

    def begin(self, command: str, machine: dict[str, str]) -> None:
        """Note what is going to be run, and on what."""
        self.machine = machine
        if command not in self.commands:
            self.commands.append(command)

    def keep(self, comparison: Comparison) -> None:
        """Add a comparison in place of the one it repeats, and write the file."""
        self._add(comparison)
        self.write()

    def write(self) -> None:
        """Write the file; an interruption leaves the one before."""
        content = {
            "machine": self.machine,
            "commands": self.commands,
            "comparisons": [found.encode() for found in self.comparisons.values()],
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        work = self.path.with_name(f".{self.path.name}")
        work.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        os.replace(work, self.path)

    def of(self, operation: str) -> Iterator[Comparison]:
        """Yield the comparisons of an operation."""
        return (found for found in self.comparisons.values() if found.operation == operation)

    def _add(self, found: Comparison) -> None:
        self.comparisons[found.identity] = found
