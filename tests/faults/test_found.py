"""What fuzzing has found once, and bytes near what is sound, for every reader of bytes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from faults.readers import READERS, seeds, try_reader

FOUND = sorted(path for path in (Path(__file__).parent / "found").rglob("*") if path.is_file())


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_found_once_is_read_or_refused(
    path: Path, tmp_path: Path, tally: Counter[str]
) -> None:
    try_reader(path.parent.name, path.read_bytes(), tmp_path)
    tally["inputs that fuzzing found"] += 1


@pytest.mark.parametrize("name", READERS)
def test_changed_bytes_are_read_or_refused(name: str, tmp_path: Path, tally: Counter[str]) -> None:
    for k in range(15):
        (tmp_path / str(k)).mkdir()
    sound = seeds(name, tmp_path / "0")
    endings = {try_reader(name, content, tmp_path / "1") for content in sound}
    assert endings == {"read"}
    rng = np.random.default_rng(0)
    for k in range(2, 15):
        content = bytearray(sound[k % len(sound)])
        for place in rng.integers(len(content), size=4):
            content[place] = rng.integers(256)
        try_reader(name, bytes(content), tmp_path / str(k))
        tally["inputs of changed bytes"] += 1
