"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

Command = Callable[..., Any]


def counts_argument(command: Command) -> Command:
    """Add the guide counts, as an argument or under ``--counts``."""
    command = click.option(
        "--counts", "counts_option", metavar="COUNTS", help="The same as the argument COUNTS."
    )(command)
    return click.argument("counts", required=False)(command)


def one_input(argument: str | None, option: str | None, name: str = "COUNTS") -> str:
    """Return the input, given once.

    Raises
    ------
    click.UsageError
        Not given, or given twice.
    """
    if argument is not None and option is not None:
        raise click.UsageError(f"{name} is given twice, as an argument and as an option")
    given = argument if argument is not None else option
    if given is None:
        raise click.UsageError(f"Missing argument '{name}'.")
    return given


def model_option(command: Command) -> Command:
    """Add ``--model``."""
    return click.option(
        "-m",
        "--model",
        default="poisson_gauss",
        show_default=True,
        help="Assignment model; `crispyx guides models` lists them.",
    )(command)


def output_options(formats: str, *, required: bool = True) -> Callable[[Command], Command]:
    """Add ``--output`` and ``--force``."""

    def decorate(command: Command) -> Command:
        command = click.option("--force", is_flag=True, help="Replace outputs that exist.")(command)
        return click.option(
            "-o", "--output", required=required, metavar="FILE", help=f"Result: {formats}."
        )(command)

    return decorate


def saying_options(command: Command) -> Command:
    """Add ``--quiet`` and ``--json``."""
    command = click.option(
        "--json", "as_json", is_flag=True, help="Say everything as one JSON object."
    )(command)
    return click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")(command)


def running_options(command: Command) -> Command:
    """Add ``--n-jobs``, ``--quiet`` and ``--json``."""
    return click.option(
        "-j",
        "--n-jobs",
        "--threads",
        "n_jobs",
        type=click.IntRange(min=1),
        help="Threads; all usable cores unless given. No call depends on it.",
    )(saying_options(command))


def strict_option(command: Command) -> Command:
    """Add ``--strict``."""
    return click.option(
        "--strict",
        is_flag=True,
        help="Exit code 3 when guides have no reliable fit; results are written all the same.",
    )(command)
