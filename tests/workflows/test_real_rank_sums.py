"""The compiled rank-sum test against SciPy on random pairs of every real screen."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from scipy import stats

import crispyx as cx

N_PAIRS = 200
SCREENS = {
    "papalexi_eccite_299genes": ("perturbation", "non-targeting"),
    "norman2019_crispra_500hvg": ("perturbation", "control"),
    "schraivogel_tapseq": ("perturbation", "rest"),
    "gasperini_highmoi": ("batch", "rest"),
}


@pytest.mark.filterwarnings("ignore::crispyx.errors.CrispyxWarning")  # counts are fine for ranks
@pytest.mark.parametrize("name", SCREENS)
def test_p_values_are_scipys(name: str, data_dir: Path, tmp_path: Path) -> None:
    column, control = SCREENS[name]
    path = data_dir / f"{name}.h5ad"
    found = cx.wilcoxon_test(
        path,
        perturbation_column=column,
        control_label=control,
        min_pct_both=0,
        output_path=tmp_path / "result.h5ad",
    )
    adata = ad.read_h5ad(path)
    labels = adata.obs[column].astype(object).to_numpy()
    labelled = np.array([isinstance(label, str) for label in labels])
    x = adata.X.toarray().astype(np.float64)
    rng = np.random.default_rng(1)
    rows, genes = (rng.integers(0, n, N_PAIRS) for n in found.pvalues.shape)
    for row, gene in zip(rows, genes, strict=True):
        own = labels == found.groups[row]
        others = labelled & ~own if control == "rest" else labels == control
        perturbed, rest = x[own, gene], x[others, gene]
        if np.ptp(np.concatenate([perturbed, rest])) == 0:
            assert (found.statistics[row, gene], found.pvalues[row, gene]) == (0, 1)
            continue
        theirs = stats.mannwhitneyu(perturbed, rest, method="asymptotic", use_continuity=False)
        assert found.u_statistics[row, gene] == theirs.statistic
        # The variance is rounded differently, and z^2 amplifies that in p.
        assert found.pvalues[row, gene] == pytest.approx(theirs.pvalue, rel=1e-12, abs=1e-300)
