"""The stage, the screens of every operation, and the tally of what was tried."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import operations
from faults.aftermath import Scene, Scenes, prepared
from faults.contents import digests, everything_in
from faults.stage import Stage

TALLY: Counter[str] = Counter()
Cases = Callable[..., list[Any]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tally", help="write the number of faults tried to this JSON file")
    parser.addoption(
        "--cases", type=int, help="most faults of a kind for each operation; without it, all"
    )


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: Any) -> None:
    """Add what a process of pytest-xdist has tried."""
    TALLY.update(getattr(node, "workeroutput", {}).get("tally", {}))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["tally"] = dict(TALLY)
        return
    target = session.config.getoption("--tally", default=None)
    if target:
        record = {"losses": session.testsfailed, "tried": dict(sorted(TALLY.items()))}
        Path(target).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def tally() -> Counter[str]:
    """What was tried, by kind."""
    return TALLY


@pytest.fixture(scope="session")
def cases(request: pytest.FixtureRequest) -> Cases:
    """Return how to choose among the faults of a kind: all, or as many as asked for, evenly."""
    most = request.config.getoption("--cases", default=None)

    def choose(faults: Sequence[Any], share: float = 1) -> list[Any]:
        if most is None or len(faults) <= most * share:
            return list(faults)
        places = np.linspace(0, len(faults) - 1, round(most * share)).round().astype(int)
        return [faults[place] for place in np.unique(places)]

    return choose


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """Return a folder that every user may enter; pytest's own are their owner's only."""
    folder = Path(tempfile.mkdtemp(prefix="crispyx_faults_"))
    os.chmod(folder, 0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def stage(place: Path) -> Iterator[Stage]:
    inputs = place / "inputs"
    inputs.mkdir()
    operations.write_inputs(inputs)
    stage = Stage(inputs)
    yield stage
    stage.close()


@pytest.fixture(scope="session")
def known() -> dict[str, tuple[dict[str, bytes], int]]:
    """What the operations give undisturbed, and how often they touch the disk; filled as needed."""
    return {}


@pytest.fixture
def scenes(
    stage: Stage, known: dict[str, tuple[dict[str, bytes], int]], place: Path
) -> Iterator[Scenes]:
    """Return how to set up an operation in a folder of its own."""
    made: list[Path] = []
    inputs = digests(stage.inputs)

    def make(name: str) -> Scene:
        if name not in known:
            output = prepared(stage, name, place / f"undisturbed {name}")
            outcome = stage.perform(name, output)
            assert outcome.code == 0, outcome.error
            known[name] = everything_in(output), outcome.moments
        made.append(place / f"run {len(made)}")
        return Scene(stage, name, prepared(stage, name, made[-1]), *known[name], inputs)

    yield make
    for folder in made:
        shutil.rmtree(folder)
