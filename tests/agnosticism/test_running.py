"""Block sizes, threads, memory and scratch files change speed, never a bit of the result."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import COLUMN, assert_same_bits, log_screen, tables_of, write_h5ad

import crispyx as cx
from crispyx._io import genes, source
from crispyx._jobs import plan
from crispyx.de import t_test, wilcoxon_test
from crispyx.errors import MemoryBudgetError

LAYOUTS = ["csr", "csc", "dense"]

pytestmark = pytest.mark.filterwarnings(
    "ignore:.* cells have no label", "ignore:in .* tests one arm"
)


def result_tables(method, path: Path, **options: Any) -> dict[str, np.ndarray]:
    output = path.with_name("result.h5ad")
    method(path, perturbation_column=COLUMN, output_path=output, force=True, **options)
    return tables_of(output)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("screens")
    for layout in LAYOUTS:
        write_h5ad(folder / f"{layout}.h5ad", *log_screen(), layout=layout)
    return folder


@pytest.fixture(scope="module", params=LAYOUTS)
def screen(request, folder) -> Path:
    return folder / f"{request.param}.h5ad"


@pytest.fixture(scope="module")
def expected(folder) -> dict[Any, dict[str, np.ndarray]]:
    return {
        method: result_tables(method, folder / "csr.h5ad") for method in (wilcoxon_test, t_test)
    }


@pytest.mark.parametrize("chunk_size", [1, 2, 5, 12, 13, 1000])
def test_genes_of_a_block_change_no_bit(screen, chunk_size: int, expected) -> None:
    found = result_tables(wilcoxon_test, screen, chunk_size=chunk_size)
    assert_same_bits(found, expected[wilcoxon_test])


@pytest.mark.parametrize("cell_chunk_size", [1, 2, 7, 60, 61, 10**6])
def test_cells_read_at_a_time_change_no_bit(screen, cell_chunk_size: int, expected) -> None:
    found = result_tables(t_test, screen, cell_chunk_size=cell_chunk_size)
    assert_same_bits(found, expected[t_test])


@pytest.mark.parametrize("max_values", [1, 3, 100])
@pytest.mark.parametrize("method", [wilcoxon_test, t_test])
def test_values_read_at_a_time_change_no_bit(
    method, screen, max_values: int, expected, monkeypatch
) -> None:
    # One value at a time leaves every cell, or gene, to a block of its own.
    defaults = source.MatrixSource.native_blocks.__kwdefaults__
    monkeypatch.setitem(defaults, "max_values", max_values)
    assert_same_bits(result_tables(method, screen), expected[method])


@pytest.mark.parametrize("n_jobs", [1, 2, 5, -1])
@pytest.mark.parametrize("method", [wilcoxon_test, t_test])
def test_number_of_threads_changes_no_bit(method, screen, n_jobs: int, expected) -> None:
    assert_same_bits(result_tables(method, screen, n_jobs=n_jobs), expected[method])


@pytest.mark.parametrize("method", [wilcoxon_test, t_test])
def test_smallest_budget_and_its_scratch_file_change_no_bit(
    method, screen, tmp_path, expected, monkeypatch
) -> None:
    floors: list[int] = []
    folders: list[Path | None] = []

    class Spy(genes.SegmentStore):
        def __init__(self, n_minor: int, scratch_dir: Path | None = None) -> None:
            folders.append(scratch_dir)
            super().__init__(n_minor, scratch_dir)

    monkeypatch.setattr(genes, "SegmentStore", Spy)
    monkeypatch.setattr(plan, "require", lambda needed, *_: floors.append(needed))
    monkeypatch.setattr(cx.settings, "scratch_dir", tmp_path)
    result_tables(method, screen)
    monkeypatch.setattr(plan, "working_memory", lambda _: floors[0])
    assert_same_bits(result_tables(method, screen), expected[method])
    # CSC is read as it is, CSR looked up in place while it fits; else they are turned around.
    expected_folders = {"csc": [], "csr": [tmp_path]}
    assert folders == expected_folders.get(screen.stem, [None, tmp_path])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", [wilcoxon_test, t_test])
def test_memory_below_the_floor_is_refused_and_the_floor_named_works(
    method, screen, expected
) -> None:
    with pytest.raises(MemoryBudgetError, match="3 perturbations needs at least") as error:
        result_tables(method, screen, memory_limit_gb=0.001)
    floor = float(re.search(r"memory_limit_gb=([0-9.]+)", str(error.value))[1])
    found = result_tables(method, screen, memory_limit_gb=floor)
    assert_same_bits(found, expected[method])


def test_engines_stand_in_settings_and_are_put_back() -> None:
    with cx.use_engine("reference"), pytest.raises(RuntimeError, match="stop"):
        raise RuntimeError("stop")
    assert cx.settings.engine == "compiled"


@pytest.mark.parametrize("given", [None, "7"])
def test_settings_of_the_openmp_runtime_stay_as_the_user_left_them(given: str | None) -> None:
    setting = "GOMP_SPINCOUNT"
    environment = {name: value for name, value in os.environ.items() if name != setting}
    if given is not None:
        environment[setting] = given
    program = f"import os, crispyx._kernels; print(os.environ.get({setting!r}))"
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(given)
