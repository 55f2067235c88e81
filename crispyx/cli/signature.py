"""Options made from the signature and docstring of the function a command runs.

Names, types, defaults and texts are Python's own, so that the two cannot drift apart. What is not
given is not passed on.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from crispyx.errors import InputError

# Annotation of the parameter: type of its option. `[]` marks what may be given several times.
TYPES: dict[str, Any] = {
    "int": click.INT,
    "float": click.FLOAT,
    "str": click.STRING,
    "str | Path": click.Path(),
    "PathLike": click.Path(),
    "str | os.PathLike[str]": click.Path(),
    "str | Sequence[str]": [],
    "Iterable[str]": [],
    "Sequence[str]": [],
    "Iterable[str] | Mapping[str, Mapping[str, Any]]": [],
    "int | str": click.STRING,
    "int | Sequence[int]": click.INT,
}
# Other names of options, the first one being Python's.
ALIASES = {
    "output_path": ("-o", "--output"),
    "n_jobs": ("-j", "--threads"),
    "memory_limit_gb": ("--memory",),
}
# Objects of Python: a command has options of its own for them.
OBJECTS = ("executor",)
# Said by --quiet, and by progress bars that show themselves on a terminal.
SILENT = {"verbose": False, "show_progress": True}
# For parameters whose docstring only points elsewhere.
TEXTS = {
    "batch_column": "Column of obs with the batches (lanes, replicates) to compare within.",
    "checkpoint_interval": "Units of work between two checkpoints.",
    "chunk_size": "Size of a block; speed and memory only.",
    "control_label": "Label of the control cells; inferred unless given.",
    "data_name": "Name of the data set in the output's name.",
    "force": "Compute again, and replace what stands under the output's name.",
    "gene_name_column": "Column of var with the names of genes; the index unless given.",
    "groupby": "The same as --perturbation-column.",
    "layer": "Layer to use instead of X.",
    "min_mean_ctrl": "Mean below which the control is low, see --min-pct-ctrl.",
    "min_mean_pert": "Mean below which the perturbed cells are low, see --min-pct-ctrl.",
    "min_pct_both": "Replaces both shares.",
    "min_pct_ctrl": "A gene is left out where control and perturbed cells are low: fewer than this "
    "share of the cells express it, and its mean is below --min-mean-ctrl.",
    "min_pct_pert": "The same share of the perturbed cells, beside --min-mean-pert.",
    "memory_limit_gb": "Memory of the whole process in GB; half of what is free unless given.",
    "n_jobs": "Threads; all usable cores unless given. No number depends on it.",
    "output_dir": "Folder of the result; the input's unless given.",
    "output_path": "Exact name of the result.",
    "perturbation_column": "Column of obs with the perturbation of each cell.",
    "perturbations": "Perturbations to take; may be repeated. All unless given.",
    "random_state": "Seed.",
    "reference": "The same as --control-label.",
    "resume": "Continue an interrupted run from its checkpoint.",
    "tie_correct": "Correct the variance for cells with equal values.",
}
_PARAMETER_LINE = re.compile(r"^(\w+(?:, *\w+)*)(?: : (.*))?$")


def options_of(
    function: Callable[..., Any],
    *,
    without: Sequence[str] = (),
    shown: Mapping[str, str] | None = None,
) -> list[click.Option]:
    """Return one option per parameter after the first, in the order of the signature.

    Parameters
    ----------
    function : callable
        Its first parameter is the input, and no option.
    without : sequence of str
        Parameters that cannot be given in a shell.
    shown : mapping
        Texts to show instead of those of the docstring.
    """
    said = _documented(function)
    texts = {**{name: text for name, (_, text) in said.items()}, **TEXTS, **(shown or {})}
    return [
        _option(one, texts.get(one.name, ""), _choices(said.get(one.name, ("", ""))[0]))
        for one in list(inspect.signature(function).parameters.values())[1:]
        if one.name not in (*without, *OBJECTS) and one.name not in SILENT
    ]


def silent_arguments(function: Callable[..., Any]) -> dict[str, bool]:
    """Return the values of parameters that a command sets itself."""
    known = inspect.signature(function).parameters
    return {name: value for name, value in SILENT.items() if name in known}


def _documented(function: Callable[..., Any]) -> dict[str, tuple[str, str]]:
    """Return what a NumPy docstring says of each parameter: its type, and the first sentence."""
    text = inspect.cleandoc((function.__doc__ or "").replace("\\\n", ""))
    body = re.search(r"\nParameters\n-+\n(.*?)(?:\n\w+\n-{3,}|\Z)", text, flags=re.DOTALL)
    found: dict[str, tuple[str, str]] = {}
    names: list[str] = []
    for line in (body.group(1) if body else "").splitlines():
        if line.startswith(" "):
            for name in names:
                found[name] = (found[name][0], f"{found[name][1]} {line.strip()}".strip())
        elif match := _PARAMETER_LINE.match(line):
            names = [name.strip() for name in match.group(1).split(",")]
            found |= {name: (match.group(2) or "", "") for name in names}
    return {name: (kind, _first_sentence(text)) for name, (kind, text) in found.items()}


def choices_of(function: Callable[..., Any]) -> dict[str, list[str]]:
    """Return the words that the docstring allows for each parameter that takes words."""
    found = {name: _choices(kind) for name, (kind, _) in _documented(function).items()}
    return {name: list(choice.choices) for name, choice in found.items() if choice is not None}


def _choices(kind: str) -> click.Choice | None:
    """Return the words that a docstring allows, as in ``{"auto", "sparse"}``."""
    found = re.match(r"\{([^}]*)\}", kind)
    words = re.findall(r"[\"']([^\"']+)[\"']", found.group(1)) if found else []
    return click.Choice(words) if words else None


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given, sequences as lists."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in options.items()
        if value is not None and value != ()
    }


def value_type(annotation: str) -> Any:
    """Return the click type of an annotation: a list for repeated text, None for a switch.

    Raises
    ------
    InputError
        The annotation has no counterpart in a shell.
    """
    plain = annotation.removesuffix(" | None")
    if plain == "bool":
        return None
    if choices := re.fullmatch(r"Literal\[(.*)\]", plain):
        return click.Choice([text.strip().strip("'\"") for text in choices.group(1).split(",")])
    if plain not in TYPES:
        raise InputError(f"an option cannot be made of {annotation!r}")
    return TYPES[plain]


def _option(parameter: inspect.Parameter, text: str, choices: click.Choice | None) -> click.Option:
    name = f"--{parameter.name.replace('_', '-')}"
    kind = value_type(str(parameter.annotation))
    required = parameter.default is inspect.Parameter.empty
    text = f"{text}{_default_note(parameter.default)}"
    if kind is None:
        switch = f"{name}/--no-{name[2:]}" if parameter.default is not False else name
        flags: dict[str, Any] = {"is_flag": True, "flag_value": True}
        if parameter.default is not False:
            flags = {}
        return click.Option(
            [switch, parameter.name], default=None, required=required, help=text, **flags
        )
    names = [*(n for n in ALIASES.get(parameter.name, ()) if len(n) == 2), name]
    names += [n for n in ALIASES.get(parameter.name, ()) if len(n) > 2]
    return click.Option(
        [*names, parameter.name],
        type=click.STRING if kind == [] else choices if choices and kind is click.STRING else kind,
        multiple=kind == [],
        required=required,
        help=text,
    )


def _default_note(default: Any) -> str:
    if default is None or default is inspect.Parameter.empty or default is False:
        return ""
    shown = ", ".join(default) if isinstance(default, tuple) else default
    return f"  [default: {'on' if default is True else shown}]"


def _first_sentence(text: str) -> str:
    plain = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"\1", text).replace("``", "")
    sentence = re.split(r"(?<=[.;])\s(?=[A-Z]|None )", plain, maxsplit=1)[0]
    return sentence.rstrip(";.") + "." if sentence else ""
