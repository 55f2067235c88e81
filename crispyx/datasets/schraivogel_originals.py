"""The Schraivogel screen from its published files: guide counts (h5ad) and expression (CSV)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.atomic import atomic_path
from crispyx._io.disk import reporting_full_disk
from crispyx._io.writer import write_anndata
from crispyx.datasets.download import fetch
from crispyx.datasets.folders import cache_folder
from crispyx.datasets.registry import NON_TARGETING, DatasetRecord
from crispyx.errors import InputError

if TYPE_CHECKING:
    import anndata
    import pandas as pd

MIN_GUIDE_UMI = 5
_PREFIX = "CROPseq_dCas9_DS_"


def guide_target(guide: str) -> str:
    """Return the target a guide of this library is named after."""
    if NON_TARGETING in guide:
        return NON_TARGETING
    return guide.removeprefix(_PREFIX).split("_", 1)[0]


def fetch_screen(
    record: DatasetRecord, cache_dir: str | os.PathLike[str] | None, timeout: float
) -> tuple[Path, Path]:
    """Return the paths of expression and guide counts, from downloads kept in the cache folder.

    Raises
    ------
    MissingFileError
        A published file cannot be had.
    """
    folder = cache_folder(cache_dir) / record.name
    guides_path, csv_path = (fetch(original, folder, timeout) for original in record.originals)
    expression_path = folder / record.expression
    if not expression_path.is_file():
        expression = join_screen(csv_path, guides_path)
        expression.uns["source"] = " and ".join(original.url for original in record.originals)
        with (
            reporting_full_disk(folder, str(expression_path)),
            atomic_path(expression_path) as work,
        ):
            write_anndata(expression, work, compression="gzip")
    return expression_path, guides_path


def join_screen(csv_path: Path, guides_path: Path) -> anndata.AnnData:
    """Return the counts of the cells with exactly one guide at 5 UMIs or more, with labels.

    Parameters
    ----------
    csv_path : pathlib.Path
        Counts with a header line and an index column, cells as rows or as columns.
    guides_path : pathlib.Path
        h5ad file of guide UMI counts, cells x guides.

    Returns
    -------
    anndata.AnnData
        CSR int32 counts, cells in the order of the guide file; obs: batch, guide, n_guides_umi5,
        guide_total_umi, perturbation.

    Raises
    ------
    InputError
        Neither axis of the table holds the barcodes of the guide file.
    """
    import anndata
    import pandas as pd
    import scipy.sparse as sp

    guides = anndata.read_h5ad(guides_path)
    counts = _cells_by_genes(pd.read_csv(csv_path, index_col=0), guides.obs_names, csv_path)
    umi = sp.csr_matrix(guides.X)
    present = umi.multiply(umi >= MIN_GUIDE_UMI).tocsr()
    present.eliminate_zeros()
    n_guides = np.diff(present.indptr)
    rows = np.flatnonzero((n_guides == 1) & guides.obs_names.isin(counts.index))
    names = guides.var_names.to_numpy(dtype=object)[present[rows].indices]
    obs = pd.DataFrame(
        {
            "batch": guides.obs["batch"].to_numpy()[rows],
            "guide": pd.Categorical(names),
            "n_guides_umi5": n_guides[rows].astype(np.int64),
            "guide_total_umi": np.asarray(umi.sum(axis=1)).ravel()[rows].astype(np.int64),
            "perturbation": pd.Categorical([guide_target(name) for name in names]),
        },
        index=guides.obs_names[rows].astype(object),
    )
    matrix = sp.csr_matrix(counts.loc[obs.index].to_numpy(dtype=np.int32))
    var = pd.DataFrame(index=counts.columns.astype(object))
    return anndata.AnnData(matrix, obs=obs, var=var, uns={"control_label": NON_TARGETING})


def _cells_by_genes(table: pd.DataFrame, barcodes: Any, path: Path) -> pd.DataFrame:
    as_rows, as_columns = table.index.isin(barcodes).sum(), table.columns.isin(barcodes).sum()
    if max(as_rows, as_columns) == 0:
        raise InputError(
            f"{str(path)!r}: neither its {len(table)} rows (first {table.index[0]!r}) nor its "
            f"{table.shape[1]} columns (first {table.columns[0]!r}) are named after cells of the "
            f"guide counts (first {barcodes[0]!r}); delete the file to download it again"
        )
    return table if as_rows >= as_columns else table.T
