"""Models are compared on the same counts, and their consensus is a call like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import crispyx as cx
from crispyx.errors import InputError, InputTypeError

COUNTS = np.array([[9, 0, 0], [6, 8, 0], [7, 7, 1], [0, 0, 4], [0, 2, 1], [0, 0, 0]])
MODELS = ["umi", "max", "ratio"]


def screen() -> ad.AnnData:
    obs = pd.DataFrame({"lane": list("aabbcc")}, index=[f"AAAC{i}-1" for i in range(6)])
    return ad.AnnData(sp.csr_matrix(COUNTS), obs=obs, var=pd.DataFrame(index=["A", "B", "C"]))


def pairs(calls: ad.AnnData) -> set[tuple[int, int]]:
    return set(zip(*calls.layers["assigned"].nonzero(), strict=True))


def singles(calls: ad.AnnData) -> set[tuple[int, int]]:
    cells = [cell for cell, _ in pairs(calls)]
    return {(cell, guide) for cell, guide in pairs(calls) if cells.count(cell) == 1}


def test_agreement_is_the_jaccard_index_of_pairs() -> None:
    found = cx.gd.compare(screen(), MODELS)
    alone = {name: cx.gd.assign(screen(), name) for name in MODELS}
    assert found.models == MODELS
    for table, of in ((found.agreement, pairs), (found.single_agreement, singles)):
        assert table.index.tolist() == table.columns.tolist() == MODELS
        for a in MODELS:
            for b in MODELS:
                left, right = of(alone[a]), of(alone[b])
                assert table.loc[a, b] == len(left & right) / len(left | right)
    assert 0 < found.agreement.loc["umi", "max"] < 1
    assert found.n_calls.to_dict() == {name: len(pairs(alone[name])) for name in MODELS}
    assert found.n_cells_assigned.to_dict() == {"umi": 3, "max": 4, "ratio": 5}
    for name in MODELS:
        pd.testing.assert_frame_equal(found.calls[name].obs, alone[name].obs)


@pytest.mark.parametrize("needed", [None, 1, 2, 3])
def test_consensus_is_what_enough_models_call(needed: int | None) -> None:
    found = cx.gd.compare(screen(), MODELS, min_models=needed)
    votes = sum((found.calls[name].layers["assigned"].toarray() for name in MODELS), 0 * COUNTS)
    consensus = found.consensus
    np.testing.assert_array_equal(consensus.layers["votes"].toarray(), votes)
    expected = votes >= (needed or 2)
    np.testing.assert_array_equal(consensus.layers["assigned"].toarray() > 0, expected)
    assert consensus.obs["n_guides_detected"].tolist() == expected.sum(1).tolist()
    assert consensus.obs["is_unassigned"].tolist() == (~expected.any(1)).tolist()
    assert consensus.obs["assignment_confidence"].iloc[0] == 1
    assert consensus.obs["lane"].tolist() == list("aabbcc")
    np.testing.assert_array_equal(consensus.X.toarray(), COUNTS)
    note = consensus.uns["crispyx_guides"]
    assert (note["model"], note["model_params"]["min_models"]) == ("consensus", needed or 2)


def test_consensus_is_written_and_joined_like_calls(tmp_path: Path) -> None:
    consensus = cx.gd.compare(screen(), MODELS).consensus
    assert list(consensus.obs.columns) == list(cx.gd.assign(screen(), "umi").obs.columns)
    path = cx.gd.write_calls(consensus, tmp_path / "consensus.h5ad")
    genes = ad.AnnData(sp.eye(6, 2, format="csr"), obs=pd.DataFrame(index=consensus.obs_names))
    out = [
        cx.gd.add_to(genes, given, control_label="C", output_path=tmp_path / "j.h5ad", force=True)
        for given in (consensus, path)
    ]
    for joined in out:
        assert joined.obs["guide"].dropna().tolist() == ["A", "B", "C", "B"]
    assert out[0].uns["crispyx_guides_join"]["model"] == "consensus"


def test_settings_of_one_model_are_compared_under_their_names() -> None:
    found = cx.gd.compare(
        screen(), {"low": {"model": "umi", "umi_threshold": 2}, "umi": {}}, min_models=1
    )
    assert found.n_calls.to_dict() == {"low": 7, "umi": 5}
    assert found.agreement.loc["low", "umi"] == 5 / 7
    assert repr(found) == "Comparison(low: 7, umi: 5; consensus: 7)"


def test_models_that_call_nothing_have_no_agreement() -> None:
    high = {name: {"model": "umi", "umi_threshold": 100} for name in ("a", "b")}
    found = cx.gd.compare(screen(), high)
    assert found.agreement.isna().all(axis=None)
    assert found.consensus.obs["is_unassigned"].all()


@pytest.mark.parametrize(
    ("models", "given", "error", "said"),
    [
        (["umi"], {}, InputError, "give at least two"),
        ([], {}, InputError, "give at least two"),
        (["umi", "umi"], {}, InputError, "'umi' stands twice"),
        (["umi", "best"], {}, InputError, "model is 'best'"),
        ("umi", {}, InputTypeError, "models is 'umi'"),
        ({"a": "umi", "b": "max"}, {}, InputTypeError, "'a' to 'umi'"),
        (["umi", "max"], {"min_models": 3}, InputError, "from 1 to 2"),
        (["umi", "max"], {"min_models": 0}, InputError, "from 1 to 2"),
        (["umi", "max"], {"min_models": 1.5}, InputError, "from 1 to 2"),
        (["umi", "max"], {"min_models": True}, InputError, "from 1 to 2"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    models: Any, given: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        cx.gd.compare(screen(), models, **given)


def test_models_agree_on_schraivogel(data_dir: Path) -> None:
    path = data_dir / "schraivogel_gRNA_counts.h5ad"
    found = cx.gd.compare(path, ["poisson_gauss", "gauss", "umi"])
    assert found.agreement.min(axis=None) > 0.95
    assert (found.single_agreement >= 0.95).all(axis=None)
    assert found.n_calls["umi"] == 23_956
    assert found.n_calls.min() <= found.consensus.layers["assigned"].nnz <= found.n_calls.max()
    expected = cx.gd.assign(path, "gauss")
    assert (found.calls["gauss"].layers["assigned"] != expected.layers["assigned"]).nnz == 0
