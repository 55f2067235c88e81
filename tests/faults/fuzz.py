"""``python -m faults.fuzz N [FIRST]``: read N damaged files, in processes of their own.

Prints how many were read, how many refused by name, and everything that ended otherwise; exits with
1 if anything did.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from faults.damaged import KINDS

TESTS = Path(__file__).parents[1]
# The last two are HDF5's own: whoever opens such a file with it meets the same.
GOOD = ("read", "refused", "HDF5 does not end", "HDF5 crashes")


def hammered(kind: str, first: int, count: int) -> list[str]:
    """Return how damaged files of one kind ended, each read in a process that may die of it."""
    endings: list[str] = []
    while len(endings) < count:
        begin, left = first + len(endings), count - len(endings)
        code, found, said = _child(kind, begin, left)
        endings += [end if end in GOOD else f"{kind} {number}: {end}" for number, end in found]
        if code or len(found) < left:
            number = first + len(endings)
            endings.append(_death(f"{kind} {number}", code, said))
    return endings


def _child(kind: str, first: int, count: int) -> tuple[int, list[list[Any]], str]:
    begin = [sys.executable, "-X", "faulthandler", "-m", "faults.damaged"]
    command = [*begin, kind, str(first), str(count)]
    # The package may stand on the path by a relative name, which holds from the root only.
    paths = [str(TESTS.parent), str(TESTS)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        command, cwd=TESTS, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def _death(case: str, code: int, said: str) -> str:
    """Say what a process died of; where HDF5 turns in a circle or dies there is no way out."""
    frames = [line for line in said.splitlines() if line.lstrip().startswith("File ")]
    if frames and "h5py" in frames[0]:
        if "Timeout" in said:
            return "HDF5 does not end"
        if code == -signal.SIGSEGV:
            return "HDF5 crashes"
    return f"{case}: ended by {code}: {said.strip().splitlines()[-1:]}"


def main() -> int:
    total, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    share = -(-total // len(KINDS))
    outcomes: Counter[str] = Counter()
    for kind in KINDS:
        endings = hammered(kind, first, share)
        outcomes.update(endings)
        print(f"{kind}: {dict(Counter(endings))}", flush=True)
    n_otherwise = sum(n for ending, n in outcomes.items() if ending not in GOOD)
    good = {name: outcomes[name] for name in GOOD}
    print(f"{share * len(KINDS):,} damaged files of {len(KINDS)} kinds: {good}")
    print(f"ended otherwise: {n_otherwise}")
    return 1 if n_otherwise else 0


if __name__ == "__main__":
    sys.exit(main())
