"""``python -m faults.fuzz N [FIRST]``: read N damaged files, in processes of their own.

Prints how many were read, how many refused by name, and everything that ended otherwise; exits with
1 if anything did.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from faults.damaged import KINDS

TESTS = Path(__file__).parents[1]
SECONDS_PER_CASE = 20  # a case takes a tenth of a second; longer is a hang


def hammered(kind: str, first: int, count: int) -> dict[str, Any]:
    """Read damaged files of one kind in another process; say what ended it, if anything did."""
    command = [sys.executable, "-m", "faults.damaged", kind, str(first), str(count)]
    # The package may stand on the path by a relative name, which holds from the root only.
    paths = [str(TESTS.parent), str(TESTS)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    try:
        done = subprocess.run(
            command,
            cwd=TESTS,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60 + SECONDS_PER_CASE * count,
        )
    except subprocess.TimeoutExpired as stop:
        last = (stop.stderr or b"").decode().strip().splitlines()[-1:]
        return {"outcomes": {}, "unexpected": [f"{kind} {last}: does not end"]}
    if done.returncode:
        last = done.stderr.strip().splitlines()[-3:]
        return {"outcomes": {}, "unexpected": [f"{kind} {last}: ended by {done.returncode}"]}
    return json.loads(done.stdout)


def main() -> int:
    total, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    outcomes: Counter[str] = Counter()
    unexpected: list[str] = []
    share = -(-total // len(KINDS))
    for kind in KINDS:
        found = hammered(kind, first, share)
        outcomes.update(found["outcomes"])
        unexpected += found["unexpected"]
        print(f"{kind}: {found['outcomes']}", flush=True)
        for line in found["unexpected"]:
            print(f"  {line}", flush=True)
    print(f"{share * len(KINDS):,} damaged files of {len(KINDS)} kinds: {dict(outcomes)}")
    print(f"ended otherwise: {len(unexpected)}")
    return 1 if unexpected else 0


if __name__ == "__main__":
    sys.exit(main())
