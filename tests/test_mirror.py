"""One method, one name: its page, its definition, its engine and its tests stand side by side."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# `pipelines` and `nb_glm` put the other methods together; no engine has a name of theirs.
METHODS = sorted(
    {p.stem for p in ROOT.glob("reference/*.py")} - {"__init__", "pipelines", "nb_glm"}
)
KERNELS = sorted((ROOT / "crispyx" / "_kernels").glob("*.pyx"))

PLACES = [
    "docs/methods/{}.md",
    "crispyx/_stats/{}.py",
    "tests/methods/test_{}.py",
    "tests/theory/test_{}.py",
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_its_page_its_engine_and_its_tests(method: str, place: str) -> None:
    assert (ROOT / place.format(method)).is_file()


@pytest.mark.parametrize("method", METHODS)
def test_engine_names_its_definition(method: str) -> None:
    text = (ROOT / "crispyx" / "_stats" / f"{method}.py").read_text(encoding="utf-8")
    assert f"Reference: ``reference.{method}``" in text


def test_there_is_no_engine_without_a_definition() -> None:
    engines = {p.stem for p in (ROOT / "crispyx" / "_stats").glob("*.py")} - {"__init__"}
    assert engines == set(METHODS)


def parameters(kernel: Path) -> list[str]:
    """Return the lines of a kernel's public arguments that are arrays."""
    text = kernel.read_text(encoding="utf-8")
    signatures = re.findall(r"^def \w+\(\n(.*?)^\):", text, flags=re.MULTILINE | re.DOTALL)
    return [line.strip() for text in signatures for line in text.splitlines() if "::1]" in line]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda path: path.stem)
def test_every_array_of_a_kernel_says_its_direction_and_shape(kernel: Path) -> None:
    for line in parameters(kernel):
        assert re.search(r"# (IN|OUT|IN OUT|SCRATCH)\b.*(\(|idem)", line), line
        is_const = line.startswith("const ")
        assert is_const == ("# IN " in line and "IN OUT" not in line), line


def test_kernels_have_arguments_to_look_at() -> None:
    assert sum(len(parameters(kernel)) for kernel in KERNELS) > 30
