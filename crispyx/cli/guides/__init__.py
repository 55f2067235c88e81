"""``crispyx guides``: guide assignment from the shell."""

from __future__ import annotations

from crispyx.cli.guides.group import guides

__all__ = ["guides"]
