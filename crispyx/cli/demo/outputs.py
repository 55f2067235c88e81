"""The demo's folder: where each file goes, and which files in it are the demo's."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from pathlib import Path, PurePath

from crispyx._io.atomic import write_text
from crispyx.errors import InputError, OutputExistsError

MANIFEST = ".crispyx-demo.json"
_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]+")


class OutputFolder:
    """Hands out paths below one folder and remembers them in a list beside them.

    A later run replaces the files on the list, removes those it does not make again, and leaves
    every other file alone.

    Parameters
    ----------
    root : pathlib.Path
        The folder; created when absent.
    force : bool
        Also replace files of the same name that are not on the list.

    Raises
    ------
    InputError
        A file stands where a folder is needed, or the folder cannot be written to.
    """

    def __init__(self, root: Path, *, force: bool) -> None:
        self.root = root.expanduser()
        self._force = force
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"the folder {str(self.root)!r} cannot be made: {error}") from error
        if not os.access(self.root, os.W_OK):
            raise InputError(f"the folder {str(self.root)!r} cannot be written to; give --output")
        self._earlier = self._read()
        self._made: list[str] = []

    def path(self, name: str) -> Path:
        """Return where a file of the demo goes, such as ``"plots/qc.png"``.

        Raises
        ------
        OutputExistsError
            A file that the demo did not make stands there.
        """
        path = self.root / name
        if path.exists() and not self._force and name not in {*self._earlier, *self._made}:
            raise OutputExistsError(
                f"{str(path)!r} was not made by the demo; give another folder with --output, or "
                "--force to replace it"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        if name not in self._made:
            self._made.append(name)
            # Written at once: a run that breaks off leaves files that the next one may replace.
            self._write({*self._earlier, *self._made})
        return path

    def finish(self) -> None:
        """Remove what an earlier run made and this one did not."""
        for name in sorted(set(self._earlier) - set(self._made)):
            path = self.root / name
            if not path.is_file():
                continue
            path.unlink()
            with suppress(OSError):  # not empty, or already gone
                path.parent.rmdir()
        self._write(set(self._made))

    def _read(self) -> list[str]:
        try:
            listed = json.loads((self.root / MANIFEST).read_text(encoding="utf-8"))["files"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return []
        return [name for name in listed if _is_inside(name)] if isinstance(listed, list) else []

    def _write(self, names: set[str]) -> None:
        text = json.dumps({"made by": "crispyx demo", "files": sorted(names)}, indent=1)
        write_text(self.root / MANIFEST, text + "\n")


def _is_inside(name: object) -> bool:
    """Tell whether a listed name is a path below the folder: the list must reach nothing else."""
    if not isinstance(name, str):
        return False
    path = PurePath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def file_name(label: str) -> str:
    """Return a label as part of a file name."""
    return _UNSAFE.sub("_", label).strip("._")[:80] or "unnamed"
