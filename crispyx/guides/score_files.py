"""Scores as an Arrow table, and in files."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx.errors import InputError, MissingFileError
from crispyx.guides.arrow_files import arrow_kind, read_arrow, write_arrow
from crispyx.guides.counts import CalledCounts

if TYPE_CHECKING:
    import pyarrow as pa

    from crispyx.guides.score import ScoreResult

METADATA = b"crispyx_guide_scores"
FORMAT = 1


def scores_as_table(scores: ScoreResult) -> pa.Table:
    """Return what :meth:`crispyx.guides.ScoreResult.to_arrow` returns."""
    import pandas as pd
    import pyarrow as pa

    counts = scores._scored
    offsets = pa.array(counts.ptr.astype(np.int64, copy=False))
    columns = {
        "guide": pa.array(counts.guides.astype(np.int32, copy=False)),
        "umi_count": pa.array(counts.counts),
        "log_odds": pa.array(scores._log_odds),
    }
    lists = {
        name: pa.LargeListArray.from_arrays(offsets, values) for name, values in columns.items()
    }
    fits = scores.fits.reset_index(names="guide_id")
    fits["status"] = fits["status"].astype(str)
    described = {
        "format": FORMAT,
        "model": scores.model,
        "model_params": scores.model_params,
        "version": scores.version,
        "fits": _as_text(pa.Table.from_pandas(fits, preserve_index=False)),
    }
    if scores.batch_fits is not None:
        table = pa.Table.from_pandas(pd.DataFrame(scores.batch_fits), preserve_index=False)
        described["batch_fits"] = _as_text(table)
    barcodes = pa.array(scores.barcodes, type=pa.large_string())
    table = pa.table({"cell_barcode": barcodes} | lists)
    return table.replace_schema_metadata({METADATA: json.dumps(described)})


def write_scores(table: pa.Table, path: Path) -> Path:
    """Write a table of scores; see :meth:`crispyx.guides.ScoreResult.save`."""
    write_arrow(table, path)
    return path


def read_scores(path: Path) -> dict[str, Any]:
    """Return the fields of a :class:`crispyx.guides.ScoreResult` that was saved."""
    arrow_kind(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file; write it with ScoreResult.save")
    table = read_arrow(path)
    metadata = (table.schema.metadata or {}).get(METADATA)
    if metadata is None:
        raise InputError(f"{path}: holds no guide scores; write them with ScoreResult.save")
    return _from_table(table, json.loads(metadata), path)


def _from_table(table: pa.Table, described: dict[str, Any], path: Path) -> dict[str, Any]:
    import pandas as pd

    if described.get("format") != FORMAT:
        raise InputError(
            f"{path}: guide scores of format {described.get('format')!r}, this version reads "
            f"{FORMAT}; score again"
        )
    fits = _from_text(described["fits"]).to_pandas().set_index("guide_id")
    fits.index.name = None
    fits["status"] = pd.Categorical(fits["status"])
    columns = [table[name].combine_chunks() for name in ("guide", "umi_count", "log_odds")]
    ptr = columns[0].offsets.to_numpy().astype(np.int64, copy=False)
    guide, counts, log_odds = (column.flatten().to_numpy() for column in columns)
    none = np.zeros(len(guide), dtype=bool)
    batch_fits = described.get("batch_fits")
    return {
        "model": described["model"],
        "model_params": described["model_params"],
        "barcodes": np.array(table["cell_barcode"].to_pylist(), dtype=object),
        "guides": fits.index.to_numpy(),
        "fits": fits,
        "version": described["version"],
        "_scored": CalledCounts((len(ptr) - 1, len(fits)), ptr - ptr[0], guide, counts, none, none),
        "_log_odds": log_odds,
        "batch_fits": None if batch_fits is None else _from_text(batch_fits).to_pandas(),
    }


def _as_text(table: pa.Table) -> str:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return base64.b64encode(sink.getvalue().to_pybytes()).decode("ascii")


def _from_text(text: str) -> pa.Table:
    import pyarrow as pa

    return pa.ipc.open_stream(base64.b64decode(text)).read_all()
