"""Does a wrong kernel show: ``python -m validation mutants``.

Each wrong kernel of ``mutants.toml`` is built in a copy of the source tree. There its property
tests have to fail, and ``python -m validation run`` has to fail in a row that names the method.
The same comparisons, and the same tests, pass in the tree itself.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from validation.benchmarks.tables import markdown_table
from validation.cache import cache_folder

ROOT = Path(__file__).parents[1]
CATALOG = Path(__file__).with_name("mutants.toml")
# All that building, testing and comparing need; the folder `build` keeps what is compiled.
COPIED = ("crispyx", "reference", "tests", "validation", "build")
FILES = ("setup.py", "pyproject.toml", "README.md", "LICENSE")
# Small, and prepared without a screen to download.
DATA = "simulated"


@dataclass(frozen=True)
class Mutant:
    """A change that makes a kernel wrong.

    Attributes
    ----------
    file, old, new : str
        What becomes of a file.
    tests : str
        Property tests of the method.
    peer, method : str
        The comparison that has to fail, and the method it has to name.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str
    peer: str
    method: str


def load_mutants(path: Path = CATALOG) -> list[Mutant]:
    """Return the mutants of a catalog; the text each replaces is there.

    Raises
    ------
    ValueError
        A file does not have the text.
    """
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    mutants = [Mutant(name, **entry) for name, entry in table.items()]
    for mutant in mutants:
        if mutant.old not in (ROOT / mutant.file).read_text(encoding="utf-8"):
            raise ValueError(f"{mutant.file} has no {mutant.old!r}; change mutants.toml")
    return mutants


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add ``mutants`` to the commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "mutants", help="show that wrong kernels are caught (minutes)"
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="all by default")
    parser.set_defaults(run=show)
    return parser


def show(options: argparse.Namespace) -> int:
    """Build and try every mutant; the exit code is the number that nothing caught."""
    cache = cache_folder(options.cache)
    rows, missed = [], 0
    for mutant in load_mutants():
        if options.names and mutant.name not in options.names:
            continue
        with TemporaryDirectory(prefix="mutant-") as folder:
            tree = Path(folder) / "tree"
            _copy(tree)
            path = tree / mutant.file
            source = path.read_text(encoding="utf-8").replace(mutant.old, mutant.new)
            path.write_text(source, encoding="utf-8")
            _run(tree, sys.executable, "setup.py", "build_ext", "--inplace", check=True)
            tests = _run(
                tree,
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-x",
                "-p",
                "no:cacheprovider",
                mutant.tests,
            )
            command = ["run", mutant.peer, "--data", DATA, "--cache", str(cache)]
            command += ["--methods", mutant.method]
            found = _run(tree, sys.executable, "-m", "validation", *command)
        named = [line for line in found.stdout.splitlines() if line.startswith("bug ")]
        is_named = any(f": {mutant.method}," in line for line in named)
        caught = tests.returncode == 1 and found.returncode > 0 and is_named
        missed += not caught
        test_words = "fail" if tests.returncode == 1 else f"exit code {tests.returncode}"
        row_words = "; ".join(_row_name(line) for line in named) or "no row fails"
        rows.append([mutant.name, mutant.method, test_words, str(len(named)), row_words])
        print(" | ".join(rows[-1]), flush=True)
    header = ("mutant", "method", "property tests", "rows that fail", "rows, difference")
    print(markdown_table(header, rows))
    return missed


def _row_name(line: str) -> str:
    """Return tool, method, quantity and difference of a failing line."""
    return line.removeprefix("bug").strip().partition(";")[0]


def _copy(tree: Path) -> None:
    tree.mkdir()
    unwanted = shutil.ignore_patterns("__pycache__", "lib.*", "bdist.*")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=unwanted)
    for name in FILES:
        shutil.copy2(ROOT / name, tree / name)


def _run(tree: Path, *command: str, check: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a command in a copy, which is imported in place of an installed package."""
    environment = os.environ | {"PYTHONPATH": str(tree)}
    return subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, check=check
    )
