"""Calls written to a file whose suffix says the format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crispyx._io.atomic import atomic_path
from crispyx._io.csv_text import csv_bytes
from crispyx._io.disk import reporting_full_disk
from crispyx._io.paths import prepare_output
from crispyx._io.writer import write_anndata
from crispyx.errors import InputError, OutputExistsError
from crispyx.guides.arrow_files import write_arrow
from crispyx.guides.call_tables import cell_ranger_table, is_table_file, pair_table, separator_of
from crispyx.guides.calls import BARCODE
from crispyx.guides.held import Calls, read_calls

if TYPE_CHECKING:
    import pandas as pd

CELL_RANGER_NAME = "protospacer_calls_per_cell"
TABLE_KINDS = "biufOSUTMm"  # of NumPy: numbers, text, times; not complex ones and records
FORMATS = ".h5ad, .csv, .tsv, .csv.gz, .tsv.gz, .parquet or .arrow"


def write_calls(
    calls: Any, path: str | os.PathLike[str], *, long: bool = False, force: bool = False
) -> Path:
    """Write guide calls to a file; its suffix says the format.

    ======================================  =====================================================
    ``.h5ad``                               everything, as an AnnData
    ``.csv``, ``.tsv`` (also ``.gz``),      one row per cell: ``cell_barcode`` and every column of
    ``.parquet``, ``.arrow``                obs; with ``long=True`` one row per call
    ``*protospacer_calls_per_cell.csv``     Cell Ranger's table: ``cell_barcode``,
                                            ``num_features``, ``feature_call``, ``num_umis``, for
                                            cells with a call, several separated by ``|``
    ======================================  =====================================================

    Parameters
    ----------
    calls : anndata.AnnData, pyarrow.RecordBatch, pyarrow.Table, pandas.DataFrame or path
        What :func:`assign` or :func:`decide` returned, or a file of it.
    path : path
        File to write. Its folder is created.
    long : bool
        One row for every pair of cell and guide: ``cell_barcode``, ``guide_id``, ``umi_count`` and
        the other columns of the cell, ``assignment_confidence`` only beside the cell's
        ``guide_id``. Cells without a call have no row.
    force : bool
        Replace a file that exists.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    InputError
        Another suffix; a format that needs all guides of a cell, which a table of one row per cell
        does not hold.
    MissingColumnError
        ``calls`` are no calls.
    OutputExistsError
        The file exists and ``force`` is False.
    """
    path = Path(path).expanduser()
    lists = path.name.removesuffix(".gz").endswith(f"{CELL_RANGER_NAME}.csv")
    is_h5ad = path.suffix.lower() == ".h5ad"
    if not is_h5ad and not is_table_file(path):
        raise InputError(f"{path}: the suffix says the format; give {FORMATS}")
    if long and (lists or is_h5ad):
        raise InputError(f"{path}: this format has a form of its own; leave out long=True")
    found = read_calls(calls)
    prepare_output(path, () if found.path is None else (found.path,))
    if path.exists() and not force:
        raise OutputExistsError(f"{str(path)!r} exists; give another name, or force=True")
    if is_h5ad:
        adata = found.whole()
        with reporting_full_disk(path.parent, str(path)), atomic_path(path) as work:
            write_anndata(adata, work)
        return path
    with reporting_full_disk(path.parent, str(path)):
        _write_table(_rows(found, long=long, lists=lists), path)
    return path


def call_rows(calls: Any, *, long: bool = False) -> pd.DataFrame:
    """Return the table that :func:`write_calls` writes."""
    return _rows(read_calls(calls), long=long, lists=False)


def _rows(calls: Calls, *, long: bool, lists: bool) -> pd.DataFrame:
    if long or lists:
        adata = calls.whole()
        of = cell_ranger_table if lists else pair_table
        return of(adata.obs, adata.layers["assigned"], adata.X, adata.var_names.to_numpy())
    table = calls.table.copy()
    for name, column in table.items():
        if column.dtype.kind not in TABLE_KINDS:
            raise InputError(
                f"{calls.where}: obs column {name!r} holds {column.dtype}, which no table of calls "
                "has; the file is damaged"
            )
    table.insert(0, BARCODE, calls.barcodes)
    return table.reset_index(drop=True)


def _write_table(table: pd.DataFrame, path: Path) -> None:
    separator = separator_of(path)
    if separator is None:
        import pyarrow as pa

        write_arrow(pa.Table.from_pandas(table, preserve_index=False), path)
        return
    text = csv_bytes(table, separator, packed=path.suffix.lower() == ".gz")
    with atomic_path(path) as work:
        work.write_bytes(text)
