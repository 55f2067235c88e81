"""illico: rank sums."""

from __future__ import annotations

from typing import Any

import numpy as np

Arrays = dict[str, Any]


def rank_sums(arrays: Arrays, files: Arrays, control: str, is_log1p: bool) -> Arrays:
    """Test all perturbations without a continuity correction."""
    import anndata
    import illico

    tests = illico.asymptotic_wilcoxon(
        anndata.read_h5ad(files["screen"]),
        is_log1p=is_log1p,
        group_keys="perturbation",
        reference=control,
        n_threads=1,
        use_continuity=False,
        tie_correct=True,
    )
    score = next(name for name in tests.columns if name.startswith("z"))
    found = {}
    for name, column in (("z", score), ("p", "p_value")):
        table = tests[column].unstack().drop(index=control, errors="ignore").sort_index()
        found[name] = table[sorted(table.columns)].to_numpy(dtype=float)
    return found | {"groups": np.array(table.index, dtype=str)}
