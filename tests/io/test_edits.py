"""Elements of a file are replaced whole, and a killed process leaves the file as it was."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import anndata
import h5py
import layouts
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import slots

from crispyx._io.edits import replace_elements
from crispyx.data import (
    drop_file_cache,
    load_obs,
    load_var,
    normalise_perturbation_labels,
    standardise_gene_names,
    standardize_dataset,
    write_obs,
    write_obsm_to_h5ad,
    write_obsp_to_h5ad,
    write_uns_dict_to_h5ad,
    write_var,
    write_varm_to_h5ad,
)
from crispyx.errors import InputError, MissingColumnError, OutputBusyError, OutputExistsError


@pytest.fixture(scope="module")
def screen() -> Any:
    return layouts.count_screen()


@pytest.fixture
def path(tmp_path: Path, screen: Any) -> Path:
    slots.rich(*screen).write_h5ad(tmp_path / "in.h5ad")
    return tmp_path / "in.h5ad"


@pytest.mark.parametrize("axis", ["obs", "var"])
def test_new_table_replaces_the_old_and_nothing_else_changes(axis: str, path: Path) -> None:
    expected = anndata.read_h5ad(path)
    load, write = (load_obs, write_obs) if axis == "obs" else (load_var, write_var)
    table = load(path)
    table["new"] = np.arange(len(table))
    table["text"] = ["a", None] * (len(table) // 2) + ["b"] * (len(table) % 2)
    table = table.drop(columns=table.columns[0])
    table.index = [f"renamed{i}" for i in range(len(table))]
    write(str(path), table)
    found = anndata.read_h5ad(path)
    again = getattr(found, axis)
    assert list(again.columns) == list(table.columns)
    assert again.index.tolist() == table.index.tolist()
    assert again["text"].tolist()[0] == "a"
    assert again["text"].isna().sum() == len(table) // 2
    pd.testing.assert_series_equal(again["new"], table["new"])
    if axis == "obs":
        assert found.obsm["table"].index.tolist() == table.index.tolist()
    setattr(found, axis, getattr(expected, axis))
    slots.assert_same_slots(found, expected)
    np.testing.assert_array_equal(found.X.toarray(), expected.X.toarray())
    with pytest.raises(ValueError, match=f"the new {axis} has 3 rows but that of .* has"):
        write(path, table.iloc[:3])


def test_arrays_are_written_replaced_and_read_back(path: Path) -> None:
    coordinates, loadings = np.random.default_rng(0).normal(size=(61, 5)), np.ones((13, 2))
    graph = sp.random(61, 61, 0.1, format="csc", random_state=1)
    for scale in (1, 2):
        write_obsm_to_h5ad(path, "X_pca", coordinates * scale)
        write_varm_to_h5ad(path, "PCs new", loadings * scale)
        write_obsp_to_h5ad(path, "connectivities", graph * scale)
        found = anndata.read_h5ad(path)
        np.testing.assert_array_equal(found.obsm["X_pca"], coordinates * scale)
        np.testing.assert_array_equal(found.varm["PCs new"], loadings * scale)
        assert found.obsp["connectivities"].format == "csr"
        np.testing.assert_array_equal(
            found.obsp["connectivities"].toarray(), graph.toarray() * scale
        )


def test_dict_with_anything_in_it_is_read_back_as_it_was(path: Path) -> None:
    value = {
        "text": "a",
        "number": 3,
        "fraction": 0.5,
        "flag": True,
        "array": np.arange(4),
        "names": np.array(["x", "y"], dtype=object),
        "nested": {"deeper": {"one": 1.0}, "matrix": sp.csr_matrix(np.eye(2))},
    }
    write_uns_dict_to_h5ad(path, "pca", {"old": 1})
    write_uns_dict_to_h5ad(path, "pca", value)
    slots.assert_same_value(anndata.read_h5ad(path).uns["pca"], value, "uns/pca")


@pytest.mark.parametrize(
    ("write", "value", "message"),
    [
        (write_obsm_to_h5ad, np.ones((60, 2)), r"shape \(60, 2\) but obs of .* has 61"),
        (write_obsm_to_h5ad, np.ones(61), r"shape \(61,\)"),
        (write_varm_to_h5ad, np.ones((61, 2)), r"but var of .* has 13"),
        (write_obsp_to_h5ad, sp.eye(13), r"shape \(13, 13\) but .* has 61 cells"),
        (write_uns_dict_to_h5ad, [1], "is a list; give a dict"),
    ],
)
def test_value_of_another_shape_leaves_the_file_alone(write, value, message, path) -> None:
    before = path.read_bytes()
    with pytest.raises(InputError, match=message):
        write(path, "name", value)
    assert path.read_bytes() == before
    with pytest.raises(InputError, match=r"give a name without '/'"):
        write_uns_dict_to_h5ad(path, "a/b", {})


def test_error_while_writing_leaves_every_byte(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(Exception, match=r".*"):  # anndata's own error for a type it cannot write
        replace_elements(path, {"uns/good": {"a": 1}, "uns/bad": {"a": object()}})
    assert path.read_bytes() == before


def test_file_that_is_open_elsewhere_is_not_changed(path: Path) -> None:
    before = path.read_bytes()
    with h5py.File(path, "r"), pytest.raises(OutputBusyError, match="open elsewhere"):
        write_uns_dict_to_h5ad(path, "a", {"b": 1})
    assert path.read_bytes() == before


def test_dropping_the_cache_changes_nothing(path: Path) -> None:
    before = path.read_bytes()
    assert drop_file_cache(path) is None
    assert drop_file_cache(str(path.with_name("absent"))) is None
    assert path.read_bytes() == before


# Names


@pytest.fixture
def named(tmp_path: Path) -> Path:
    labels = ["sgKLF1_KO", "NTC", "sg-GATA1_P1P2", "scramble", "MYC.2", None]
    genes = ["ENSG00000123456.4", "mt-Co1", "ENSMUSG00000064351.12", "GATA1", "mtor"]
    return layouts.write_h5ad(tmp_path / "named.h5ad", np.ones((6, 5)), labels, genes=genes)


def test_gene_names_are_brought_into_one_form(named: Path) -> None:
    before = named.read_bytes()
    found = standardise_gene_names(named, inplace=False)
    assert found.tolist() == ["ENSG00000123456", "MT-Co1", "ENSMUSG00000064351", "GATA1", "mtor"]
    kept = standardise_gene_names(
        named, strip_version=False, normalise_mt_prefix=False, inplace=False
    )
    assert kept.tolist() == load_var(named).index.tolist()
    assert named.read_bytes() == before
    assert standardise_gene_names(named) is None
    assert load_var(named).index.tolist() == found.tolist()
    var = load_var(named)
    var["id"] = ["ENSG00000000001.1", "ENSG00000000001.2", "a", "b", "c"]
    write_var(named, var)
    standardise_gene_names(named, column="id")
    assert load_var(named)["id"].tolist()[:2] == ["ENSG00000000001"] * 2
    with pytest.raises(MissingColumnError, match="no column 'nope'"):
        standardise_gene_names(named, column="nope")
    with pytest.raises(InputError, match="unmapped_action is 'x'"):
        standardise_gene_names(named, unmapped_action="x")
    var.index = ["ENSG00000000001.1", "ENSG00000000001.2", "a", "b", "c"]
    write_var(named, var)
    with pytest.raises(InputError, match="'ENSG00000000001' would name two genes"):
        standardise_gene_names(named)


def test_identifiers_are_looked_up_in_batches(named: Path, monkeypatch) -> None:
    class Client:
        def querymany(self, names: list[str], **options: Any) -> list[dict[str, str]]:
            assert options["species"] == "mouse"
            return [{"query": "ENSG00000123456", "symbol": "KLF1"}, {"query": names[-1]}]

    module = type(sys)("mygene")
    module.MyGeneInfo = Client
    monkeypatch.setitem(sys.modules, "mygene", module)
    options = {"lookup_symbols": True, "species": "mouse", "inplace": False}
    with pytest.warns(UserWarning, match="no symbol of 1 of 2 identifiers"):
        found = standardise_gene_names(named, **options)
    assert found.tolist()[:3] == ["KLF1", "MT-Co1", "ENSMUSG00000064351"]
    standardise_gene_names(named, unmapped_action="keep", **options)
    with pytest.raises(InputError, match="'ENSMUSG00000064351'"):
        standardise_gene_names(named, unmapped_action="error", **options)


def test_labels_are_brought_into_one_form(named: Path) -> None:
    before = named.read_bytes()
    options: dict[str, Any] = {
        "strip_prefixes": ["sg-", "sg"],
        "strip_suffixes": ["_KO", "_P1P2"],
        "strip_suffix_regex": r"\.\d+$",
    }
    found = normalise_perturbation_labels(named, "perturbation", inplace=False, **options)
    assert found.tolist() == ["KLF1", "NTC", "GATA1", "NTC", "MYC", None]
    assert named.read_bytes() == before
    more = {"control_aliases": ["MYC.2"], "canonical_control": "control"}
    assert normalise_perturbation_labels(named, "perturbation", **more) is None
    labels = load_obs(named)["perturbation"]
    assert labels.tolist()[:5] == ["sgKLF1_KO", "control", "sg-GATA1_P1P2", "control", "control"]
    assert labels.isna().tolist() == [False] * 5 + [True]
    assert isinstance(labels.dtype, pd.CategoricalDtype)
    with pytest.raises(InputError, match="no regular expression"):
        normalise_perturbation_labels(named, "perturbation", strip_suffix_regex="(")
    with pytest.raises(KeyError, match="nope"):
        normalise_perturbation_labels(named, "nope")


def test_standardized_copy_has_conventional_names_and_is_reused(path: Path, tmp_path) -> None:
    obs = load_obs(path).rename(columns={"perturbation": "target"})
    obs["target"] = obs["target"].cat.rename_categories({"control": "NTC"})
    write_obs(path, obs)
    before = path.read_bytes()
    arguments = {
        "perturbation_column": "target",
        "control_label": None,
        "gene_name_column": "symbol",
        "output_dir": tmp_path / "out",
    }
    found = standardize_dataset(path, **arguments)
    assert found == tmp_path / "out" / ".cache" / "standardized_in.h5ad"
    assert path.read_bytes() == before
    result, original = anndata.read_h5ad(found), anndata.read_h5ad(path)
    assert result.var_names.tolist() == original.var["symbol"].tolist()
    labels = result.obs["perturbation"].astype(object)
    expected = original.obs["target"].astype(object).replace("NTC", "control")
    assert labels.dropna().tolist() == expected.dropna().tolist()
    assert "control" in set(labels)
    assert "target" not in result.obs
    result.obs, result.var = original.obs, original.var
    slots.assert_same_slots(result, original, ["crispyx"])
    np.testing.assert_array_equal(result.X.toarray(), original.X.toarray())
    stamp = found.stat().st_mtime_ns
    assert standardize_dataset(path, **arguments).stat().st_mtime_ns == stamp
    assert standardize_dataset(path, **arguments, force=True).stat().st_mtime_ns > stamp
    other = tmp_path / "other" / "in.h5ad"
    other.parent.mkdir()
    other.write_bytes(path.read_bytes())
    with pytest.raises(OutputExistsError):
        standardize_dataset(other, **arguments)
    with pytest.raises(InputError, match="control label 'x' is not in"):
        standardize_dataset(path, **{**arguments, "control_label": "x"}, force=True)
    with pytest.raises(KeyError, match="nope"):
        standardize_dataset(path, **{**arguments, "perturbation_column": "nope"}, force=True)


def test_anndata_in_memory_is_changed_itself() -> None:
    adata = anndata.AnnData(sp.csr_matrix(np.eye(4, 3)))
    write_obsm_to_h5ad(adata, "X_pca", np.ones((4, 2)))
    write_varm_to_h5ad(adata, "PCs", np.ones((3, 2)))
    write_obsp_to_h5ad(adata, "near", sp.coo_matrix(np.eye(4)))
    write_uns_dict_to_h5ad(adata, "pca", {"n": 2})
    write_obs(adata, pd.DataFrame({"a": [1, 2, 3, 4]}, index=list("wxyz")))
    write_var(adata, pd.DataFrame({"b": [1, 2, 3]}, index=list("rst")))
    assert adata.obsm["X_pca"].shape == (4, 2)
    assert adata.varm["PCs"].shape == (3, 2)
    assert adata.obsp["near"].format == "csr"
    assert adata.uns["pca"] == {"n": 2}
    assert list(adata.obs_names) == list("wxyz")
    assert adata.var["b"].tolist() == [1, 2, 3]
    with pytest.raises(
        InputError, match=r"the new obs has 2 rows but that of the AnnData in memory"
    ):
        write_obs(adata, pd.DataFrame(index=list("ab")))
    with pytest.raises(InputError, match="view of another one"):
        write_obs(adata[:2], pd.DataFrame(index=list("ab")))
