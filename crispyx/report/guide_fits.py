"""The rows of the table of guides, from guide calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from crispyx.report.content import GuideFit

if TYPE_CHECKING:
    import anndata


def guide_fits(calls: anndata.AnnData) -> list[GuideFit]:
    """Return the row of every guide of what :func:`crispyx.guides.assign` returned.

    Rules have neither threshold nor expected false calls: those columns are empty for them.

    Parameters
    ----------
    calls : anndata.AnnData (n_cells, n_guides)
        Calls.

    Returns
    -------
    list of GuideFit
        In the order of the guides.
    """
    var = calls.var
    counts = calls.X.tocsr()
    seen = np.bincount(counts.indices[counts.data > 0], minlength=len(var))
    nothing = np.full(len(var), np.nan)
    threshold, fdr, bic = (
        var[name].to_numpy(dtype=np.float64) if name in var else nothing
        for name in ("threshold", "expected_fdr", "bic_difference")
    )
    return [
        GuideFit(
            guide=str(guide),
            status=str(status),
            n_seen=int(seen[row]),
            n_called=int(n_called),
            threshold=float(threshold[row]),
            expected_fdr=float(fdr[row]),
            bic_difference=float(bic[row]),
        )
        for row, (guide, status, n_called) in enumerate(
            zip(var.index, var["status"], var["n_cells_assigned"], strict=True)
        )
    ]
