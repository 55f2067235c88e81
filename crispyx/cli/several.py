"""Groups of commands: ``crispyx de`` and ``crispyx pseudobulk``."""

from __future__ import annotations

import click

from crispyx.cli import operations, steps
from crispyx.cli.operation import command_of


@click.group()
def de() -> None:
    """Compare every perturbation with the control, gene by gene."""


@click.group()
def pseudobulk() -> None:
    """Make profiles of groups of cells, and their differences (cx.pb)."""


for _operation in operations.TESTS:
    de.add_command(command_of(_operation))
for _command in (steps.plan, steps.run_block, steps.assemble):
    de.add_command(_command)
for _operation in operations.PSEUDOBULK:
    pseudobulk.add_command(command_of(_operation))
