"""Guide counts of any size, layout and batch, and guides that cannot be fitted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from faults.test_bad_inputs import assign, guides

import crispyx as cx
from crispyx.errors import CrispyxWarning


def test_guide_counts_above_32_bits_are_kept() -> None:
    assert assign(guides(2.0**33), Path()).X.max() == 2**33


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, np.asarray])
def test_guide_counts_of_any_layout_are_called_alike(form: Any) -> None:
    expected = assign(guides(), Path())
    found = assign(guides(form=form), Path())
    pd.testing.assert_frame_equal(found.obs, expected.obs)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "batches", [[1, 2] * 20, ["a", "b"] * 20, pd.Categorical(["x", "y"] * 20), [True, False] * 20]
)
def test_batches_of_any_type_are_called_alike(batches: Any) -> None:
    expected = assign(
        guides(batch=["p", "q"] * 20), Path(), model="poisson_gauss", batch_key="batch"
    )
    found = assign(guides(batch=batches), Path(), model="poisson_gauss", batch_key="batch")
    assert found.obs["guide_id"].tolist() == expected.obs["guide_id"].tolist()


@pytest.mark.filterwarnings("ignore")
def test_guides_without_batches_are_those_of_one_batch() -> None:
    given = {"model": "poisson_gauss"}
    expected = assign(guides(), Path(), **given)
    found = assign(guides(batch=["only"] * 40), Path(), batch_key="batch", **given)
    assert found.obs["guide_id"].tolist() == expected.obs["guide_id"].tolist()


@pytest.mark.filterwarnings("ignore")
def test_guides_that_cannot_be_fitted_have_a_status_and_a_warning() -> None:
    adata = guides()
    counts = adata.X.toarray()
    counts[:, 2:] = 0
    counts[5, 3] = 3
    adata.X = sp.csr_matrix(counts)
    with pytest.warns(CrispyxWarning):
        scores = cx.gd.score(adata)
    statuses = scores.fits["status"].tolist()
    assert statuses[2] == "no_counts"
    assert statuses[3] == "too_few"
