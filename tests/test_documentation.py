"""The pages hold together: links lead somewhere, examples run, names that are mentioned exist."""

from __future__ import annotations

import doctest
import importlib
import json
import operator
import pkgutil
import re
import tomllib
from pathlib import Path

import pytest

import crispyx as cx
import reference
from crispyx.cli.command import COMMANDS

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
PAGES = [page for page in PAGES if "_build" not in page.parts]


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_to_files_and_headings_that_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), f"{page.name} links to {target}"
        if anchor and linked.suffix == ".md":
            assert anchor in anchors(linked), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_functions_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in set(re.findall(r"\bcx\.((?:[a-z_]\w*\.)*\w+)", text)):
        found = cx
        for part in name.split("."):
            assert hasattr(found, part), f"{page.name} names cx.{name}"
            found = getattr(found, part)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_a_page_shows_exist(page: Path) -> None:
    blocks = re.findall(r"```.*?```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for line in "\n".join(blocks).splitlines():
        shown = re.match(r"(?:\$ )?crispyx ([a-z][a-z0-9-]*)", line)
        if shown:
            assert shown.group(1) in COMMANDS, line


NOTEBOOKS = sorted((ROOT / "docs/tutorials").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_was_run_to_its_end_and_names_what_exists(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        assert all(output["output_type"] != "error" for output in cell["outputs"])
        text = "".join(cell["source"])
        for name in re.findall(r"\bcx\.((?:\w+\.)?\w+)\(", text):
            assert operator.attrgetter(name)(cx), f"{path.name} names cx.{name}"
        shown = json.dumps(cell["outputs"])
        assert not re.search(r"/(home|root|tmp|Users|work)/", shown), "a path of one machine"


def test_doctests_pass() -> None:
    failed = 0
    for package in (cx, reference):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            source = Path(
                str(getattr(module.module_finder, "path", "")), f"{module.name.split('.')[-1]}.py"
            )
            if not source.is_file() or ">>>" not in source.read_text(encoding="utf-8"):
                continue
            failed += doctest.testmod(importlib.import_module(module.name)).failed
    assert failed == 0


def test_citation_and_package_name_the_same_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {cx.__version__}\n" in citation
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"license: {project['license']}\n" in citation
