"""crispat: guide calls, one function and one folder of files a model."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

Arrays = dict[str, Any]


def called(arrays: Arrays, files: Arrays, function: str, arguments: dict[str, Any]) -> Arrays:
    """Return called pairs of cell and guide."""
    import anndata
    import crispat
    import pandas as pd

    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "crispat"
        # Its fits start from torch's seed and its own.
        getattr(crispat, function)(input_file=files["guides"], output_dir=f"{output}/", **arguments)
        (path,) = output.glob("assignments*.csv")
        calls = pd.read_csv(path)
    screen = anndata.read_h5ad(files["guides"], backed="r")
    return {
        "cells": screen.obs_names.get_indexer(calls["cell"]),
        "guides": screen.var_names.get_indexer(calls["gRNA"]),
    }
