"""The worked examples of the reference print what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import reference


@pytest.mark.parametrize("module", ["pseudobulk", "rank_sum", "welch"])
def test_module_examples_are_true(module: str) -> None:
    outcome = doctest.testmod(importlib.import_module(f"reference.{module}"))
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_readme_example_is_true() -> None:
    readme = Path(reference.__file__).with_name("README.md")
    outcome = doctest.testfile(str(readme), module_relative=False)
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_reference_loads_nothing_of_crispyx() -> None:
    sources = sorted(Path(reference.__file__).parent.glob("*.py"))
    assert len(sources) > 9
    importing = [
        path.name
        for path in sources
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith(("import crispyx", "from crispyx"))
    ]
    assert importing == []
