"""A damaged file of any kind is refused by name or read: never a crash, never a foreign error."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from faults import damaged
from faults.damaged import KINDS
from faults.fuzz import GOOD, hammered

import crispyx as cx
from crispyx.errors import InputError


def hammer(kind: str, first: int, count: int, tally: Counter[str]) -> None:
    endings = hammered(kind, first, count)
    assert [end for end in endings if end not in GOOD] == []
    assert len(endings) == count
    assert endings.count("refused") > count // 5  # the damages are felt
    tally["damaged files read"] += count


@pytest.mark.parametrize("kind", ["h5ad csr", "zarr 3 csc", "10x mtx gzip", "calls parquet"])
def test_damaged_file_is_refused_by_name_or_read(kind: str, tally: Counter[str]) -> None:
    hammer(kind, 0, 30, tally)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_damaged_files_are_refused_by_name_or_read(
    kind: str, tally: Counter[str], cases: Any
) -> None:
    hammer(kind, 1000, len(cases(range(2000), 15)), tally)


def copies(path: Path, output: Path) -> dict[str, Callable[[], Any]]:
    n_cells, n_genes = damaged.COUNTS.shape
    masks = {"cell_mask": np.arange(n_cells) > 3, "gene_mask": np.arange(n_genes) > 1}
    return {
        "sorted": lambda: cx.data.sort_by_perturbation(
            path, control_label="control", output_path=output
        ),
        "cut": lambda: cx.data.write_filtered_subset(path, **masks, output_path=output),
    }


def out_of_range(file: h5py.File) -> None:
    file["obsp/distances/indices"][3] = 10**6


def pointers_that_fall(file: h5py.File) -> None:
    file["obsp/distances/indptr"][3] = 10**6


def too_short(file: h5py.File) -> None:
    del file["obsp/distances"]
    file["obsp/distances"] = np.zeros((3, 3))


def no_group(file: h5py.File) -> None:
    del file["obsp"]
    file["obsp"] = np.zeros(3)


@pytest.mark.filterwarnings("ignore:.* cells have no label")
@pytest.mark.parametrize("how", ["sorted", "cut"])
@pytest.mark.parametrize("harm", [out_of_range, pointers_that_fall, too_short, no_group])
def test_slot_that_is_followed_to_other_cells_is_checked_first(
    harm: Callable[[h5py.File], None], how: str, tmp_path: Path
) -> None:
    path = damaged.KINDS["h5ad with every slot"](tmp_path)
    with h5py.File(path, "r+") as file:
        harm(file)
    with pytest.raises(InputError, match=r"screen\.h5ad.*obsp"):
        copies(path, tmp_path / "o.h5ad")[how]()
    assert [one.name for one in tmp_path.iterdir()] == ["screen.h5ad"]


@pytest.mark.parametrize("kind", ["10x mtx", "10x mtx gzip"])
def test_zero_bytes_of_a_half_copied_matrix_are_refused(kind: str, tmp_path: Path) -> None:
    path = damaged.KINDS[kind](tmp_path)
    matrix = next(path.glob("matrix.mtx*"))
    opened = gzip.open if matrix.suffix == ".gz" else open
    with opened(matrix, "rb") as file:
        content = file.read()
    with opened(matrix, "wb") as file:
        file.write(content[:900] + bytes(40) + content[940:])
    with pytest.raises(InputError, match=r"matrix\.mtx.*zero bytes"):
        cx.pp.read_10x(path)
