"""Does a wrong kernel show: ``python -m validation mutants``.

Each wrong kernel of ``mutants.toml`` is built in a copy of the source tree. There its property
tests have to fail, and ``python -m validation run`` has to fail in a row that names the method.
Before anything is changed, the same tests and the same comparison have to pass in that copy.
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
from validation.machine import describe_machine

ROOT = Path(__file__).parents[1]
CATALOG = Path(__file__).with_name("mutants.toml")
# All that building, testing and comparing need; the folder `build` keeps what is compiled.
COPIED = ("crispyx", "reference", "tests", "validation", "build")
REPORT = Path(__file__).with_name("reports") / "mutants.md"
INTRODUCTION = """\
# Wrong kernels

`python -m validation mutants`: each change below, of `validation/mutants.toml`, was built in a
copy of the source tree. It is caught where the property tests of its method fail, a row of the
comparison with another tool fails and names the method, and both had passed in the same copy
before the change.
"""
FILES = ("setup.py", "pyproject.toml", "README.md", "LICENSE")
HEADER = (
    "mutant",
    "method",
    "without it, tests and rows",
    "property tests",
    "rows that fail",
    "rows, difference",
    "caught",
)


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
    data : str
        What is compared: small, and prepared without a screen to download where that can be.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str
    peer: str
    method: str
    data: str = "simulated"


@dataclass(frozen=True)
class Outcome:
    """What a build shows.

    Attributes
    ----------
    tests : int
        Exit code of the property tests: 1 where some fail.
    code : int
        Exit code of the comparison.
    failing : list of str
        Its lines about wrong numbers.
    """

    tests: int
    code: int
    failing: list[str]

    @property
    def passes(self) -> bool:
        """Whether nothing fails."""
        return self.tests == 0 and self.code == 0

    def catches(self, method: str) -> bool:
        """Whether tests fail, and rows that name the method."""
        named = any(f": {method}," in line for line in self.failing)
        return self.tests == 1 and self.code > 0 and named


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
    parser.add_argument(
        "--docs", action="store_true", help="write validation/reports/mutants.md, too"
    )
    parser.set_defaults(run=show)
    return parser


def show(options: argparse.Namespace) -> int:
    """Build and try every mutant; the exit code is the number that nothing caught."""
    cache = cache_folder(options.cache)
    chosen = [one for one in load_mutants() if not options.names or one.name in options.names]
    rows, missed = [], 0
    with TemporaryDirectory(prefix="mutant-") as folder:
        tree = Path(folder) / "tree"
        _copy(tree)
        for mutant in chosen:
            path = tree / mutant.file
            right = path.read_text(encoding="utf-8")
            _build(tree)
            before = _try(tree, mutant, cache)
            path.write_text(right.replace(mutant.old, mutant.new), encoding="utf-8")
            _build(tree)
            after = _try(tree, mutant, cache)
            path.write_text(right, encoding="utf-8")
            caught = before.passes and after.catches(mutant.method)
            missed += not caught
            rows.append(_row(mutant, before, after, "yes" if caught else "NO"))
            print(" | ".join(rows[-1]), flush=True)
    table = markdown_table(HEADER, rows)
    print(table)
    if options.docs:
        machine = "\n".join(f"* {name}: {text}" for name, text in describe_machine().items())
        REPORT.write_text(f"{INTRODUCTION}\n{machine}\n\n{table}\n", encoding="utf-8")
    return missed


def _build(tree: Path) -> None:
    _run(tree, sys.executable, "setup.py", "build_ext", "--inplace", check=True)


def _try(tree: Path, mutant: Mutant, cache: Path) -> Outcome:
    """Run the tests and the comparison of a mutant."""
    pytest = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", mutant.tests)
    tests = _run(tree, sys.executable, *pytest)
    run = ("-m", "validation", "run", mutant.peer, "--cache", str(cache))
    chosen = ("--data", mutant.data, "--methods", mutant.method)
    found = _run(tree, sys.executable, *run, *chosen)
    lines = [line for line in found.stdout.splitlines() if line.startswith("bug ")]
    return Outcome(tests.returncode, found.returncode, lines)


def _row(mutant: Mutant, before: Outcome, after: Outcome, caught: str) -> list[str]:
    """Return the cells of a mutant."""
    right = "pass" if before.passes else f"exit codes {before.tests}, {before.code}"
    tests = "fail" if after.tests == 1 else f"exit code {after.tests}"
    failing = "; ".join(_row_name(line) for line in after.failing) or "no row fails"
    return [mutant.name, mutant.method, right, tests, str(len(after.failing)), failing, caught]


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
