"""What a run has done: which steps with which parameters, and what their files looked like."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from crispyx._io.atomic import write_text

NAME = ".crispyx-run.json"


class Journal:
    """The record of a folder, written after every step.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the results.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._content: dict[str, Any] = {"steps": {}, "files": {}, "started": None}
        try:
            found = json.loads((folder / NAME).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return
        if isinstance(found, dict) and {"steps", "files", "started"} <= set(found):
            self._content = found

    def holds(self, step: str, key: str, files: Iterable[Path]) -> bool:
        """Tell whether a step is done with this key and no one else touched its files since."""
        done = self._content["steps"].get(step)
        return done == key and all(
            path.is_file() and self._content["files"].get(path.name) == _identity(path)
            for path in files
        )

    def made(self, path: Path) -> bool:
        """Tell whether a run made this file."""
        return path.name in self._content["files"]

    def interrupted(self, step: str, key: str) -> bool:
        """Tell whether the step was begun with this key and did not end."""
        return bool(self._content["started"] == [step, key])

    def begin(self, step: str, key: str, files: Iterable[Path]) -> None:
        """Note that a step begins; its files are the run's from now on."""
        self._content["steps"].pop(step, None)
        self._content["started"] = [step, key]
        for path in files:
            self._content["files"].setdefault(path.name, None)
        self._write()

    def end(self, step: str, key: str, files: Iterable[Path]) -> None:
        """Note that a step is done."""
        self._content["steps"][step] = key
        self._content["started"] = None
        self._content["files"] |= {path.name: _identity(path) for path in files}
        self._write()

    def _write(self) -> None:
        write_text(self._folder / NAME, json.dumps(self._content, indent=1) + "\n")


def key_of(step: str, parameters: Mapping[str, Any], inputs: Iterable[Path], before: str) -> str:
    """Return what a step depends on, in short: parameters, inputs from outside, earlier steps."""
    parts = [step, parameters, [[str(path.resolve()), _identity(path)] for path in inputs], before]
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _identity(path: Path) -> list[int]:
    about = path.stat()
    return [about.st_size if path.is_file() else 0, about.st_mtime_ns]
