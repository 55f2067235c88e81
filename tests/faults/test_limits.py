"""Disks that fill, folders that cannot be written to, memory that is short, inputs that change."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faults import operations
from faults.aftermath import Scene, Scenes
from faults.stage import Fault

IN_SHORT = ("wilcoxon", "sort", "pca in place")
MB = 1 << 20


def size_of_output(scene: Scene) -> int:
    """Run undisturbed; return the size of the largest file, and leave the folder as before."""
    before = scene.output.read_bytes() if scene.operation.in_place else None
    assert scene.stage.perform(scene.name, scene.output).code == 0
    size = max(path.stat().st_size for path in scene.output.parent.iterdir())
    for path in scene.output.parent.iterdir():
        path.unlink()
    if before is not None:
        scene.output.write_bytes(before)
    return size


def limit_sizes(scenes: Scenes, name: str, parts: list[float], tally: Counter[str]) -> None:
    """Let files grow to a part of what they need: as a full disk, and as a kill at that byte."""
    size = size_of_output(scenes(name))
    for dies in (False, True):
        for part in parts:
            scene = scenes(name)
            fault = Fault(file_bytes=int(part * size), dies_of_size=dies)
            outcome = scene.stage.perform(name, scene.output, fault)
            if dies:
                assert outcome.code in (0, -signal.SIGXFSZ), outcome
                tally["SIGKILL at a byte of a file (limit of sizes)"] += 1
            else:
                assert outcome.code in (0, 1), outcome
                if outcome.code:
                    assert "OSError" in outcome.bases, outcome
                    assert "bytes free" in outcome.error, outcome
                    assert "a limit of file sizes may be lower" in outcome.error
                tally["disk full (limit of file sizes)"] += 1
            scene.assert_nothing_wrong_is_left()
            scene.assert_next_run_completes(resume=True)


@pytest.mark.parametrize("name", IN_SHORT)
def test_file_that_may_not_grow_loses_nothing(
    name: str, scenes: Scenes, tally: Counter[str]
) -> None:
    limit_sizes(scenes, name, [0.6], tally)


@pytest.mark.slow
@pytest.mark.parametrize("name", operations.OPERATIONS)
def test_file_that_may_not_grow_to_any_size_loses_nothing(
    name: str, scenes: Scenes, tally: Counter[str], cases: Any
) -> None:
    parts = [0.01, *(k / 12 for k in range(1, 12)), 0.99]
    limit_sizes(scenes, name, cases(parts, 0.5), tally)


@pytest.fixture
def small_disk(place: Path) -> Iterator[Callable[..., Path]]:
    """Return how to mount a disk of some bytes."""
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        folder = place / f"disk {len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "crispyx", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("only an administrator may mount a small disk; limits of file sizes stand")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


@pytest.mark.slow
@pytest.mark.parametrize("name", operations.OPERATIONS)
def test_disk_that_is_full_loses_nothing_and_takes_the_result_when_there_is_room(
    name: str, scenes: Scenes, small_disk: Callable[..., Path], tally: Counter[str]
) -> None:
    operation = operations.OPERATIONS[name]
    size = size_of_output(scenes(name))
    for part in (0.3, 0.6, 0.9):
        scene = scenes(name)
        room = int(part * size)
        if operation.in_place or operation.beside:
            room += scene.stage.inputs.joinpath(operation.source).stat().st_size
        disk = small_disk(f"size={-(-room // 4096) * 4096}")
        output = disk / scene.output.name
        if operation.in_place:
            shutil.copy2(scene.output, output)
        elsewhere = Scene(scene.stage, name, output, scene.expected, scene.total, scene.inputs)
        outcome = scene.stage.perform(name, output)
        if outcome.code:
            assert "OSError" in outcome.bases, outcome
            assert "free" in outcome.error, outcome
            assert str(disk) in outcome.error
        elsewhere.assert_nothing_wrong_is_left()
        tally["disk full (a small disk)"] += 1
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        elsewhere.assert_next_run_completes(resume=True)


@pytest.mark.parametrize("name", ["wilcoxon", "sort", "aggregate", "guide calls"])
def test_folder_without_write_permission_is_refused_before_work_starts(
    name: str, scenes: Scenes, tally: Counter[str]
) -> None:
    scene = scenes(name)
    os.chmod(scene.output.parent, 0o555)
    try:
        outcome = scene.stage.perform(name, scene.output, Fault(as_nobody=True))
    finally:
        os.chmod(scene.output.parent, 0o755)
    assert "PermissionError" in outcome.bases, outcome
    assert str(scene.output.parent) in outcome.error
    assert outcome.moments == 0
    assert list(scene.output.parent.iterdir()) == []
    tally["no permission"] += 1


def test_file_without_write_permission_is_not_changed_in_place(
    scenes: Scenes, tally: Counter[str]
) -> None:
    scene = scenes("obsm in place")
    os.chmod(scene.output, 0o444)
    outcome = scene.stage.perform("obsm in place", scene.output, Fault(as_nobody=True))
    assert "PermissionError" in outcome.bases, outcome
    assert "copy" in outcome.error
    scene.assert_nothing_wrong_is_left()
    tally["no permission"] += 1


def short_memory(scenes: Scenes, name: str, limits: list[int], tally: Counter[str]) -> None:
    for limit in limits:
        scene = scenes(name)
        outcome = scene.stage.perform(name, scene.output, Fault(memory_bytes=limit))
        # An allocation that fails is an error, never a wrong number or a crash.
        assert outcome.code in (0, 1), outcome
        scene.assert_nothing_wrong_is_left()
        scene.assert_next_run_completes(resume=True)
        tally["memory short (limit of the address space)"] += 1


@pytest.mark.parametrize("name", IN_SHORT)
def test_short_memory_loses_nothing(name: str, scenes: Scenes, tally: Counter[str]) -> None:
    short_memory(scenes, name, [4 * MB], tally)


@pytest.mark.slow
@pytest.mark.parametrize("name", operations.OPERATIONS)
def test_short_memory_of_any_size_loses_nothing(
    name: str, scenes: Scenes, tally: Counter[str], cases: Any
) -> None:
    limits = [k * MB for k in (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)]
    short_memory(scenes, name, cases(limits, 0.5), tally)


RESUMABLE = [name for name, operation in operations.OPERATIONS.items() if operation.resumes]


@pytest.mark.slow
@pytest.mark.parametrize("change", ["newer", "cut short"])
@pytest.mark.parametrize("name", RESUMABLE)
def test_run_whose_input_changed_is_not_resumed(
    name: str, change: str, scenes: Scenes, place: Path, tally: Counter[str]
) -> None:
    refuse_resume(name, change, scenes, place, tally)


def test_wilcoxon_whose_input_changed_is_not_resumed(
    scenes: Scenes, place: Path, tally: Counter[str]
) -> None:
    refuse_resume("wilcoxon", "newer", scenes, place, tally)


def refuse_resume(name: str, change: str, scenes: Scenes, place: Path, tally: Counter[str]) -> None:
    scene = scenes(name)
    stopped = next(
        k
        for k in range(scene.total - 6, 0, -1)
        if scene.stage.perform(name, scene.output, Fault(k)).code
        and scene.output.with_name(f"{scene.output.name}.progress.json").exists()
    )
    source = scene.stage.inputs / scene.operation.source
    content, times = source.read_bytes(), source.stat()
    try:
        if change == "newer":
            os.utime(source, ns=(1, 1))
        else:
            os.truncate(source, len(content) // 2)
        outcome = scene.stage.perform(name, scene.output, resume=True)
    finally:
        source.write_bytes(content)
        os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert outcome.code == 1, (stopped, outcome)
    assert str(source) in outcome.error or "progress.json" in outcome.error
    if change == "newer":
        assert outcome.bases[0] == "CheckpointError"
        assert "mtime_ns" in outcome.error
        assert "resume=False to start afresh" in outcome.error
    scene.assert_nothing_wrong_is_left()
    scene.assert_next_run_completes(resume=True)
    tally["input changed between kill and resume"] += 1


@pytest.mark.parametrize("part", [0.2, 0.6])
def test_input_cut_short_while_it_is_read_gives_no_result(
    part: float, scenes: Scenes, tally: Counter[str]
) -> None:
    """The matrix of this file is mapped: without a guard the process would end by SIGBUS."""
    scene = scenes("wilcoxon")
    source = scene.stage.inputs / "csr.h5ad"
    content, times = source.read_bytes(), source.stat()
    moment = scene.total // 3
    try:
        outcome = scene.stage.perform(
            "wilcoxon",
            scene.output,
            Fault(during=(moment, str(source), int(part * len(content)))),
        )
    finally:
        source.write_bytes(content)
        os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert outcome.code == 1, outcome
    assert outcome.bases[0] == "InputError", outcome
    assert str(source) in outcome.error
    scene.assert_nothing_wrong_is_left()
    scene.assert_next_run_completes(resume=False)
    tally["input cut short while it was read"] += 1


TOUCH_MAPPED = """
import os, sys
import numpy as np
from types import SimpleNamespace
from crispyx._io.rows_in_place import MappedArray
from crispyx._kernels import bus_guard

path = sys.argv[1]
array = SimpleNamespace(dtype=np.dtype("f4"), shape=(50_000,))
mapped = MappedArray.of(path, array, 0)
assert mapped[49_999] == 1 and not bus_guard.has_faulted(mapped.place)
os.truncate(path, 4096)
assert mapped[0] == 1 and mapped[49_999] == 0 and mapped.sum() == 1024
assert bus_guard.has_faulted(mapped.place)
place = mapped.place
del mapped
if len(sys.argv) > 2:  # without the guard, the signal is the system's again
    other = np.memmap(path, "f4", "r")
    os.truncate(path, 0)
    other[0]
print("alive")
"""


def test_bytes_that_a_mapped_file_lost_read_as_zeros_and_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "values"
    for more, code in (((), 0), (("bare",), -signal.SIGBUS)):
        path.write_bytes(b"\0\0\x80?" * 50_000)
        command = [sys.executable, "-c", TOUCH_MAPPED, str(path), *more]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert done.stdout == ("alive\n" if not more else "")
