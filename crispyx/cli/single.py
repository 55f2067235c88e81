"""The commands that are one function of the package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crispyx.cli import operations
from crispyx.cli.operation import command_of

if TYPE_CHECKING:
    import click

_OPERATIONS = {
    one.name: one
    for one in (
        operations.QC,
        operations.NORMALIZE,
        operations.TENX,
        operations.SORT,
        operations.SUBSAMPLE,
        operations.DOWNSAMPLE,
        operations.CONCAT,
        operations.COMPRESS,
        operations.HVG,
        operations.PCA,
        operations.NEIGHBORS,
        operations.UMAP,
        operations.RESIDUAL_EFFECTS,
        operations.SHRINK,
        operations.CALIBRATION,
        operations.REPORT,
    )
}


def __getattr__(name: str) -> click.Command:
    """Make the command that is asked for: the modules of the others stay out."""
    if name not in _OPERATIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return command_of(_OPERATIONS[name])
