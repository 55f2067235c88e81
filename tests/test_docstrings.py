"""Docstrings of everything public are complete, as numpydoc judges it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import warnings
from dataclasses import is_dataclass

import pytest

import crispyx

numpydoc = pytest.importorskip("numpydoc.validate")

ALLOWED = {
    "SA01": "related functions are linked where they are named",
    "EX01": "examples stand where they explain more than the recipes of the documentation",
    "ES01": "a summary that says all needs no second one",
    "RT03": "a name and its shape may say all",
    "PR08": "descriptions may start with a name or a number",
    "PR04": "parameters of another function are listed together, with its name",
    "PR03": "and stand at the end",
}
OF_FIELDS = "PR01"  # the fields of dataclasses are described as attributes
ROOMS = sorted(
    f"crispyx.{room.name}"
    for room in pkgutil.iter_modules(crispyx.__path__)
    if room.ispkg and not room.name.startswith("_") and room.name != "cli"
)


def public_names() -> dict[str, object]:
    found = {}
    for room in map(importlib.import_module, ["crispyx", *ROOMS]):
        for name in room.__all__:
            thing = getattr(room, name)
            ours = getattr(thing, "__module__", "").startswith("crispyx")
            if ours and (inspect.isfunction(thing) or inspect.isclass(thing)):
                found[f"{thing.__module__}.{thing.__qualname__}"] = thing
    return found


NAMES = public_names()


def test_public_names_are_found() -> None:
    assert len(NAMES) > 130
    assert "crispyx.de.wilcoxon.wilcoxon_test" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_docstring_is_complete(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        errors = dict(numpydoc.validate(name)["errors"])
    wrong = {code: text for code, text in errors.items() if code not in ALLOWED}
    if is_dataclass(NAMES[name]) or getattr(NAMES[name], "_is_protocol", False):
        wrong.pop(OF_FIELDS, None)
    if "Yields\n" in (NAMES[name].__doc__ or ""):
        wrong.pop("RT01", None)
    assert not wrong
