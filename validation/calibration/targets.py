"""Where each perturbation's own target ranks, by every method."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from scipy import sparse

from validation.calibration.methods import NB_METHODS, depths, nb_table, pvalues

SCREENS = {
    "Papalexi": ("papalexi_eccite_299genes", "bio_rep"),
    "Schraivogel": ("schraivogel_tapseq", None),
}


def on_target(methods: tuple[str, ...]) -> list[dict[str, str]]:
    """Return a row for every target that is measured, with rank and p of each method."""
    import anndata

    rows = []
    folder = Path(os.environ.get("CRISPYX_DATA_DIR", "."))
    for screen, (file, batch) in SCREENS.items():
        path = folder / f"{file}.h5ad"
        if not path.exists():
            continue
        data = anndata.read_h5ad(path)
        counts = sparse.csr_array(data.X).astype(np.float32)
        label = data.obs["perturbation"].astype(str).to_numpy()
        names = ["non-targeting", *sorted(set(label) - {"non-targeting"})]
        labels = np.array([names.index(one) for one in label])
        batches = None if batch is None else data.obs[batch].astype(str).to_numpy()
        tables = {method: pvalues(counts, labels, None, method) for method in methods}
        calibrated = NB_METHODS["calibrated"]
        if batches is not None:
            found = nb_table(counts, labels, batches, calibrated, depths(counts))
            tables["within batches"] = found["pvalue"]
        change = nb_table(counts, labels, None, calibrated, depths(counts))["log_fold_change"]
        genes = list(data.var_names)
        mean = np.asarray(counts[labels == 0].mean(axis=0)).ravel()
        for k, name in enumerate(names[1:]):
            if name not in genes:
                continue
            g = genes.index(name)
            row = {
                "screen": screen,
                "target": name,
                "mean": f"{mean[g]:.2f}",
                "log2 fold change": f"{change[k, g] / np.log(2):.2f}",
            }
            for method, table in tables.items():
                row[method] = f"{_rank(table[k], g)} ({table[k, g]:.0e})"
            rows.append(row)
    return rows


def _rank(pvalues_of_genes: np.ndarray, gene: int) -> int:
    return 1 + int(np.count_nonzero(pvalues_of_genes < pvalues_of_genes[gene]))
