"""``screen.toml`` read and checked: every fault names key, value, what is allowed, and the line."""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from crispyx.cli.signature import choices_of, value_type
from crispyx.errors import InputError, MissingFileError

METHODS = {"wilcoxon": "wilcoxon_test", "t-test": "t_test", "nb-glm": "nb_glm_test"}
# Section: where its function is. That of [de] depends on its method.
FUNCTIONS = {
    "guides": ("crispyx.guides", "assign"),
    "join": ("crispyx.guides", "add_to"),
    "qc": ("crispyx.qc", "quality_control_summary"),
    "normalize": ("crispyx.data", "normalize_total_log1p"),
    "pca": ("crispyx.dimred", "pca"),
    "neighbors": ("crispyx.dimred", "neighbors"),
    "umap": ("crispyx.dimred", "umap"),
    "calibration": ("crispyx.de", "calibration"),
    "report": ("crispyx.report", "screen_report"),
}
OPTIONAL = ("qc", "normalize", "pca", "neighbors", "umap", "calibration", "report")
ONLY_IF_NAMED = ("calibration",)
SECTIONS = (
    "screen",
    "guides",
    "join",
    "qc",
    "normalize",
    "pca",
    "neighbors",
    "umap",
    "de",
    "calibration",
    "report",
)
SCREEN_KEYS = {
    "expression": "str",
    "guides": "str | None",
    "output": "str | None",
    "title": "str | None",
    "perturbation_column": "str | None",
    "control_label": "str | None",
    "gene_name_column": "str | None",
    "n_jobs": "int | None",
    "memory_limit_gb": "float | None",
}
# Said once in [screen], or by the pipeline itself.
NOT_HERE = {
    "calibration", "calls", "cells", "checkpoint_interval", "control_label", "copy", "data_name",
    "executor", "files", "filtered", "force", "gene_name_column", "groupby", "memory_limit_gb",
    "n_jobs", "output_dir", "output_path", "overwrite", "perturbation_column", "reference",
    "resume", "screen", "show_progress", "size_factors", "verbose",
}  # fmt: skip
# Values that a shell has no word for.
TABLES = {
    ("join", "targets"): "a table from guide to target, a .csv or .tsv file of the two, or a "
    "column of the calls",
    ("join", "control_guides"): "a list of guides",
    ("report", "target_genes"): "a table from perturbation to gene",
}


@dataclass(frozen=True)
class Configuration:
    """What the file says, paths resolved against its folder.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    expression : pathlib.Path
        Counts, cells x genes.
    guides : pathlib.Path or None
        Guide counts, cells x guides.
    output : pathlib.Path
        Folder of the results.
    screen : mapping
        Further values of [screen].
    sections : dict of str to dict
        Parameters of every step that runs.
    method : str
        Test.
    """

    path: Path
    expression: Path
    guides: Path | None
    output: Path
    screen: Mapping[str, Any]
    sections: dict[str, dict[str, Any]]
    method: str


def read_configuration(path: Path) -> Configuration:
    """Read and check the file.

    Raises
    ------
    MissingFileError
        No such file, or it names inputs that are not there.
    InputError
        No TOML; an unknown section or key; a value of another kind; a key that is needed.
    """
    if not path.is_file():
        raise MissingFileError(f"{str(path)!r} does not exist; `crispyx run --example` prints one")
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    # ValueError: no UTF-8, or no TOML; tomllib calls itself for every bracket.
    except (ValueError, RecursionError) as error:
        raise InputError(f"{str(path)!r} is not valid TOML: {error}") from error
    return _Checker(path, text).configuration(content)


def parameters_of(section: str, method: str) -> dict[str, inspect.Parameter]:
    """Return the parameters that a section may set, by name."""
    home, name = ("crispyx.de", METHODS[method]) if section == "de" else FUNCTIONS[section]
    function = getattr(import_module(home), name)
    known = list(inspect.signature(function).parameters.values())[1:]
    return {one.name: one for one in known if one.name not in NOT_HERE}


class _Checker:
    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._lines = text.splitlines()

    def configuration(self, content: Mapping[str, Any]) -> Configuration:
        for name, value in content.items():
            if name not in SECTIONS:
                raise self._error(name, None, f"[{name}] is no section; {_allowed(name, SECTIONS)}")
            if not isinstance(value, dict):
                raise self._error(name, None, f"{name} stands outside a section; write [{name}]")
        screen = content.get("screen", {})
        for key, value in screen.items():
            if key not in SCREEN_KEYS:
                raise self._unknown("screen", key, list(SCREEN_KEYS))
            self._check("screen", key, value, SCREEN_KEYS[key], None)
        if "expression" not in screen:
            raise self._error("screen", None, '[screen] needs expression = "file.h5ad"')
        method = content.get("de", {}).get("method", "wilcoxon")
        if not isinstance(method, str) or method not in METHODS:
            raise self._error(
                "de", "method", f"[de] method = {method!r}; choose one of {', '.join(METHODS)}"
            )
        guides = self._input(screen, "guides")
        if guides is None and not {"guides", "join"}.isdisjoint(content):
            raise self._error(
                "guides" if "guides" in content else "join",
                None,
                '[guides] and [join] need guides = "guides.h5ad" in [screen]',
            )
        if guides is None and "perturbation_column" not in screen:
            raise self._error(
                "screen",
                None,
                "[screen] needs perturbation_column (obs column of labels), or guides = "
                '"guides.h5ad" to call them from',
            )
        expression = self._input(screen, "expression")
        assert expression is not None
        output = self._path.parent / screen.get("output", f"{self._path.stem}_results")
        rest = {
            key: value
            for key, value in screen.items()
            if key not in ("expression", "guides", "output")
        }
        return Configuration(
            path=self._path,
            expression=expression,
            guides=guides,
            output=output,
            screen=rest,
            sections=self._sections(content, method, with_guides=guides is not None),
            method=method,
        )

    def _sections(
        self, content: Mapping[str, Any], method: str, *, with_guides: bool
    ) -> dict[str, dict[str, Any]]:
        chosen = {}
        for section in SECTIONS[1:]:
            given = dict(content.get(section, {}))
            wanted = given.pop("run", section in content or section not in ONLY_IF_NAMED)
            if not isinstance(wanted, bool):
                raise self._error(section, "run", f"[{section}] run = {wanted!r}; true or false")
            if not wanted and section not in OPTIONAL:
                raise self._error(
                    section, "run", f"[{section}] cannot be left out; {', '.join(OPTIONAL)} can"
                )
            if section == "de":
                given.pop("method", None)
            self._check_section(section, given, method)
            if wanted and (with_guides or section not in ("guides", "join")):
                chosen[section] = given
        for needing, needed in (("neighbors", "pca"), ("umap", "neighbors")):
            if needing in chosen and needed not in chosen:
                del chosen[needing]
        return chosen

    def _check_section(self, section: str, given: Mapping[str, Any], method: str) -> None:
        known = parameters_of(section, method) if given else {}
        home, name = ("crispyx.de", METHODS[method]) if section == "de" else FUNCTIONS[section]
        for key, value in given.items():
            if (section, key) in TABLES:
                self._check_table(section, key, value)
                continue
            if key not in known:
                raise self._unknown(section, key, [*known, "run"])
            choices = choices_of(getattr(import_module(home), name)).get(key)
            self._check(section, key, value, str(known[key].annotation), choices)

    def _check_table(self, section: str, key: str, value: Any) -> None:
        is_table = isinstance(value, dict) and all(isinstance(one, str) for one in value.values())
        is_list = isinstance(value, list) and all(isinstance(one, str) for one in value)
        fits = {
            "targets": is_table or isinstance(value, str),
            "control_guides": is_list,
            "target_genes": is_table,
        }
        if not fits[key]:
            raise self._error(
                section, key, f"[{section}] {key} = {value!r}; give {TABLES[section, key]}"
            )

    def _check(
        self, section: str, key: str, value: Any, annotation: str, choices: list[str] | None
    ) -> None:
        wanted = _wanted(annotation)
        fits = {
            "true or false": isinstance(value, bool),
            "a whole number": isinstance(value, int) and not isinstance(value, bool),
            "a number": isinstance(value, (int, float)) and not isinstance(value, bool),
            "a list of texts": isinstance(value, list)
            and all(isinstance(one, str) for one in value),
            "text": isinstance(value, str),
        }
        if isinstance(wanted, list):
            choices, wanted = wanted, "text"
        if not fits[wanted]:
            raise self._error(section, key, f"[{section}] {key} = {value!r}; give {wanted}")
        if choices and value not in choices:
            raise self._error(
                section, key, f"[{section}] {key} = {value!r}; choose one of {', '.join(choices)}"
            )

    def _input(self, screen: Mapping[str, Any], key: str) -> Path | None:
        if key not in screen:
            return None
        try:
            path: Path = self._path.parent / Path(screen[key]).expanduser()
            exists = path.exists()
        except (ValueError, OSError, RuntimeError):  # a zero byte, too long, nobody's home
            exists = False
        if not exists:
            raise MissingFileError(
                f"{self._where('screen', key)}: [screen] {key} = {screen[key]!r} does not exist; "
                f"paths start from {str(self._path.parent.resolve())!r}"
            )
        return path

    def _unknown(self, section: str, key: str, allowed: list[str]) -> InputError:
        if key in NOT_HERE and key in SCREEN_KEYS:
            return self._error(section, key, f"[{section}] {key} belongs into [screen]")
        return self._error(section, key, f"[{section}] has no {key}; {_allowed(key, allowed)}")

    def _error(self, section: str, key: str | None, text: str) -> InputError:
        return InputError(f"{self._where(section, key)}: {text}")

    def _where(self, section: str, key: str | None) -> str:
        line = self._line(section, key)
        return f"{self._path}" + ("" if line is None else f", line {line}")

    def _line(self, section: str, key: str | None) -> int | None:
        """Return the line of a key, of the section where the key is not written plainly."""
        inside, found = "", None
        for number, line in enumerate(self._lines, 1):
            head = re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line)
            if head:
                inside = head.group(1)
                if inside.split(".")[0] == section and found is None:
                    found = number
                if key is not None and inside == f"{section}.{key}":
                    return number
            elif key is not None and inside == section:
                if re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*(=|\.)", line):
                    return number
            elif not inside and re.match(rf"\s*{re.escape(section)}\s*(=|\.)", line):
                found = found or number
        return found


def _wanted(annotation: str) -> Any:
    """Return what a value must be, in words; a list of words that are allowed."""
    kind = value_type(annotation)
    if isinstance(kind, click.Choice):
        return list(kind.choices)
    if kind is None:
        return "true or false"
    if kind == []:
        return "a list of texts"
    return {click.INT: "a whole number", click.FLOAT: "a number"}.get(kind, "text")


def _allowed(name: str, allowed: Any) -> str:
    near = get_close_matches(name, allowed, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}It takes {', '.join(sorted(allowed))}"
