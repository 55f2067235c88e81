"""A damaged file of any kind is refused by name or read: never a crash, never a foreign error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from faults.damaged import KINDS

TESTS = Path(__file__).parents[1]


def hammer(kind: str, first: int, count: int, tally: Counter[str]) -> None:
    command = [sys.executable, "-m", "faults.damaged", kind, str(first), str(count)]
    # The package may stand on the path by a relative name, which holds from the root only.
    paths = [str(TESTS.parent), str(TESTS)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        command, cwd=TESTS, env=environment, capture_output=True, text=True, check=False
    )
    last = done.stderr.strip().splitlines()[-1:]
    assert done.returncode == 0, f"ended by {done.returncode} at {last}"
    found = json.loads(done.stdout)
    assert found["unexpected"] == []
    assert sum(found["outcomes"].values()) == count
    assert found["outcomes"]["refused"] > count // 5  # the damages are felt
    tally["damaged files read"] += count


@pytest.mark.parametrize("kind", ["h5ad csr", "10x mtx gzip", "calls parquet"])
def test_damaged_file_is_refused_by_name_or_read(kind: str, tally: Counter[str]) -> None:
    hammer(kind, 0, 60, tally)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_damaged_files_are_refused_by_name_or_read(kind: str, tally: Counter[str]) -> None:
    hammer(kind, 1000, 2000, tally)
