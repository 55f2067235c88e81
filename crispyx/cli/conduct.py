"""How every command runs: one line for an error, notes for warnings, threads as asked for."""

from __future__ import annotations

import errno
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


def to_stderr(text: str) -> None:
    """Write a line where it cannot mix with data."""
    click.echo(text, err=True)


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
        to_stderr(f"crispyx: error: {' '.join(str(error).split())}")
        raise SystemExit(DATA_ERROR) from error
    except KeyboardInterrupt as error:
        to_stderr("crispyx: interrupted; the same command goes on with --resume, where it has one")
        raise SystemExit(INTERRUPTED) from error


@contextmanager
def warnings_as_notes(note: Callable[[str], None]) -> Iterator[None]:
    """Hand over the package's own warnings as text, without the place in its source."""

    def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
        if issubclass(category, CrispyxWarning):
            note(" ".join(str(message).split()))

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
