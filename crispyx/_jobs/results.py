"""Result files: perturbations x genes tables, those of the work file and what follows from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crispyx._io.encode import create_array, write_frame, write_value
from crispyx._io.record import write_record
from crispyx._io.scanpy_format import write_rank_genes_groups
from crispyx._io.tables import TABLES
from crispyx._io.writer import completed_h5ad
from crispyx._jobs.screen import Screen
from crispyx._jobs.tiles import TileStore
from crispyx._run.fingerprint import require_unchanged
from crispyx._run.prefetch import prefetch

STRIP_BYTES = 8_000_000


@dataclass(frozen=True)
class Column:
    """One table of a result file.

    Attributes
    ----------
    dtype : numpy.dtype
        Type in the file.
    field : str
        Field of the tiles it comes from.
    of_rows : callable or None
        Applied to whole rows (n_rows, n_genes) of the field, such as a p-value correction.
    all_rows : bool
        ``of_rows`` needs all rows at once.
    """

    dtype: type
    field: str
    of_rows: Callable[[np.ndarray], np.ndarray] | None = None
    all_rows: bool = False


def write_result(
    output: Path,
    store: TileStore,
    screen: Screen,
    *,
    x: Column,
    layers: Mapping[str, Column],
    uns: Mapping[str, Any],
    fingerprint: Mapping[str, Any],
    scanpy_key: str | None = None,
) -> None:
    """Write the complete result under its final name and remove the work files.

    Parameters
    ----------
    output : pathlib.Path
        Final file.
    store : TileStore
        All tiles.
    screen : Screen
        Names of rows and columns.
    x, layers : Column
        X and the layers.
    uns : mapping
        Further entries of uns.
    fingerprint : mapping
        Identity of the result.
    scanpy_key : str or None
        Entry of uns that repeats the tables in scanpy's layout.
    """
    shape = (store.n_groups, store.n_genes)
    store.start_writing()  # while p-values are corrected
    with completed_h5ad(store.work_path, output) as file:
        for path, column in {"X": x, **{f"layers/{k}": v for k, v in layers.items()}}.items():
            if column.of_rows is None and np.dtype(column.dtype) == store.fields[column.field]:
                file[path] = file[f"{TABLES}/{column.field}"]  # another name of the same table
                continue
            table = create_array(file, path, shape, np.dtype(column.dtype))
            with closing(prefetch(_strips(store, column))) as strips:
                for start, rows in strips:
                    table[start : start + len(rows)] = rows
        labels = np.array(screen.groups, dtype=object)
        write_frame(
            file, "obs", labels, {screen.perturbation_column: labels}, index_name="perturbation"
        )
        write_frame(file, "var", screen.genes, {}, index_name=screen.gene_name_column or "_index")
        for name, value in uns.items():
            write_value(file["uns"], name, value)
        write_record(file, fingerprint)
        if scanpy_key is not None:
            params = {
                "groupby": screen.perturbation_column,
                "reference": screen.control_label,
                "method": uns["method"],
                "corr_method": uns["pvalue_correction"],
                "use_raw": False,
            }
            write_rank_genes_groups(file, scanpy_key, params)
        require_unchanged(fingerprint)
    store.remove()


def _strips(store: TileStore, column: Column) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the first row of each run of rows of a table, and these rows."""
    step = max(1, STRIP_BYTES // (8 * store.n_genes))
    if column.all_rows:
        step = store.n_groups
    for start in range(0, store.n_groups, step):
        rows = store.rows(column.field, start, min(start + step, store.n_groups))
        yield start, rows if column.of_rows is None else column.of_rows(rows)
