"""Names and columns are the same from every encoding, with missing values told apart from text."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from layouts import COLUMN, write_h5ad

from crispyx._io.annotations import FileAnnotations, FrameAnnotations, as_labels
from crispyx._io.source import open_source
from crispyx.errors import InputError, MissingColumnError

LABELS = ["KLF1", "control", "KLF1", "β-actin", "control"]
VALUES = np.eye(5, 3)


def read_column(path: Path, name: str = COLUMN, axis: str = "obs") -> np.ndarray:
    with h5py.File(path) as file:
        return FileAnnotations(file[axis], axis, str(path)).column(name)


@pytest.mark.parametrize(
    "kind", ["text", "bytes", "categories", "anndata 0.7", "unused categories"]
)
def test_text_is_the_same_from_every_encoding(kind: str, tmp_path: Path) -> None:
    path = write_h5ad(tmp_path / "screen.h5ad", VALUES, LABELS, label_kind=kind)
    assert read_column(path).tolist() == LABELS


@pytest.mark.parametrize("kind", ["categories", "anndata 0.7", "unused categories"])
def test_missing_category_is_none(kind: str, tmp_path: Path) -> None:
    labels = ["KLF1", None, "control", None, "nan"]
    path = write_h5ad(tmp_path / "screen.h5ad", VALUES, labels, label_kind=kind)
    assert as_labels(read_column(path)).tolist() == labels


COLUMNS = {
    "text": (["a", "b", "a"], ["a", "b", "a"]),
    "categorical": (pd.Categorical(["b", None, "a"]), ["b", None, "a"]),
    "categorical numbers": (pd.Categorical([2, 1, 2]), ["2", "1", "2"]),
    "categorical numbers, one missing": (pd.Categorical([2, None, 1]), ["2", None, "1"]),
    "whole numbers": ([3, 1, 2], ["3", "1", "2"]),
    "numbers, one missing": ([3.0, np.nan, 2.5], ["3", None, "2.5"]),
    "infinite number": ([np.inf, 1.0, -np.inf], ["inf", "1", "-inf"]),
    "booleans": ([True, False, True], ["True", "False", "True"]),
    "nullable integers": (pd.array([1, None, 3], dtype="Int64"), ["1", None, "3"]),
    "nullable booleans": (pd.array([True, None, False], dtype="boolean"), ["True", None, "False"]),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_labels_of_a_column_are_the_same_from_memory_and_from_its_file(kind, tmp_path) -> None:
    values, expected = COLUMNS[kind]
    obs = pd.DataFrame({"label": values}, index=["c1", "c2", "c3"])
    adata = anndata.AnnData(np.eye(3), obs=obs)
    adata.write_h5ad(tmp_path / "screen.h5ad")
    frame = FrameAnnotations(obs, "obs", "memory")
    for column in (frame.column("label"), read_column(tmp_path / "screen.h5ad", "label")):
        assert as_labels(column).tolist() == expected


def test_names_and_columns_are_listed_in_order(tmp_path: Path) -> None:
    obs = pd.DataFrame({"b": [1, 2], "a": [3, 4]}, index=pd.Index(["c2", "c1"], name="barcode"))
    anndata.AnnData(np.eye(2), obs=obs).write_h5ad(tmp_path / "screen.h5ad")
    with h5py.File(tmp_path / "screen.h5ad") as file:
        for found in (
            FileAnnotations(file["obs"], "obs", "file"),
            FrameAnnotations(obs, "obs", "memory"),
        ):
            assert found.columns == ["b", "a"]
            assert found.index.tolist() == ["c2", "c1"]


@pytest.mark.parametrize("where", ["file", "memory"])
def test_missing_column_is_named_with_those_there_are(where: str, tmp_path: Path) -> None:
    path = write_h5ad(tmp_path / "screen.h5ad", VALUES, LABELS)
    with h5py.File(path) as file:
        obs: Any = FileAnnotations(file["obs"], "obs", "s.h5ad")
        if where == "memory":
            obs = FrameAnnotations(pd.DataFrame({COLUMN: LABELS}), "obs", "s.h5ad")
        with pytest.raises(MissingColumnError) as error:
            obs.column("target")
    # A KeyError would show its message in quotes.
    assert str(error.value) == f"s.h5ad has no obs column 'target'; it has: {COLUMN}"


def damage(path: Path, name: str, values: Any) -> None:
    with h5py.File(path, "r+") as file:
        del file[name]
        if values is not None:
            file[name] = values


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        (f"{COLUMN}/codes", np.zeros(4, "i1"), r"has shape \(4,\) where obs has 5 entries"),
        (f"{COLUMN}/codes", np.zeros(9, "i1"), r"has shape \(9,\) where obs has 5 entries"),
        (f"{COLUMN}/codes", np.full(5, 9, "i1"), "has code 9 of 3 categories"),
        ("_index", None, "obs has no index"),
    ],
)
def test_damaged_table_is_refused(name: str, values: Any, message: str, tmp_path: Path) -> None:
    path = write_h5ad(tmp_path / "screen.h5ad", VALUES, LABELS)
    damage(path, f"obs/{name}", values)
    with pytest.raises(InputError, match=message) as error:
        read_column(path)
    assert str(path) in str(error.value)


def test_tables_of_anndata_0_6_are_read_as_anndata_reads_them(tmp_path: Path) -> None:
    labels = ["KLF1", None, "control", "KLF1", None]
    path = write_h5ad(tmp_path / "old.h5ad", VALUES, labels, label_kind="anndata 0.6")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # anndata: written by an old version
        expected = anndata.read_h5ad(path)
    with open_source(path) as source:
        assert source.obs.index.tolist() == expected.obs_names.tolist()
        assert source.var.index.tolist() == expected.var_names.tolist()
        assert source.obs.columns == [COLUMN]
        assert as_labels(source.obs.column(COLUMN)).tolist() == labels
        with pytest.raises(MissingColumnError, match=f"has no obs column 'x'; it has: {COLUMN}"):
            source.obs.column("x")
    in_anndata = expected.obs[COLUMN].astype(object)
    assert in_anndata.where(in_anndata.notna(), None).tolist() == labels


@pytest.mark.parametrize("values", [np.zeros(5), np.zeros((5, 2)), 3])
def test_table_that_is_none_is_refused(values: Any, tmp_path: Path) -> None:
    path = write_h5ad(tmp_path / "screen.h5ad", VALUES, LABELS)
    damage(path, "obs", values)
    with pytest.raises(InputError, match="obs is neither a group nor a table"):
        open_source(path)
