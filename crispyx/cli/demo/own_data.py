"""The next commands, for the user's own data."""

from __future__ import annotations

OWN_DATA = """\
import crispyx as cx

# guide UMI counts (cells x guides) and expression counts (cells x genes), the same barcodes
calls = cx.gd.assign("guide_counts.h5ad", model="poisson_gauss")
cx.pl.guide_summary(calls, savepath="guide_calls.png")
guide_to_target = {"MYC_guide1": "MYC", "MYC_guide2": "MYC", "NT_guide1": "non-targeting"}
cells = cx.gd.add_to("expression.h5ad", calls, targets=guide_to_target,
                     control_label="non-targeting")
kept = cx.pp.qc_summary(cells, perturbation_column="perturbation",
                        control_label="non-targeting")
logs = cx.pp.normalize_total_log1p(kept)
result = cx.tl.rank_genes_groups(logs, perturbation_column="perturbation",
                                 control_label="non-targeting", method="wilcoxon")
cx.pl.volcano(data=result, group="MYC", savepath="volcano_MYC.png")
"""
