"""Who may import what: heavy packages late, HDF5, threads and the reference in one place each.

The directions between the rooms themselves are import-linter's (``make lint``).
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from layouts import COLUMN, log_screen, write_h5ad

import crispyx

PACKAGE = Path(crispyx.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
KERNELS = sorted(PACKAGE.glob("_kernels/*.pyx"))


def modules_after(program: str, *arguments: object) -> set[str]:
    """Run a program in a fresh interpreter; return the modules it ended with."""
    program += "\nimport sys; print('|'.join(sys.modules))"
    command = [sys.executable, "-W", "ignore", "-c", program, *map(str, arguments)]
    return set(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("|")
    )


def test_importing_crispyx_imports_nothing_heavy() -> None:
    found = modules_after("import crispyx")
    heavy = {"pandas", "anndata", "scipy.stats", "scanpy", "matplotlib", "tqdm", "scipy.sparse"}
    assert found & heavy == set()


@pytest.mark.parametrize("name", ["wilcoxon_test", "t_test"])
def test_a_test_on_a_file_imports_neither_anndata_nor_plots(name: str, tmp_path: Path) -> None:
    path = write_h5ad(tmp_path / "screen.h5ad", *log_screen())
    program = f"import sys, crispyx as cx; cx.{name}(sys.argv[1], groupby={COLUMN!r})['MYC'].pvalue"
    found = modules_after(program, path)
    assert found & {"anndata", "scanpy", "matplotlib", "tqdm", "scipy.stats"} == set()


def imported(path: Path) -> Iterator[str]:
    """Yield the dotted names a module imports, anywhere in it, but for the sake of annotations."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guards = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    skipped = {id(child) for guard in guards for child in ast.walk(guard)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def importers(*packages: str) -> set[str]:
    """Return the rooms, or files of the top level, that import one of the packages."""
    found = set()
    for path in MODULES:
        if {name.split(".")[0] for name in imported(path)} & set(packages):
            found.add(path.relative_to(PACKAGE).parts[0])
    return found


def test_hdf5_is_opened_in_one_room() -> None:
    assert importers("h5py", "hdf5plugin", "zarr", "tables") == {"_io"}


def test_reference_is_reached_at_one_seam() -> None:
    assert importers("reference") == {"_stats"}


def test_reference_knows_nothing_of_crispyx() -> None:
    for path in (PACKAGE.parent / "reference").glob("*.py"):
        outside = {name.split(".")[0] for name in imported(path)} - set(sys.stdlib_module_names)
        assert outside <= {"numpy", "scipy", "reference"}, path.name


def test_threads_and_processes_are_started_in_one_room() -> None:
    assert importers("threading", "concurrent", "multiprocessing", "joblib", "_thread") == {"_run"}


def test_no_module_names_its_own_number_of_cores() -> None:
    counting = re.compile(r"cpu_count|sched_getaffinity|omp_get|omp_set")
    found = {p.relative_to(PACKAGE).as_posix() for p in MODULES if counting.search(p.read_text())}
    assert found == {"_run/threads.py"}


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.stem)
def test_parallel_loops_take_their_threads_from_the_caller(path: Path) -> None:
    loops = re.findall(r"\bprange\(([^\n]*)\)", path.read_text(encoding="utf-8"))
    assert all("num_threads=n_threads" in loop for loop in loops)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_nothing_in_a_file_is_ever_run(path: Path) -> None:
    forbidden = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
    assert not forbidden & {name.split(".")[0] for name in imported(path)}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            assert not (isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec"))
            assert all(keyword.arg != "allow_pickle" for keyword in node.keywords)
