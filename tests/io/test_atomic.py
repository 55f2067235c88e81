"""A file appears under its name complete or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from crispyx._io import atomic
from crispyx._io.atomic import atomic_path, write_text
from crispyx._io.disk import reporting_full_disk
from crispyx.errors import DiskSpaceError


@pytest.mark.parametrize("before", [None, "old"])
def test_file_appears_only_when_complete(before: str | None, tmp_path: Path) -> None:
    final = tmp_path / "result.h5ad"
    if before:
        final.write_text(before)
    with atomic_path(final) as work:
        work.write_text("half")
        assert (final.read_text() if before else final.exists()) == (before or False)
        work.write_text("whole")
    assert final.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [final]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, MemoryError])
def test_failure_leaves_what_was_there_before_and_nothing_else(error, tmp_path: Path) -> None:
    final = tmp_path / "result.h5ad"
    final.write_text("old")

    def write() -> None:
        with atomic_path(final) as work:
            work.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert final.read_text() == "old"
    assert list(tmp_path.iterdir()) == [final]


def test_content_is_on_disk_before_the_name_changes(tmp_path: Path, monkeypatch) -> None:
    steps = []
    sync, rename = atomic.os.fsync, atomic.os.replace
    monkeypatch.setattr(atomic.os, "fsync", lambda fd: (steps.append("sync"), sync(fd)))
    monkeypatch.setattr(atomic.os, "replace", lambda a, b: (steps.append("rename"), rename(a, b)))
    write_text(tmp_path / "note.json", "{}")
    # The file, its name, and the folder that holds the name.
    assert steps == ["sync", "rename", "sync"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
@pytest.mark.parametrize("hdf5", [True, False])
def test_full_disk_is_reported_with_the_space_there_is(number, hdf5: bool, tmp_path) -> None:
    text = f"file write failed: errno = {number}, error message = 'no space'"
    error = RuntimeError(text) if hdf5 else OSError(number, "no space")
    with (
        pytest.raises(DiskSpaceError, match=r"result could not be written: .* bytes free"),
        reporting_full_disk(tmp_path, "result"),
    ):
        raise error


def test_other_errors_are_left_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), reporting_full_disk(tmp_path, "result"):
        raise PermissionError(errno.EACCES, "denied")
