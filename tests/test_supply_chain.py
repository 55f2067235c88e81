"""What the project takes from others is named exactly, and nothing that it reads is run."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
LOCKS = sorted((ROOT / ".github").glob("*.txt"))
ITS_OWN_LINES = ROOT / "validation/gallery.py"  # runs the lines of the page that it writes
SOURCES = sorted(
    path
    for room in ("crispyx", "reference", "validation")
    for path in (ROOT / room).rglob("*.py")
    if path != ITS_OWN_LINES
)
RUNS_TEXT = {"eval", "exec", "compile", "__import__"}
RUNS_DATA = {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_and_may_only_read(path: Path) -> None:
    text = path.read_text()
    actions = re.findall(r"uses: (\S+)", text)
    assert actions
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action) for action in actions), actions
    assert "\npermissions:\n  contents: read\n" in text
    assert "write" not in re.findall(r"^\s+\w+: (\w+)$", text, flags=re.MULTILINE)
    assert text.count("persist-credentials: false") == text.count("actions/checkout@")


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_every_package_of_the_workflows_has_a_version_and_hashes(path: Path) -> None:
    entries = path.read_text().replace("\\\n", " ").splitlines()
    assert len(entries) > 5
    for entry in entries:
        assert re.match(r"[\w.\-\[\]]+==[\w.+]+\s", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_locks_and_sources_are_found() -> None:
    assert {path.name for path in LOCKS} == {"requirements.txt", "wheels.txt"}
    assert len(WORKFLOWS) == 2
    assert len(SOURCES) > 200


def test_nothing_that_is_read_is_run() -> None:
    for path in SOURCES:
        require_nothing_run(path)


def require_nothing_run(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else ""
            assert called not in RUNS_TEXT, f"{path}:{node.lineno} calls {called}"
            for word in node.keywords:
                on = isinstance(word.value, ast.Constant) and word.value.value is True
                assert not (on and word.arg in ("shell", "allow_pickle")), f"{path}:{node.lineno}"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names]
            taken = {name.split(".")[0] for name in names} & RUNS_DATA
            assert not taken, f"{path}:{node.lineno} imports {taken}"
