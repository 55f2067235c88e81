"""A virtual environment for every peer, made once and kept."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from validation.cache import digest
from validation.peers.catalog import Peer

STAMP = "installed.txt"


@dataclass(frozen=True)
class Environment:
    """The interpreter of a peer, or why there is none.

    Attributes
    ----------
    python : pathlib.Path or None
        Interpreter that imports the peer.
    error : str
        The installer's own words when it failed.
    """

    peer: Peer
    python: Path | None
    error: str = ""


def environment(peer: Peer, cache: Path) -> Environment:
    """Return the environment of a peer, creating it when its pins have none yet.

    A failed installation is not kept: the next call tries again.
    """
    folder = cache / "peers" / f"{peer.name}-{digest(sys.version_info[:2], *peer.pins)}"
    python = folder / "bin" / "python"
    if (folder / STAMP).is_file():
        return Environment(peer, python)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(peer.constraints) + "\n", encoding="utf-8")
    versions = ""
    for command in _commands(folder, python, peer, constraints):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(folder)
            return Environment(peer, None, (done.stderr or done.stdout).strip())
        versions = done.stdout
    (folder / STAMP).write_text(versions, encoding="utf-8")
    return Environment(peer, python)


def _commands(folder: Path, python: Path, peer: Peer, constraints: Path) -> list[list[str]]:
    """Return what to run: make the environment, install, list what is in it."""
    pins = ["--constraint", str(constraints), *peer.requirements]
    if uv := shutil.which("uv"):
        at = ["--python", str(python)]
        return [
            [uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--quiet", "--compile-bytecode", *at, *pins],
            [uv, "pip", "freeze", "--quiet", *at],
        ]
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    return [
        [sys.executable, "-m", "venv", str(folder)],
        [*pip, "install", *pins],
        [*pip, "freeze"],
    ]
