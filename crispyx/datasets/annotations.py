"""Annotations of a simulated screen: tables of cells, genes and guides, and the truth file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crispyx._io.writer import write_anndata
from crispyx.datasets.cell_blocks import Cells
from crispyx.datasets.registry import NON_TARGETING
from crispyx.datasets.screen_model import ScreenTables

if TYPE_CHECKING:
    import h5py
    import pandas as pd


def cell_table(cells: Cells, tables: ScreenTables) -> pd.DataFrame:
    """Return the truth about every cell, indexed by barcode.

    Columns: batch, size_factor, n_guides, and guide and perturbation, which are missing unless the
    cell has exactly one guide.
    """
    import pandas as pd

    n_cells = len(cells.batch)
    per_cell = np.diff(cells.guides.indptr)
    single = np.flatnonzero(per_cell == 1)
    guide = np.full(n_cells, -1)
    guide[single] = cells.guides.indices[cells.guides.indptr[single]]
    labels = [*tables.perturbations, NON_TARGETING]
    label_of_guide = np.where(
        tables.guides.perturbation < 0, len(labels) - 1, tables.guides.perturbation
    )
    label = np.where(guide < 0, -1, label_of_guide[guide])
    width = len(str(n_cells))
    n_batches = int(cells.batch.max()) + 1
    return pd.DataFrame(
        {
            "batch": pd.Categorical.from_codes(
                cells.batch, [f"batch_{b}" for b in range(1, n_batches + 1)]
            ),
            "size_factor": cells.size_factor,
            "n_guides": per_cell,
            "guide": pd.Categorical.from_codes(guide, tables.guides.names),
            "perturbation": pd.Categorical.from_codes(label, labels),
        },
        index=pd.Index([f"cell_{i:0{width}d}" for i in range(1, n_cells + 1)], dtype=object),
    )


def gene_table(tables: ScreenTables) -> pd.DataFrame:
    """Return the parameters of every gene, indexed by name."""
    import pandas as pd

    genes = tables.genes
    return pd.DataFrame(
        {"mean": genes.mean, "dispersion": genes.dispersion},
        index=pd.Index(genes.names, dtype=object),
    )


def guide_table(tables: ScreenTables) -> pd.DataFrame:
    """Return target, efficacy and share of every guide, indexed by name."""
    import pandas as pd

    guides = tables.guides
    return pd.DataFrame(
        {
            "target": pd.Categorical(tables.guide_targets),
            "efficacy": guides.efficacy,
            "share": guides.share,
        },
        index=pd.Index(guides.names, dtype=object),
    )


def write_annotations(
    file: h5py.File, obs: pd.DataFrame, var: pd.DataFrame, uns: dict[str, Any]
) -> None:
    """Write obs, var and entries of uns into an AnnData file."""
    try:
        from anndata.io import write_elem
    except ImportError:  # anndata before 0.11
        from anndata.experimental import write_elem

    write_elem(file, "obs", obs)
    write_elem(file, "var", var)
    for name, value in uns.items():
        write_elem(file, f"uns/{name}", value)


def write_truth(
    path: Path, tables: ScreenTables, cells: Cells, table: pd.DataFrame, parameters: dict[str, Any]
) -> None:
    """Write the planted log2 effects, perturbations x genes, and the truth about the cells."""
    import anndata
    import pandas as pd

    obs = pd.DataFrame(index=pd.Index(tables.perturbations, dtype=object, name="perturbation"))
    truth = anndata.AnnData(
        tables.log2_effects,
        obs=obs,
        var=gene_table(tables),
        varm={"batch_factor": tables.genes.batch_factor.T},
        uns={
            "cells": table,
            "guides": guide_table(tables),
            "cell_guides": cells.guides,
            "control_label": NON_TARGETING,
            "simulation": parameters,
        },
    )
    write_anndata(truth, path)
