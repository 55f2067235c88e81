"""A damaged file of any kind is refused by name or read: never a crash, never a foreign error."""

from __future__ import annotations

from collections import Counter

import pytest
from faults.damaged import KINDS
from faults.fuzz import GOOD, hammered


def hammer(kind: str, first: int, count: int, tally: Counter[str]) -> None:
    endings = hammered(kind, first, count)
    assert [end for end in endings if end not in GOOD] == []
    assert len(endings) == count
    assert endings.count("refused") > count // 5  # the damages are felt
    tally["damaged files read"] += count


@pytest.mark.parametrize("kind", ["h5ad csr", "zarr 3 csc", "10x mtx gzip", "calls parquet"])
def test_damaged_file_is_refused_by_name_or_read(kind: str, tally: Counter[str]) -> None:
    hammer(kind, 0, 60, tally)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_damaged_files_are_refused_by_name_or_read(kind: str, tally: Counter[str]) -> None:
    hammer(kind, 1000, 2000, tally)
