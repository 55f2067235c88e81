"""Several files joined into one against anndata.concat."""

from __future__ import annotations

import anndata
import layouts
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import crispyx as cx
from crispyx._io import joined
from crispyx.errors import InputError

FORMS = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "dense": np.asarray}


def part(seed: int, n_genes: int, form: str, dtype: str) -> anndata.AnnData:
    values, labels = layouts.count_screen(n_cells=40 + seed, n_genes=n_genes, seed=seed)
    adata = layouts.in_memory(values.astype(dtype), labels, FORMS[form])
    adata.obs_names = [f"{seed}-{name}" for name in adata.obs_names]
    order = np.random.default_rng(seed).permutation(n_genes)
    adata = adata[:, order].copy()
    adata.var["kind"] = [f"kind of {name}" for name in adata.var_names]
    adata.layers["twice"] = FORMS[form](2 * values[:, order])
    adata.layers[f"only {seed}"] = values[:, order]
    adata.obsm["X_pca"] = values[:, :3]
    adata.uns["same"] = "everywhere"
    adata.uns["differs"] = seed
    return adata


@pytest.fixture(params=[("csr", "csr"), ("csr", "csc"), ("dense", "dense"), ("csc", "dense")])
def parts(request, tmp_path, monkeypatch) -> tuple[list, list]:
    monkeypatch.setattr(joined, "STREAM_VALUES", 37)
    first, second = request.param
    held = [part(0, 13, first, "f4"), part(1, 11, second, "f8")]
    paths = [tmp_path / "lane1.h5ad", tmp_path / "lane2.h5ad"]
    for adata, path in zip(held, paths, strict=True):
        adata.write_h5ad(path)
    return held, paths


@pytest.mark.parametrize("join", ["inner", "outer"])
def test_joined_file_is_what_anndata_makes_of_the_parts(parts, tmp_path, join) -> None:
    held, paths = parts
    expected = anndata.concat(
        held,
        join=join,
        label="file",
        keys=["lane1", "lane2"],
        merge="same",
        uns_merge="same",
        fill_value=0,
    )
    found = cx.pp.concat_h5ad(paths, tmp_path / "all.h5ad", join=join).to_memory()
    pd.testing.assert_frame_equal(found.obs, expected.obs, check_categorical=False)
    pd.testing.assert_frame_equal(found.var, expected.var, check_dtype=False)
    for name in ("X", "twice"):
        have = found.X if name == "X" else found.layers[name]
        want = expected.X if name == "X" else expected.layers[name]
        have, want = (m.toarray() if sp.issparse(m) else np.asarray(m) for m in (have, want))
        np.testing.assert_array_equal(have, want, err_msg=name)
    assert set(found.layers) == {"twice"}
    np.testing.assert_array_equal(found.obsm["X_pca"], expected.obsm["X_pca"])
    assert found.uns["same"] == "everywhere"
    assert "differs" not in found.uns


def test_repeated_names_get_that_of_their_file_or_the_suffix_asked_for(tmp_path) -> None:
    paths = [layouts.write_h5ad(tmp_path / f"{n}.h5ad", *layouts.count_screen()) for n in "ab"]
    found = cx.pp.concat_h5ad(paths, tmp_path / "all.h5ad").obs_names
    assert list(found[[0, -1]]) == ["a:cell0", "b:cell60"]
    found = cx.pp.concat_h5ad(paths, tmp_path / "dash.h5ad", index_unique="-").obs_names
    assert list(found[[0, -1]]) == ["cell0-a", "cell60-b"]


def test_interrupted_run_is_continued_to_the_same_file(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(joined, "STREAM_VALUES", 37)
    paths = [layouts.write_h5ad(tmp_path / f"{n}.h5ad", *layouts.count_screen()) for n in "ab"]
    expected = cx.pp.concat_h5ad(paths, tmp_path / "whole.h5ad").to_memory()
    placed, calls = joined._placed, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return placed(*args)

    monkeypatch.setattr(joined, "_placed", interrupted)
    output = tmp_path / "again.h5ad"
    with pytest.raises(KeyboardInterrupt):
        cx.pp.concat_h5ad(paths, output)
    assert not output.exists()
    found = cx.pp.concat_h5ad(paths, output, resume=True).to_memory()
    np.testing.assert_array_equal(found.X.toarray(), expected.X.toarray())
    assert len(calls) < 2 * len(paths) * 61


def test_parts_that_cannot_be_joined_are_refused(tmp_path) -> None:
    values, labels = layouts.count_screen()
    one = layouts.write_h5ad(tmp_path / "a.h5ad", values, labels)
    names = [f"other{j}" for j in range(values.shape[1])]
    other = layouts.write_h5ad(tmp_path / "b.h5ad", values, labels, genes=names)
    for given, options in (
        ([one], {}),
        ([one, other], {}),
        ([one, other], {"join": "left"}),
        ([one, other], {"keys": ["a", "a"]}),
    ):
        with pytest.raises(InputError):
            cx.pp.concat_h5ad(given, tmp_path / "all.h5ad", **options)
    assert not (tmp_path / "all.h5ad").exists()
