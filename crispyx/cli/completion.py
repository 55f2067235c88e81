"""``crispyx completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script that completes commands and options in SHELL.

    bash: crispyx completion bash > ~/.local/share/bash-completion/completions/crispyx
    """
    from crispyx.cli.command import main

    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(main, {}, "crispyx", "_CRISPYX_COMPLETE").source())
