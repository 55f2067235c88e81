"""Several files joined into one against anndata.concat."""

from __future__ import annotations

import warnings

import anndata
import layouts
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import slots

import crispyx as cx
from crispyx._io import joined
from crispyx.errors import CrispyxWarning, InputError

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
    links = sp.random(len(values), len(values), 0.1, format="csr", random_state=seed)
    adata.obsp["links"] = links
    adata.varp["pairs"] = np.ones((n_genes, n_genes))
    more = np.hstack([values, values[:, :2]])
    adata.raw = layouts.in_memory(more, labels, FORMS[form])
    adata.raw.varm["loadings"] = np.arange(1.0 * more.shape[1]).reshape(-1, 1)
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


@pytest.mark.filterwarnings("ignore:Only some AnnData:UserWarning")
@pytest.mark.parametrize(("join", "pairwise"), [("inner", False), ("outer", True)])
def test_joined_file_is_what_anndata_makes_of_the_parts(parts, tmp_path, join, pairwise) -> None:
    held, paths = parts
    expected = anndata.concat(
        held,
        join=join,
        label="file",
        keys=["lane1", "lane2"],
        merge="same",
        uns_merge="same",
        fill_value=0,
        pairwise=pairwise,
    )
    output = tmp_path / "all.h5ad"
    found = cx.pp.concat_h5ad(paths, output, join=join, pairwise=pairwise).to_memory()
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
    assert set(found.obsp) == set(expected.obsp) == ({"links"} if pairwise else set())
    for name, table in expected.obsp.items():
        np.testing.assert_array_equal(found.obsp[name].toarray(), table.toarray())
    assert set(found.varp) == set(expected.varp)
    raws = (m.toarray() if sp.issparse(m) else m for m in (found.raw.X, expected.raw.X))
    np.testing.assert_array_equal(*raws)
    # Of var and varm of raw, anndata keeps nothing; here what is the same, as of var and varm.
    raws = [adata.raw.to_adata() for adata in held]
    for adata, raw in zip(held, raws, strict=True):
        raw.varm.update(adata.raw.varm)
    merged = anndata.concat(raws, join=join, merge="same")
    pd.testing.assert_frame_equal(found.raw.var, merged.var)
    assert set(found.raw.varm) == set(merged.varm)
    for name, table in merged.varm.items():
        np.testing.assert_array_equal(found.raw.varm[name], table)


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


def test_raw_is_left_out_where_one_lacks_it_or_it_is_not_wanted(tmp_path) -> None:
    held = [part(0, 13, "csr", "f4"), part(1, 13, "csr", "f4")]
    assert cx.pp.concat_h5ad(held, tmp_path / "no.h5ad", raw=False).to_memory().raw is None
    assert cx.pp.concat_h5ad(held, tmp_path / "yes.h5ad").to_memory().raw is not None
    held[1].raw = None
    with pytest.warns(CrispyxWarning, match="only some"):
        found = cx.pp.concat_h5ad(held, tmp_path / "some.h5ad")
    assert found.to_memory().raw is None


@pytest.mark.parametrize("form", ["csr", "csc", "dense"])
def test_cells_that_files_share_are_written_once_named_apart_or_refused(tmp_path, form) -> None:
    values, labels = layouts.count_screen()
    whole = layouts.in_memory(values, labels, FORMS[form])
    whole.layers["twice"] = FORMS[form](2 * values)
    whole.raw = whole.copy()
    first, second = whole[:40].copy(), whole[[*range(30, 61, 2), 5, 3]].copy()
    second = second[:, ::-1].copy()
    second.var_names = [*second.var_names[:-1], "a gene of its own"]
    paths = [tmp_path / "a.h5ad", tmp_path / "b.h5ad"]
    for adata, path in zip((first, second), paths, strict=True):
        adata.write_h5ad(path)
    with pytest.raises(InputError, match=r"'cell30' of .*b.h5ad.* is in .*a.h5ad"):
        cx.pp.concat_h5ad(paths, tmp_path / "o.h5ad", shared_cells="refuse")
    named = cx.pp.concat_h5ad(paths, tmp_path / "named.h5ad")
    assert named.shape[0] == 58
    found = cx.pp.concat_h5ad(paths, tmp_path / "o.h5ad", shared_cells="first").to_memory()
    once = [*range(40), *range(40, 61, 2)]
    assert list(found.obs_names) == [f"cell{i}" for i in once]
    assert list(found.obs["file"]) == ["a"] * 40 + ["b"] * 11
    genes = whole.var_names.get_indexer(found.var_names)
    assert len(genes) == values.shape[1] - 1
    for table, expected in (
        (found.X, values[np.ix_(once, genes)]),
        (found.layers["twice"], 2 * values[np.ix_(once, genes)]),
        (found.raw.X, values[once]),
    ):
        np.testing.assert_array_equal(table.toarray() if sp.issparse(table) else table, expected)


def test_a_file_whose_cells_are_all_in_others_adds_none(tmp_path) -> None:
    values, labels = layouts.count_screen()
    whole = layouts.in_memory(values, labels, sp.csr_matrix)
    held = [whole[:20].copy(), whole, whole[40:].copy()]
    options = {"shared_cells": "first", "keys": ["a", "b", "c"], "label": "lane"}
    found = cx.pp.concat_h5ad(held, tmp_path / "o.h5ad", **options).to_memory()
    np.testing.assert_array_equal(found.X.toarray(), values)
    assert list(found.obs["lane"]) == ["a"] * 20 + ["b"] * 41


def test_cells_of_one_name_that_differ_are_not_taken_for_the_same(tmp_path) -> None:
    values, labels = layouts.count_screen()
    held = [layouts.in_memory(matrix, labels, sp.csr_matrix) for matrix in (values, values.copy())]
    held[1].X[7, 2] += 1
    with pytest.raises(InputError, match=r"'cell7' .* has other values"):
        cx.pp.concat_h5ad(held, tmp_path / "o.h5ad", shared_cells="first")
    assert not (tmp_path / "o.h5ad").exists()


def test_stores_are_joined_into_a_store(tmp_path) -> None:
    pytest.importorskip("zarr")
    held = [part(0, 13, "csr", "f4"), part(1, 13, "csc", "f4")]
    paths = [tmp_path / "a.zarr", tmp_path / "b.zarr"]
    for adata, path in zip(held, paths, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of formats to come
            adata.write_zarr(path)
    expected = cx.pp.concat_h5ad(held, tmp_path / "o.h5ad", keys=["a", "b"], pairwise=True)
    cx.pp.concat_h5ad(paths, tmp_path / "o.zarr", pairwise=True)
    found = anndata.read_zarr(tmp_path / "o.zarr")
    slots.assert_same_slots(found, expected.to_memory(), added_uns=["crispyx"])
    np.testing.assert_array_equal(found.X.toarray(), expected.to_memory().X.toarray())
