"""``crispyx convert``."""

from __future__ import annotations

from typing import Any

import click

from crispyx.cli.operation import command_of
from crispyx.cli.operations import CONVERT

_COMMANDS = {layout: command_of(operation) for layout, operation in CONVERT.items()}


def _convert(layout: str, **options: Any) -> None:
    callback = _COMMANDS[layout].callback
    assert callback is not None
    callback(**options)


# Both directions take the same parameters.
convert = click.Command(
    "convert",
    params=[
        *_COMMANDS["csr"].params,
        click.Option(
            ["--to", "layout"],
            type=click.Choice(sorted(CONVERT)),
            required=True,
            help="Layout to write.",
        ),
    ],
    callback=_convert,
    help="Write the matrix of FILE as CSR (fast by cell) or CSC (fast by gene).\n\n"
    "In Python: crispyx.data.convert_to_csr, crispyx.data.convert_to_csc.",
)
