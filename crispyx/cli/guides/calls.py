"""Calls as files, as facts and as a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crispyx.cli.guides.outputs import Output, stream
from crispyx.cli.guides.statuses import statuses

if TYPE_CHECKING:
    import anndata
    import pandas as pd


def write_calls(calls: Any, output: Output, *, as_long: bool = False) -> None:
    """Write calls in the format of their output.

    Parameters
    ----------
    calls : anndata.AnnData or pyarrow.RecordBatch
        What ``assign`` or ``decide`` returned.
    output : Output
        Where to.
    as_long : bool
        One row per call instead of one per cell.
    """
    import pyarrow as pa

    from crispyx import guides as gd
    from crispyx.guides.output import call_rows

    if not output.is_stdout:
        gd.write_calls(calls, output.path, long=as_long, force=output.force)
    elif isinstance(calls, pa.RecordBatch):
        stream(pa.Table.from_batches([calls]))
    else:
        stream(pa.Table.from_pandas(call_rows(calls, long=as_long), preserve_index=False))


def guide_table(fits: pd.DataFrame) -> pd.DataFrame:
    """Return the table of one row per guide, names first."""
    return fits.reset_index(names="guide_id")


def described(calls: anndata.AnnData) -> dict[str, Any]:
    """Return what there is to say of calls."""
    model = dict(calls.uns["crispyx_guides"])
    several = int(calls.obs["is_multi_infected"].sum())
    none = int(calls.obs["is_unassigned"].sum())
    return {
        "model": str(model["model"]),
        "model_params": _plain(model["model_params"]),
        "version": str(model["version"]),
        "n_cells": calls.n_obs,
        "n_guides": calls.n_vars,
        "n_calls": int(calls.layers["assigned"].sum()),
        "n_cells_one_guide": calls.n_obs - none - several,
        "n_cells_several_guides": several,
        "n_cells_no_guide": none,
        "guides_by_status": statuses(calls.var),
    }


def sentence(facts: dict[str, Any]) -> str:
    """Return the facts of calls for people."""
    kinds = ", ".join(f"{n:,} {status}" for status, n in facts["guides_by_status"].items())
    return (
        f"{facts['model']}: {facts['n_cells']:,} cells x {facts['n_guides']:,} guides ({kinds}); "
        f"{facts['n_cells_one_guide']:,} cells with one guide, "
        f"{facts['n_cells_several_guides']:,} with several, {facts['n_cells_no_guide']:,} with none"
    )


def _plain(parameters: Any) -> dict[str, Any]:
    """Return parameters as JSON knows them, NumPy's scalars included."""
    return {
        str(name): value.item() if hasattr(value, "item") else value
        for name, value in dict(parameters).items()
    }
