"""What must hold after a run that was disturbed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from faults import operations
from faults.contents import differences, digests, everything_in
from faults.stage import Stage

from crispyx._io.journal import recover


@dataclass(frozen=True)
class Scene:
    """An operation in a folder of its own.

    Attributes
    ----------
    stage, name
        Where and what.
    output : pathlib.Path
        Its output.
    expected : dict
        What is in the output of an undisturbed run.
    total : int
        How often that touches the disk.
    inputs : dict
        Checksums of the inputs.
    """

    stage: Stage
    name: str
    output: Path
    expected: dict[str, bytes]
    total: int
    inputs: dict[str, str]

    @property
    def operation(self) -> operations.Operation:
        return operations.OPERATIONS[self.name]

    def assert_nothing_wrong_is_left(self) -> None:
        """No output but a complete one; a file changed in place is as before or as after."""
        assert digests(self.stage.inputs) == self.inputs
        if self.operation.in_place:
            recover(self.output)
            found = everything_in(self.output)
            before = everything_in(self.stage.inputs / self.operation.source)
            if differences(found, before):
                self._assert_complete()
        elif self.output.exists():
            self._assert_complete()

    def assert_next_run_completes(self, *, resume: bool) -> None:
        """The next run gives the same bits, and leaves the folder as if nothing had happened."""
        resume = resume or not self.operation.resumes
        outcome = self.stage.perform(self.name, self.output, resume=resume)
        assert outcome.code == 0, f"{outcome.error}\n{outcome.stderr}"
        self._assert_complete()
        assert digests(self.stage.inputs) == self.inputs
        expected = {self.output.name, *self.operation.beside}
        if self.name.startswith("simulate"):
            expected |= {"guides.h5ad", "truth.h5ad"}
        found = {path.name for path in self.output.parent.iterdir()}
        assert found == expected, f"left over or missing: {found ^ expected}"

    def _assert_complete(self) -> None:
        changed = differences(everything_in(self.output), self.expected)
        assert not changed, f"not the bits of an undisturbed run: {changed}"


Scenes = Callable[[str], Scene]


def prepared(stage: Stage, name: str, folder: Path) -> Path:
    """Make an empty folder with what the operation finds there; return its output."""
    folder.mkdir()
    operation = operations.OPERATIONS[name]
    output = folder / operations.output_name(name)
    if operation.in_place:
        shutil.copy2(stage.inputs / operation.source, output)
    return output
