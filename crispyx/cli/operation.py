"""A command that is one function of the package: its options, its run, its summary."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from crispyx.cli.answers import Answer
from crispyx.cli.conduct import threads
from crispyx.cli.elsewhere import computing_elsewhere, executor_options
from crispyx.cli.signature import ALIASES, TEXTS, given, options_of, silent_arguments
from crispyx.settings import settings

ELSEWHERE = ("executor", "scheduler", "stage_dir")
Facts = Callable[[Any, str, Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Operation:
    """A function and how the shell sees it.

    Attributes
    ----------
    name : str
        The command, such as ``"qc"``.
    home, function : str
        Module and name of the function.
    help : str
        First line of the command's help.
    facts : callable
        Makes the summary of (value, input, given arguments).
    sentence : callable
        Makes the line for people of the summary.
    argument : str
        What the input is called.
    without : sequence of str
        Parameters that cannot be given in a shell.
    shown : mapping
        Texts of options, where the docstring's do not fit.
    writes_beside : bool
        The function writes no file unless told where: the command writes beside the input.
    several : bool
        The function takes a list of inputs.
    turns : bool
        Workers are given the matrix turned around, which can be kept.
    """

    name: str
    home: str
    function: str
    help: str
    facts: Facts
    sentence: Callable[[Mapping[str, Any]], str]
    argument: str = "FILE"
    without: Sequence[str] = ()
    shown: Mapping[str, str] = field(default_factory=dict)
    writes_beside: bool = False
    several: bool = False
    turns: bool = False

    def load(self) -> Callable[..., Any]:
        """Return the function."""
        found: Callable[..., Any] = getattr(import_module(self.home), self.function)
        return found

    def invoked(self) -> Callable[..., Any]:
        """Return what the command calls with the arguments of the function."""
        return self.load()


def command_of(operation: Operation) -> click.Command:
    """Return the command of an operation."""
    function = operation.load()

    def run(source: Any, quiet: bool, as_json: bool, **options: Any) -> None:
        source = list(source) if operation.several else source
        arguments = given(options)
        if operation.writes_beside and not {"output_dir", "output_path"} & set(arguments):
            arguments["output_dir"] = str(Path(source).parent)
        answer = Answer(quiet=quiet, as_json=as_json)
        elsewhere = {name: arguments.pop(name, None) for name in ELSEWHERE}
        start = time.perf_counter()
        with (
            answer.running(),
            computing_elsewhere(**elsewhere),
            session(arguments, function, quiet=quiet),
        ):
            value = operation.invoked()(source, **silent_arguments(function), **arguments)
            facts = operation.facts(value, source, arguments)
        seconds = round(time.perf_counter() - start, 3)
        facts = {"command": operation.name, "input": source, **facts, "seconds": seconds}
        answer.done(plain(facts), operation.sentence(facts))

    made = options_of(function, without=operation.without, shown=operation.shown)
    shared = "executor" in inspect.signature(function).parameters
    others = executor_options(turns=operation.turns) if shared else []
    return click.Command(
        operation.name,
        params=[
            click.Argument(
                ["source"],
                metavar=operation.argument,
                nargs=-1 if operation.several else 1,
                required=True,
            ),
            *made,
            *others,
            *_running_options({option.name for option in made}),
        ],
        callback=run,
        help=f"{operation.help}\n\nIn Python: {operation.home}.{operation.function}.",
    )


@contextmanager
def session(
    arguments: dict[str, Any], function: Callable[..., Any], *, quiet: bool
) -> Iterator[None]:
    """Use the threads and the memory asked for, also in a function that does not take them."""
    known = inspect.signature(function).parameters
    memory = arguments.get("memory_limit_gb")
    n_jobs = arguments.get("n_jobs")
    for name in ("memory_limit_gb", "n_jobs"):
        if name not in known:
            arguments.pop(name, None)
    before = settings.memory_limit_gb, settings.progress
    if memory is not None:
        settings.memory_limit_gb = memory
    if quiet:
        settings.progress = False
    try:
        with threads(n_jobs if n_jobs is None or n_jobs > 0 else None):
            yield
    finally:
        settings.memory_limit_gb, settings.progress = before


def plain(value: Any) -> Any:
    """Return a value as JSON holds it: no NaN, no NumPy types, paths as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(inside) for key, inside in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inside) for inside in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (bool, int, str, type(None))) else str(value)


def _running_options(present: set[str | None]) -> list[click.Option]:
    """Return ``--threads`` and ``--memory`` where the function has none, and what all have."""
    options = []
    if "memory_limit_gb" not in present:
        options.append(
            click.Option(
                ["--memory-limit-gb", *ALIASES["memory_limit_gb"], "memory_limit_gb"],
                type=click.FLOAT,
                help=TEXTS["memory_limit_gb"],
            )
        )
    if "n_jobs" not in present:
        options.append(
            click.Option(
                ["-j", "--n-jobs", "--threads", "n_jobs"], type=click.INT, help=TEXTS["n_jobs"]
            )
        )
    options.append(click.Option(["--quiet", "-q"], is_flag=True, help="Say nothing but errors."))
    options.append(
        click.Option(["--json", "as_json"], is_flag=True, help="Say everything as one JSON object.")
    )
    return options
