"""What a command says when it is done: lines, one JSON object, or nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from crispyx.cli.conduct import plain_errors, to_stderr, warnings_as_notes


class Answer:
    """Collects what is to be said.

    Parameters
    ----------
    quiet : bool
        Say nothing but errors.
    as_json : bool
        Say everything at once, as one JSON object on standard output.

    Raises
    ------
    click.UsageError
        Both.
    """

    def __init__(self, *, quiet: bool, as_json: bool) -> None:
        if quiet and as_json:
            raise click.UsageError("--quiet and --json exclude each other")
        self._quiet, self._json = quiet, as_json
        self._warnings: list[str] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Turn errors and warnings of the work inside into messages."""
        with plain_errors(), warnings_as_notes(self._note):
            yield

    def done(self, facts: Mapping[str, Any], text: str, *, data_on_stdout: bool = False) -> None:
        """Say what came out.

        Parameters
        ----------
        facts : mapping
            For the JSON object.
        text : str
            For people.
        data_on_stdout : bool
            Standard output carries data: the JSON object goes to standard error.
        """
        if self._json:
            click.echo(
                json.dumps({**facts, "warnings": self._warnings}, allow_nan=False),
                err=data_on_stdout,
            )
        elif not self._quiet:
            to_stderr(text)

    def answer(self, facts: Mapping[str, Any], text: str) -> None:
        """Print what was asked for: it is the data, and goes to standard output."""
        if self._json:
            self.done(facts, text)
        else:
            click.echo(text)

    def _note(self, text: str) -> None:
        self._warnings.append(text)
        if not (self._quiet or self._json):
            to_stderr(f"note: {text}")
