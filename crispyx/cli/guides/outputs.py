"""Where results go: a file whose suffix says the format, or standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crispyx._io.csv_text import csv_bytes
from crispyx._io.paths import check_output_name
from crispyx.errors import InputError, OutputExistsError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

STDOUT = "-"
TABLES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".arrow")
CALLS = (".h5ad", *TABLES)
SCORES = (".parquet", ".arrow")
FIGURES = (".png", ".pdf", ".svg")


@dataclass(frozen=True)
class Output:
    """A place for a result.

    Attributes
    ----------
    name : str
        Path, or ``-`` for standard output.
    suffix : str
        Format; empty for standard output.
    force : bool
        A file that exists may be replaced.
    """

    name: str
    suffix: str
    force: bool

    @property
    def is_stdout(self) -> bool:
        """The result goes to standard output."""
        return self.name == STDOUT

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.name).expanduser()


def usable_output(
    name: str,
    formats: Sequence[str],
    option: str,
    inputs: Sequence[str],
    force: bool,
    *,
    stdout: bool = False,
) -> Output:
    """Check, before work starts, that a result can go there.

    Parameters
    ----------
    name : str
        What the user gave.
    formats : sequence of str
        Suffixes that can be written.
    option : str
        The option, for messages.
    inputs : sequence of str
        Files that must not be replaced.
    force : bool
        A file that exists may be replaced.
    stdout : bool
        ``-`` for standard output will do.

    Raises
    ------
    click.UsageError
        Another suffix; binary data for a terminal.
    InputError
        The folder does not exist; the output is an input or a folder.
    OutputExistsError
        The file exists.
    """
    if stdout and name == STDOUT:
        if sys.stdout.isatty():
            raise click.BadParameter(
                "standard output is a terminal and the data are binary; give a file, or a pipe",
                param_hint=option,
            )
        return Output(name, "", force)
    suffix = next((end for end in sorted(formats, key=len) if name.lower().endswith(end)), None)
    if suffix is None:
        raise click.BadParameter(
            f"{name!r}: the suffix says the format; give {', '.join(formats)}", param_hint=option
        )
    output = Output(name, suffix, force)
    check_output_name(output.path, tuple(map(Path, inputs)))
    folder = output.path.parent
    if not folder.is_dir():
        raise InputError(f"{str(folder)!r} is not a folder; create it, or write elsewhere")
    if not os.access(folder, os.W_OK):
        raise InputError(f"cannot write into {str(folder)!r}; write elsewhere")
    if output.path.exists() and not force:
        raise OutputExistsError(f"{name!r} exists; give another name, or --force to replace it")
    return output


def require_distinct(outputs: Sequence[Output | None]) -> None:
    """Raise when two results would go to one file.

    Raises
    ------
    click.UsageError
        Names the file.
    """
    paths = [output.path.resolve() for output in outputs if output and not output.is_stdout]
    for place, path in enumerate(paths):
        if path in paths[:place]:
            raise click.UsageError(f"two results would go to {str(path)!r}; give each a file")


def write_file(table: pd.DataFrame, path: Path, suffix: str) -> None:
    """Write a table, its index left out, in the format that ``suffix`` names."""
    if suffix not in (".parquet", ".arrow"):
        separator = "\t" if suffix.startswith(".tsv") else ","
        path.write_bytes(csv_bytes(table, separator, packed=suffix.endswith(".gz")))
        return
    import pyarrow as pa

    rows = pa.Table.from_pandas(table, preserve_index=False)
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        pq.write_table(rows, path)
        return
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows)


def stream(table: pa.Table) -> None:
    """Write a table to standard output, as an Arrow IPC stream."""
    import pyarrow as pa

    pipe = sys.stdout.buffer
    with pa.ipc.new_stream(pipe, table.schema) as writer:
        writer.write_table(table)
    pipe.flush()
