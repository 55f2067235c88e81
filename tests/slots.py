"""A data set with something in every slot, and the comparison of two such."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anndata
import layouts
import numpy as np
import pandas as pd
import scipy.sparse as sp

MAPPINGS = ("layers", "obsm", "varm", "obsp", "varp")


def rich(counts: np.ndarray, labels: Sequence[Any], form: Any = sp.csr_matrix) -> anndata.AnnData:
    """Return a data set with all slots filled; the last label has cells, ``unused`` has none."""
    n_cells, n_genes = counts.shape
    adata = layouts.in_memory(counts, labels, form)
    column = adata.obs[layouts.COLUMN]
    adata.obs[layouts.COLUMN] = column.cat.add_categories("unused")
    adata.obs["batch"] = [f"batch{i % 3}" for i in range(n_cells)]
    adata.obs["depth"] = counts.sum(axis=1)
    adata.obs["passed"] = counts[:, 0] > 0
    adata.obs["maybe"] = pd.array(
        [None if i % 4 == 0 else i for i in range(n_cells)], dtype="Int64"
    )
    adata.obs.index.name = "barcode"
    adata.var["symbol"] = [f"SYM{j}" for j in range(n_genes)]
    adata.var["chromosome"] = pd.Categorical([f"chr{j}" for j in range(n_genes)])
    adata.layers["sparse rows"] = sp.csr_matrix(counts.astype(np.int64) * 3)
    stored_zeros = sp.csc_matrix(counts)
    stored_zeros.data[::3] = 0
    adata.layers["sparse columns"] = stored_zeros
    adata.layers["dense"] = counts + 0.5
    adata.layers["missing values"] = np.where(counts > 1, np.nan, counts)
    adata.obsm["X_pca"] = np.arange(2.0 * n_cells).reshape(-1, 2)
    adata.obsm["table"] = pd.DataFrame({"a": np.arange(n_cells)}, index=adata.obs_names)
    adata.obsm["guides"] = sp.csr_matrix(counts[:, :2])
    adata.varm["PCs"] = np.arange(3.0 * n_genes).reshape(-1, 3)
    adata.obsp["distances"] = sp.random(n_cells, n_cells, 0.2, format="csr", random_state=0)
    adata.varp["links"] = np.arange(1.0 * n_genes**2).reshape(n_genes, n_genes)
    n_labels = len(adata.obs[layouts.COLUMN].cat.categories)
    adata.uns[f"{layouts.COLUMN}_colors"] = np.array([f"#00000{k}" for k in range(n_labels)])
    adata.uns["note"] = {
        "text": "kept",
        "numbers": np.arange(3),
        "nested": {"sparse": sp.csr_matrix(np.eye(2))},
    }
    more = np.hstack([counts, counts[:, :2]])
    adata.raw = layouts.in_memory(more, labels, sp.csr_matrix)
    adata.raw.varm["loadings"] = np.arange(1.0 * more.shape[1]).reshape(-1, 1)
    return adata


def assert_same_slots(
    found: anndata.AnnData, expected: anndata.AnnData, added_uns: Sequence[str] = ()
) -> None:
    """Compare everything but X."""
    pd.testing.assert_frame_equal(found.obs, expected.obs)
    pd.testing.assert_frame_equal(found.var, expected.var)
    for slot in MAPPINGS:
        have, want = getattr(found, slot), getattr(expected, slot)
        assert set(have) == set(want), slot
        for name in want:
            assert_same_value(have[name], want[name], f"{slot}/{name}")
    assert set(found.uns) == set(expected.uns) | set(added_uns)
    for name in set(expected.uns) - set(added_uns):
        assert_same_value(found.uns[name], expected.uns[name], f"uns/{name}")
    assert (found.raw is None) == (expected.raw is None)
    if expected.raw is not None:
        assert_same_value(found.raw.X, expected.raw.X, "raw/X")
        pd.testing.assert_frame_equal(found.raw.var, expected.raw.var)
        for name in expected.raw.varm:
            assert_same_value(found.raw.varm[name], expected.raw.varm[name], f"raw/varm/{name}")


def assert_same_value(found: Any, expected: Any, where: str) -> None:
    if isinstance(expected, dict):
        assert set(found) == set(expected), where
        for name in expected:
            assert_same_value(found[name], expected[name], f"{where}/{name}")
    elif isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected)
    elif sp.issparse(expected):
        assert sp.issparse(found), where
        assert found.dtype == expected.dtype, where
        assert found.format == expected.format, where
        assert found.nnz == expected.nnz, where
        np.testing.assert_array_equal(found.toarray(), expected.toarray(), err_msg=where)
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype or expected.dtype.kind in "OU", where
        np.testing.assert_array_equal(found, expected, err_msg=where)
    else:
        assert found == expected, where
