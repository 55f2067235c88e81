"""Stopped at any touch of the disk, a run leaves nothing wrong, and the next gives the same bits.

The touches (renames, fsyncs, writes, removals, files opened for writing) are counted in the run
itself, so that every moment at which the state on disk changes is hit for certain, the checkpoints
among them. HDF5's own writes are reached by a limit of file sizes that kills.
"""

from __future__ import annotations

import random
import signal
from collections import Counter
from typing import Any

import pytest
from faults import operations
from faults.aftermath import Scenes
from faults.stage import Fault, Outcome

# What the normal suite stops in other ways than by a kill.
IN_SHORT = ("wilcoxon", "convert to CSC", "obsm in place")


def at_each(scenes: Scenes, name: str, moments: list[int], action: str) -> list[Outcome]:
    """Disturb a run at each of the moments; check what is left, and the next run."""
    outcomes = []
    for moment in moments:
        scene = scenes(name)
        outcome = scene.stage.perform(name, scene.output, Fault(moment, action))
        scene.assert_nothing_wrong_is_left()
        scene.assert_next_run_completes(resume=moment % 2 == 0)
        outcomes.append(outcome)
    return outcomes


def check_kills(scenes: Scenes, name: str, moments: list[int], tally: Counter[str]) -> None:
    outcomes = at_each(scenes, name, moments, "tear")
    assert {outcome.code for outcome in outcomes} == {-signal.SIGKILL}
    tally["SIGKILL at a touch of the disk"] += len(moments)


def check_stops(scenes: Scenes, name: str, moments: list[int], tally: Counter[str]) -> None:
    for outcome in at_each(scenes, name, moments, "interrupt"):
        assert outcome.code == 1
        assert outcome.error.startswith("KeyboardInterrupt"), outcome
        tally["SIGINT"] += 1
    for outcome in at_each(scenes, name, moments, "terminate"):
        # The exit code is that of the signal, with or without something to put in order first.
        assert outcome.code == -signal.SIGTERM, outcome
        tally["SIGTERM"] += 1


def check_full_disk(scenes: Scenes, name: str, moments: list[int], tally: Counter[str]) -> None:
    for outcome in at_each(scenes, name, moments, "full"):
        if outcome.code:
            assert "OSError" in outcome.bases, outcome
            assert "bytes free" in outcome.error, outcome
        tally["disk full at a touch of it (ENOSPC)"] += 1


CHECKS = {"kills": check_kills, "stops": check_stops, "full disks": check_full_disk}


@pytest.mark.parametrize(
    ("name", "check"),
    [
        *((name, "kills") for name in operations.OPERATIONS),
        *((name, check) for name in IN_SHORT for check in ("stops", "full disks")),
    ],
)
def test_run_disturbed_at_a_touch_of_the_disk_loses_nothing(
    name: str, check: str, scenes: Scenes, tally: Counter[str]
) -> None:
    total = scenes(name).total
    CHECKS[check](scenes, name, [random.Random(name + check).randrange(total)], tally)


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", operations.OPERATIONS)
def test_run_disturbed_at_every_touch_of_the_disk_loses_nothing(
    name: str, check: str, scenes: Scenes, tally: Counter[str], cases: Any
) -> None:
    CHECKS[check](scenes, name, cases(range(scenes(name).total)), tally)
