"""``python -m crispyx.cli`` is the command ``crispyx``."""

from crispyx.cli.command import main

main(prog_name="crispyx")
