"""The ``crispyx`` command."""

from __future__ import annotations

from crispyx.cli.command import main

__all__ = ["main"]
