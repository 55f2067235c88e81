"""``--executor`` and ``--scheduler``: who computes; ``--stage-dir``: what is kept for the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from crispyx._run.extras import import_distributed
from crispyx.cli.conduct import plain_errors
from crispyx.settings import settings


def executor_options(*, turns: bool = False) -> list[click.Option]:
    """Return the options: two, and a third for what ``turns`` the matrix around."""
    options = [
        click.Option(
            ["--executor"],
            type=click.Choice(["threads", "processes", "dask"]),
            help="What computes; threads of this process unless given.",
        ),
        click.Option(["--scheduler"], help="Address of the dask scheduler, tcp://HOST:PORT."),
    ]
    if turns:
        text = "Folder that keeps the matrix turned around for later tests of the file."
        options.append(click.Option(["--stage-dir"], help=text))
    return options


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
def computing_elsewhere(
    executor: str | None, scheduler: str | None, stage_dir: str | None = None
) -> Iterator[None]:
    """Compute blocks by what ``--executor`` and ``--scheduler`` name, kept in ``--stage-dir``.

    Raises
    ------
    click.UsageError
        The first two need each other.
    """
    if (executor == "dask") != (scheduler is not None):
        raise click.UsageError("--executor dask and --scheduler ADDRESS need each other")
    before = settings.executor, settings.stage_dir
    try:
        if stage_dir is not None:
            settings.stage_dir = stage_dir  # type: ignore[assignment]
        if executor == "dask":
            with import_distributed().Client(scheduler) as client:
                settings.executor = client
                yield
        else:
            settings.executor = executor or before[0]
            yield
    finally:
        settings.executor, settings.stage_dir = before
