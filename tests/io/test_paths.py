"""Inputs are found and outputs named and checked before work starts."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from pathlib import Path

import anndata
import numpy as np
import pytest
import scipy.sparse as sp
from layouts import in_memory, log_screen, write_h5ad

import crispyx as cx
from crispyx._io import paths
from crispyx._io.paths import prepare_output, resolve_data_path, resolve_output_path
from crispyx.errors import DiskSpaceError, InputError, InputTypeError, MissingFileError


@pytest.fixture
def screen(tmp_path: Path) -> Path:
    return write_h5ad(tmp_path / "screen.h5ad", *log_screen())


def test_path_behind_every_kind_of_input(screen: Path) -> None:
    backed = anndata.read_h5ad(screen, backed="r")
    for data in (screen, str(screen), cx.AnnData(screen), backed):
        assert resolve_data_path(data) == screen


def test_relative_path_stays_relative(screen: Path, monkeypatch) -> None:
    monkeypatch.chdir(screen.parent)
    assert resolve_data_path("screen.h5ad") == Path("screen.h5ad")


def test_missing_file_is_named_with_the_folder_looked_in(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingFileError, match=r"'no\.h5ad' does not exist") as error:
        resolve_data_path("no.h5ad")
    assert str(tmp_path) in str(error.value)
    assert isinstance(error.value, FileNotFoundError)
    assert resolve_data_path("no.h5ad", require_exists=False) == Path("no.h5ad")


def test_data_without_a_file_is_refused(screen: Path) -> None:
    memory = in_memory(np.eye(2), ["a", "b"], sp.csr_matrix)
    selection = anndata.read_h5ad(screen, backed="r")[:5]
    for data, message in (
        (memory, "lives in memory and has no file; write it"),
        (selection, "a selection of a backed AnnData, whose file holds all cells"),
        (7, "got a int; give a path"),
    ):
        with pytest.raises(InputTypeError, match=message):
            resolve_data_path(data)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"suffix": "t"}, "sub/crispyx_t.h5ad"),
        ({"suffix": "t", "output_dir": "out"}, "out/crispyx_t.h5ad"),
        ({"suffix": "t", "data_name": "a"}, "sub/crispyx_a_t.h5ad"),
        ({"suffix": "t", "data_name": "a_t"}, "sub/crispyx_a_t.h5ad"),
        ({"suffix": "t", "data_name": "crispyx_a"}, "sub/crispyx_a_t.h5ad"),
        ({"suffix": "t", "data_name": "crispyx_a_t.h5ad"}, "sub/crispyx_a_t.h5ad"),
        ({"suffix": "t", "data_name": ""}, "sub/crispyx_t.h5ad"),
        ({"suffix": "t", "module": "mod"}, "sub/mod_t.h5ad"),
        ({"suffix": "t", "module": "mod", "data_name": "b"}, "sub/mod_b_t.h5ad"),
    ],
)
def test_output_names_follow_the_convention(given: dict[str, str], expected: str) -> None:
    assert resolve_output_path("sub/in.h5ad", **given) == Path(expected)


@pytest.mark.parametrize("name", ["a/b", "../b", "/"])
def test_data_name_with_a_folder_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="give a plain file name without folders"):
        resolve_output_path("in.h5ad", suffix="t", data_name=name)


def test_folder_of_the_output_is_created(tmp_path: Path) -> None:
    output = tmp_path / "a" / "b" / "result.h5ad"
    assert prepare_output(output) == output
    assert output.parent.is_dir()


def test_input_is_never_the_output(screen: Path) -> None:
    link = screen.with_name("link.h5ad")
    link.symlink_to(screen)
    for output in (screen, link, screen.parent / "." / "screen.h5ad"):
        with pytest.raises(InputError, match="is the input itself"):
            prepare_output(output, (screen,))


def test_folder_and_file_are_not_taken_for_each_other(screen: Path) -> None:
    with pytest.raises(InputError, match="is a folder; give a file name"):
        prepare_output(screen.parent)
    for output in (screen / "result.h5ad", screen / "more" / "result.h5ad"):
        with pytest.raises(InputError, match="is a file, not a folder for outputs"):
            prepare_output(output)


def test_folder_without_the_right_to_write_is_refused(tmp_path: Path, monkeypatch) -> None:
    # Root may write anywhere: the answer of the system is replaced.
    monkeypatch.setattr(paths.os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(PermissionError, match=r"cannot write into .* give output_dir="):
        prepare_output(tmp_path / "result.h5ad")


def test_lack_of_space_is_told_with_both_numbers(tmp_path: Path, monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 3_000_000_000))
    prepare_output(tmp_path / "result.h5ad", needed_bytes=3_000_000_000)
    with pytest.raises(DiskSpaceError, match=r"needs 4\.000 GB but .* has 3\.000 GB free"):
        prepare_output(tmp_path / "result.h5ad", needed_bytes=4_000_000_000)
