"""What is compared with which tool: one module a tool, with its cases in ``CASES``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from validation.parity.check import Check
from validation.parity.outside import Outside

PEERS = ("scipy", "scanpy", "illico", "crispat", "kaichi", "pydeseq2")
# So that none is left to run alone at the end.
SLOWEST_FIRST = ("crispat", "pydeseq2", "kaichi", "scanpy", "scipy", "illico")


class Bench(NamedTuple):
    """What a case works with.

    Attributes
    ----------
    cache : pathlib.Path
        Prepared screens.
    outside : Outside
        The other tools.
    """

    cache: Path
    outside: Outside


class Case(NamedTuple):
    """Checks that share their computation.

    Attributes
    ----------
    method : str
        Name of the method, as of its page in ``docs/methods``.
    data : str
        What it is compared on.
    checks : callable
        ``checks(bench, data)`` yields the checks.
    """

    method: str
    data: str
    checks: Callable[[Bench, str], Iterator[Check]]


def cases(peer: str) -> tuple[Case, ...]:
    """Return the cases of a tool."""
    return import_module(f"validation.parity.suites.{peer}").CASES  # type: ignore[no-any-return]
