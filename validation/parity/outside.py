"""Ask another tool, in its own virtual environment; answers are kept."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from validation.benchmarks.runs import THREAD_VARIABLES
from validation.cache import digest, new_folder
from validation.parity import answers
from validation.peers.catalog import Peer, load_peers
from validation.peers.environments import Environment, environment

ROOT = Path(__file__).parents[2]
# The source tree comes last: what the peer installed is what it uses.
BOOT = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from validation.parity.answers import main; main(*sys.argv[2:])"
)
TIMEOUT = 900.0
LOG_LINES = 2
# One thread each: suites run side by side, and an answer must not depend on the number of cores.
THREADS = dict.fromkeys(THREAD_VARIABLES, "1")


class PeerError(Exception):
    """Raised when a peer is not installed, or has no answer."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Outside:
    """The other tools.

    Attributes
    ----------
    cache : pathlib.Path
        Environments and answers.
    versions : dict of str to str
        Versions of the tools that were asked.
    computed, kept : int
        Answers that were asked for now, and that had been kept.
    """

    cache: Path
    versions: dict[str, str] = field(default_factory=dict)
    computed: int = 0
    kept: int = 0
    _made: dict[str, Environment] = field(default_factory=dict)

    def ask(
        self,
        peer: str,
        question: str,
        arrays: Mapping[str, Any] | None = None,
        files: Mapping[str, Path] | None = None,
        **parameters: Any,
    ) -> dict[str, np.ndarray]:
        """Return a tool's answer, kept or new.

        Parameters
        ----------
        peer, question : str
            Tool, and function of its module in ``validation.parity.answers``.
        arrays, files, parameters
            What the function is given; files by path.

        Raises
        ------
        PeerError
            The tool is not installed, or fails, or takes too long.
        """
        arrays, files = dict(arrays or {}), dict(files or {})
        of_peer = load_peers()[peer]
        folder = self.cache / "answers" / f"{peer}-{question}-{_key(of_peer, locals())}"
        if (folder / "facts.json").is_file():
            self.kept += 1
        else:
            python = self._python(of_peer)
            with new_folder(folder) as work:
                np.savez(work / "arrays.npz", **arrays)
                request = {"files": {k: str(v) for k, v in files.items()}, "given": parameters}
                (work / "request.json").write_text(json.dumps(request), encoding="utf-8")
                _run(python, peer, question, work)
                (work / "arrays.npz").unlink()
            self.computed += 1
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        self.versions[peer] = facts["version"]
        with np.load(folder / "answer.npz") as found:
            return dict(found)

    def _python(self, peer: Peer) -> Path:
        if peer.name not in self._made:
            self._made[peer.name] = environment(peer, self.cache)
        made = self._made[peer.name]
        if made.python is None:
            raise PeerError("not installed", made.error.strip().rpartition("\n")[2])
        return made.python


def _run(python: Path, peer: str, question: str, work: Path) -> None:
    command = [str(python), "-E", "-P", "-s", "-W", "ignore", "-c", BOOT, str(ROOT)]
    try:
        done = subprocess.run(
            [*command, peer, question, str(work)],
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
            env=os.environ | THREADS,
        )
    except subprocess.TimeoutExpired:
        raise PeerError("failed", f"{peer} took more than {TIMEOUT:,.0f} s") from None
    if done.returncode:
        last = " | ".join(done.stderr.strip().splitlines()[-LOG_LINES:])
        raise PeerError("failed", f"{peer}: {last}")


def _key(peer: Peer, asked: Mapping[str, Any]) -> str:
    """Return a text that changes with all that can change an answer."""
    module = Path(answers.__file__).with_name(f"{peer.name}.py")
    content = hashlib.sha256(module.read_bytes())
    for name, array in sorted(asked["arrays"].items()):
        values = np.ascontiguousarray(array)
        content.update(f"{name} {values.dtype} {values.shape}".encode())
        content.update(values.tobytes())
    for name, path in sorted(asked["files"].items()):
        content.update(name.encode() + Path(path).read_bytes())
    return digest(peer.pins, asked["question"], asked["parameters"], content.hexdigest())
