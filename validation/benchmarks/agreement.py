"""How far the results of two tools agree."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

Arrays = Mapping[str, Any]
# One number a pair of cell and guide.
STRIDE = 1 << 32


def of_tests(ours: Arrays, theirs: Arrays) -> dict[str, float]:
    """Compare z and p of all (perturbation, gene) pairs, NaN apart.

    A tool without z, or with another order of groups, is compared in what there is.
    """
    import numpy as np

    for labels in ("perturbations", "genes"):
        if not np.array_equal(ours[labels], theirs[labels]):
            return {f"same {labels}": 0.0}
    found: dict[str, float] = {}
    for name in ("z", "p", "profile"):
        if name not in ours or name not in theirs:
            continue
        difference = np.abs(ours[name] - theirs[name])
        # A statistic is infinite where nothing varies; such values differ by NaN, and are equal.
        both = np.isfinite(difference)
        found[f"max d{name}"] = float(difference[both].max(initial=0))
        one_sided = float(np.mean(np.isnan(ours[name]) != np.isnan(theirs[name])))
        if one_sided:
            found[f"NaN {name} on one side"] = one_sided
    return found


def of_matrices(ours: Arrays, theirs: Arrays) -> dict[str, float]:
    """Compare size, positions and a sample of values of two written matrices."""
    import numpy as np

    found = {"same shape": float(np.array_equal(ours["shape"], theirs["shape"]))}
    if not (found["same shape"] and ours["n_stored"] == theirs["n_stored"]):
        return found | {"d stored": float(ours["n_stored"] - theirs["n_stored"])}
    same = float(np.array_equal(ours["indices"], theirs["indices"]))
    difference = np.abs(ours["values"] - theirs["values"])
    return found | {"same positions": same, "max dx": float(difference.max(initial=0))}


def of_components(ours: Arrays, theirs: Arrays) -> dict[str, float]:
    """Compare variances and the spaces that components span, and say how exact either tool is."""
    import numpy as np

    difference = np.abs(ours["variance"] / theirs["variance"] - 1)
    cosines = np.linalg.svd(ours["loadings"].T @ theirs["loadings"], compute_uv=False)
    sines = np.sqrt(np.maximum(0, 1 - np.minimum(cosines, 1) ** 2))
    return {
        "max relative d variance of 10": float(difference[:10].max()),
        "of all": float(difference.max()),
        "sine of the largest angle": float(sines.max()),
        "residual ours": float(ours["residual"]),
        "residual theirs": float(theirs["residual"]),
    }


def of_calls(ours: Arrays, theirs: Arrays) -> dict[str, float]:
    """Compare called (cell, guide) pairs."""
    return {"Jaccard": jaccard(pairs(ours), pairs(theirs))}


def of_truth(called: Arrays, truth: Arrays, tool: str) -> dict[str, float]:
    """Return precision and recall of called pairs."""
    import numpy as np

    here, there = pairs(called), pairs(truth)
    right = np.intersect1d(here, there, assume_unique=True).size
    return {
        f"precision {tool}": right / here.size if here.size else float("nan"),
        f"recall {tool}": right / there.size if there.size else float("nan"),
    }


def of_published(called: Arrays, counts: str, path: Path, tool: str) -> dict[str, float]:
    """Return the Jaccard index with crispat's published calls, on the guides these cover."""
    import anndata
    import numpy as np
    import pandas as pd

    table = pd.read_csv(path)
    screen = anndata.read_h5ad(counts, backed="r")
    cells = screen.obs_names.get_indexer(table["cell"])
    guides = screen.var_names.get_indexer(table["gRNA"])
    screen.file.close()
    here = pairs(called)
    if table["gRNA"].nunique() < screen.n_vars // 2:  # some models were published in part
        here = here[np.isin(here % STRIDE, guides)]
    return {
        f"Jaccard {tool} and published": jaccard(here, pairs({"cells": cells, "guides": guides}))
    }


def pairs(called: Arrays) -> np.ndarray:
    """Return called pairs as sorted distinct numbers (n_pairs,) int64."""
    import numpy as np

    return np.unique(called["cells"].astype(np.int64) * STRIDE + called["guides"])


def jaccard(here: np.ndarray, there: np.ndarray) -> float:
    """Return the share of pairs in both of those in either; 1 when there are none."""
    import numpy as np

    shared = np.intersect1d(here, there, assume_unique=True).size
    either = here.size + there.size - shared
    return shared / either if either else 1.0
