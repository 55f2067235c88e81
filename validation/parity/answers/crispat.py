"""crispat: guide calls, one function and one folder of files a model."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, Any]


def called(arrays: Arrays, files: Arrays, function: str, arguments: dict[str, Any]) -> Arrays:
    """Return called pairs of cell and guide, and the estimates that it keeps of guides."""
    import anndata
    import crispat
    import pandas as pd

    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "crispat"
        # Its fits start from torch's seed and its own.
        getattr(crispat, function)(input_file=files["guides"], output_dir=f"{output}/", **arguments)
        (path,) = output.glob("assignments*.csv")
        calls = pd.read_csv(path)
        tables = [pd.read_csv(path) for path in output.glob("gRNA_estimates*.csv")]
    screen = anndata.read_h5ad(files["guides"], backed="r")
    # Of the models of depth a row is a number of a guide, of the others all numbers of a guide.
    estimates = {
        f"{name} {guide}": np.array([value])
        for table in tables
        if "param" in table
        for guide, name, value in table[["gRNA", "param", "value"]].itertuples(index=False)
    }
    return estimates | {
        "cells": screen.obs_names.get_indexer(calls["cell"]),
        "guides": screen.var_names.get_indexer(calls["gRNA"]),
    }
