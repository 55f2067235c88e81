"""``crispyx disk-usage``: other commands, with what they would write in place of writing it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import click

from crispyx.cli import operations
from crispyx.cli.operation import Operation, command_of


@dataclass(frozen=True)
class _Estimate(Operation):
    """A command with the options of another, that only says what the other would write."""

    def invoked(self) -> Callable[..., Any]:
        from crispyx.data import estimate_disk_usage

        return partial(estimate_disk_usage, self.load())


def _facts(value: Any, source: str, options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "operation": value.operation,
        "bytes": value.n_bytes,
        "upper_bound": value.upper_bound,
        "free": value.free,
        "fits": value.fits,
    }


def _line(facts: Mapping[str, Any]) -> str:
    most = "at most " if facts["upper_bound"] else ""
    room = "" if facts["fits"] else ": too much"
    return (
        f"{facts['operation']} would write {most}{facts['bytes'] / 1e6:,.1f} MB; "
        f"{facts['free'] / 1e6:,.0f} MB are free{room}"
    )


@click.group("disk-usage")
def disk_usage() -> None:
    """Say how much a command would write, without running it: give its name and its options."""


def _estimate(operation: Operation, name: str) -> _Estimate:
    given = {field.name: getattr(operation, field.name) for field in fields(operation)}
    told = "Say how much this would write. " + operation.help
    return _Estimate(**{**given, "name": name, "help": told, "facts": _facts, "sentence": _line})


for _operation in (
    operations.QC,
    operations.NORMALIZE,
    operations.SORT,
    operations.SUBSAMPLE,
    operations.DOWNSAMPLE,
    operations.CONCAT,
    operations.COMPRESS,
    *operations.PSEUDOBULK,
    *operations.TESTS,
    operations.RESIDUAL_EFFECTS,
):
    disk_usage.add_command(command_of(_estimate(_operation, _operation.name)))
for _layout, _operation in operations.CONVERT.items():
    disk_usage.add_command(command_of(_estimate(_operation, f"convert-to-{_layout}")))
