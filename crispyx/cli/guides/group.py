"""The group of commands."""

from __future__ import annotations

import click

from crispyx.cli.guides.assign import assign
from crispyx.cli.guides.compare import compare
from crispyx.cli.guides.decide import decide
from crispyx.cli.guides.inspect import inspect
from crispyx.cli.guides.models import models
from crispyx.cli.guides.score import score


@click.group()
def guides() -> None:
    """Call the guides of every cell from guide UMI counts.

    Data goes to the output file, or to standard output with -o -; messages go to standard error.
    Options carry the names and defaults that parameters have in Python (cx.gd).

    Exit codes: 0 done, 1 data error, 2 wrong usage, 3 finished, but with guides that have no
    reliable fit (with --strict).
    """


for command in (assign, score, decide, compare, models, inspect):
    guides.add_command(command)
