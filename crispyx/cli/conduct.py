"""How every command runs: one line for an error, notes for warnings, threads as asked for."""

from __future__ import annotations

import errno
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from crispyx.errors import CrispyxError, CrispyxWarning
from crispyx.settings import settings

DATA_ERROR = 1
UNFITTED = 3
INTERRUPTED = 130
# name= or name=value in a message; not inside a call of Python, nor with a list.
ARGUMENT = re.compile(
    r"(?<![\w(.\[])(?P<name>[a-z]\w+)=(?P<value>'[\w. -]*'|[\w.]*\w|)(?![\w\[({'])"
)


def to_stderr(text: str) -> None:
    """Write a line where it cannot mix with data."""
    click.echo(text, err=True)


def as_options(text: str) -> str:
    """Write the arguments of Python in a message as the options that the running command has.

    ``control_label=`` becomes ``--control-label``, ``memory_limit_gb=2`` becomes
    ``--memory-limit-gb 2`` and ``force=True`` becomes ``--force``; what is no option stays.
    """
    context = click.get_current_context(silent=True)
    options = {
        parameter.name: next((one for one in parameter.opts if one.startswith("--")), "")
        for parameter in (context.command.params if context is not None else ())
    }

    def option(match: re.Match[str]) -> str:
        found = options.get(match["name"])
        if not found or match["value"] in ("None", "False"):
            return match[0]
        value = match["value"].strip("'")
        return found if value in ("", "True") else f"{found} {value}"

    return ARGUMENT.sub(option, text)


@contextmanager
def plain_errors() -> Iterator[None]:
    """End with one line on standard error and exit code 1 when data, disk or a package is at fault.

    A reader that closed its end of a pipe is left to click, which ends without a word.
    """
    try:
        yield
    except (CrispyxError, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            raise
        to_stderr(f"crispyx: error: {as_options(' '.join(str(error).split()))}")
        raise SystemExit(DATA_ERROR) from error
    except KeyboardInterrupt as error:
        to_stderr("crispyx: interrupted; the same command goes on with --resume, where it has one")
        raise SystemExit(INTERRUPTED) from error


@contextmanager
def warnings_as_notes(note: Callable[[str], None]) -> Iterator[None]:
    """Hand over the package's own warnings as text, without the place in its source."""

    def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
        if issubclass(category, CrispyxWarning):
            note(as_options(" ".join(str(message).split())))

    with warnings.catch_warnings():
        warnings.simplefilter("always", CrispyxWarning)
        warnings.showwarning = show  # type: ignore[assignment]
        yield


@contextmanager
def threads(n_threads: int | None) -> Iterator[None]:
    """Use so many threads inside."""
    before = settings.n_threads
    if n_threads is not None:
        settings.n_threads = n_threads
    try:
        yield
    finally:
        settings.n_threads = before
