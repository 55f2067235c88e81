"""kaichi: guide calls."""

from __future__ import annotations

from typing import Any

import numpy as np

Arrays = dict[str, Any]


def called(arrays: Arrays, files: Arrays, model: str) -> Arrays:
    """Return called pairs of cell and guide."""
    import kaichi

    pairs = kaichi.assign(files["guides"], model=model, n_jobs=1).layers["assigned"].tocoo()
    there = pairs.data != 0
    return {"cells": np.asarray(pairs.row[there]), "guides": np.asarray(pairs.col[there])}
