"""``--executor`` and ``--scheduler``: who computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from crispyx._run.extras import import_distributed
from crispyx.cli.conduct import plain_errors
from crispyx.settings import settings


def executor_options() -> list[click.Option]:
    """Return the two options."""
    return [
        click.Option(
            ["--executor"],
            type=click.Choice(["threads", "processes", "dask"]),
            help="What computes; threads of this process unless given.",
        ),
        click.Option(["--scheduler"], help="Address of the dask scheduler, tcp://HOST:PORT."),
    ]


def with_executor(command: click.Command) -> click.Command:
    """Give a command the two options, for all that is computed in it."""
    run: Callable[..., Any] | None = command.callback
    assert run is not None

    def running(*, executor: str | None, scheduler: str | None, **options: Any) -> Any:
        with plain_errors(), computing_elsewhere(executor, scheduler):
            return run(**options)

    command.callback = running
    command.params += executor_options()
    return command


@contextmanager
def computing_elsewhere(executor: str | None, scheduler: str | None) -> Iterator[None]:
    """Compute blocks by what ``--executor`` and ``--scheduler`` name.

    Raises
    ------
    click.UsageError
        One needs the other.
    """
    if (executor == "dask") != (scheduler is not None):
        raise click.UsageError("--executor dask and --scheduler ADDRESS need each other")
    before = settings.executor
    try:
        if executor == "dask":
            with import_distributed().Client(scheduler) as client:
                settings.executor = client
                yield
        else:
            settings.executor = executor or before
            yield
    finally:
        settings.executor = before
