"""How each tool does each operation, in its own interpreter.

An adapter is a module with ``ACTIONS`` (operation to :class:`Action`) and ``version()``. It imports
its tool inside ``prepare`` and ``collect``, so that imports are timed apart.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from validation.benchmarks.job import OURS, Job


class NotBuiltError(Exception):
    """Raised when this version of a tool has no such operation."""


class Action(NamedTuple):
    """One operation of one tool.

    Attributes
    ----------
    prepare : callable
        Imports what the operation needs and returns the operation, to be called without arguments.
    collect : callable
        Reads what the operation wrote and returns arrays to compare with other tools'.
    """

    prepare: Callable[[Job], Callable[[], object]]
    collect: Callable[[Job], dict[str, Any]]


def load_adapter(tool: str) -> Any:
    """Return the adapter of a tool; crispyx and its namesake on PyPI share one."""
    return import_module(f"validation.benchmarks.tools.{'crispyx' if tool == OURS else tool}")
