"""Arrow tables in files: Parquet and Arrow IPC, told apart by the suffix."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from crispyx._io.atomic import atomic_path
from crispyx.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET_SUFFIXES = (".parquet", ".pq")
ARROW_SUFFIXES = (".arrow", ".feather")


def arrow_kind(path: Path) -> str:
    """Return ``"parquet"`` or ``"arrow"``.

    Raises
    ------
    InputError
        Another suffix.
    """
    suffix = path.suffix.lower()
    if suffix in PARQUET_SUFFIXES:
        return "parquet"
    if suffix in ARROW_SUFFIXES:
        return "arrow"
    raise InputError(f"{path}: the suffix says the format; give .parquet or .arrow")


def write_arrow(table: pa.Table, path: Path) -> None:
    """Write a table, complete or not at all."""
    kind = arrow_kind(path)
    with atomic_path(path) as work:
        if kind == "parquet":
            import pyarrow.parquet as pq

            pq.write_table(table, work)
        else:
            import pyarrow as pa

            with (
                pa.OSFile(str(work), "wb") as file,
                pa.ipc.new_file(file, table.schema) as writer,
            ):
                writer.write_table(table)


def read_arrow(path: Path) -> pa.Table:
    """Read a table.

    Raises
    ------
    InputError
        Another suffix; a file that is cut short or of another format.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = arrow_kind(path)
    try:
        if kind == "parquet":
            table = pq.read_table(path)
        else:
            with pa.memory_map(str(path)) as file:
                table = pa.ipc.open_file(file).read_all()
        table.validate(full=True)  # what reads it follows its offsets out of the file otherwise
        return table
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: not a complete {kind} file ({error})") from error
