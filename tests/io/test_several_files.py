"""Several files as one screen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from layouts import COLUMN, assert_same_bits, tables_of, write_h5ad
from layouts import count_screen as counts_and_labels
from layouts import log_screen as values_and_labels

import crispyx as cx
from crispyx._io.source import open_source
from crispyx.errors import InputError, InputTypeError, MissingColumnError

pytestmark = pytest.mark.filterwarnings("ignore:in 1 tests one arm has no cell")
CUTS = (0, 23, 24, 61)
FORMS: dict[str, list[dict[str, Any]]] = {
    "csr": [{"layout": "csr"}] * 3,
    "csc": [{"layout": "csc"}, {"layout": "csc", "dtype": "f8"}, {"layout": "csc"}],
    "dense": [{"layout": "dense"}] * 3,
    "mixed rows": [{"compression": "gzip"}, {"layout": "dense"}, {"stored_zeros": True}],
}


def log_screen() -> tuple[np.ndarray, list[str]]:
    values, labels = values_and_labels()
    return values, [label or "control" for label in labels]


def count_screen() -> tuple[np.ndarray, list[str]]:
    values, labels = counts_and_labels()
    return values, [label or "control" for label in labels]


def lanes(folder: Path, values: np.ndarray, labels: list, forms: list[dict[str, Any]]) -> list:
    files = []
    for k, how in enumerate(forms):
        rows = slice(CUTS[k], CUTS[k + 1])
        path = folder / f"lane{k + 1}.h5ad"
        files.append(write_h5ad(path, values[rows], labels[rows], **how))
    return files


@pytest.mark.parametrize("forms", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("test", [cx.de.t_test, cx.de.wilcoxon_test], ids=lambda f: f.__name__)
def test_files_give_the_result_of_the_joined_file(
    tmp_path: Path, test: Callable[..., Any], forms: list[dict[str, Any]]
) -> None:
    values, labels = log_screen()
    whole = write_h5ad(tmp_path / "whole.h5ad", values, labels)
    expected = test(whole, perturbation_column=COLUMN, output_path=tmp_path / "a.h5ad")
    found = test(
        lanes(tmp_path, values, labels, forms),
        perturbation_column=COLUMN,
        output_path=tmp_path / "b.h5ad",
    )
    assert_same_bits(tables_of(found.result_path), tables_of(expected.result_path))


@pytest.mark.parametrize("forms", FORMS.values(), ids=FORMS)
def test_blocks_of_any_size_hold_the_joined_matrix(
    tmp_path: Path, forms: list[dict[str, Any]]
) -> None:
    values, labels = count_screen()
    files = lanes(tmp_path, values, labels, forms)
    with open_source(files) as source:
        assert source.shape == values.shape
        assert source.storage.n_stored >= np.count_nonzero(values)
        for most in (1, 40, 10**6):
            dense = np.zeros(values.shape)
            for block in source.native_blocks(max_values=most):
                axis = values.T if source.layout == "csc" else values
                part = np.zeros((block.n_major, axis.shape[1]))
                part[np.repeat(np.arange(block.n_major), np.diff(block.ptr)), block.minor] = (
                    block.values
                )
                place = slice(block.start, block.stop)
                if source.layout == "csc":
                    dense[:, place] = part.T
                else:
                    dense[place] = part
            np.testing.assert_array_equal(dense, values)


def test_the_file_is_a_batch_and_names_the_cells(tmp_path: Path) -> None:
    values, labels = log_screen()
    files = lanes(tmp_path, values, labels, FORMS["csr"])
    with open_source(files) as source:
        assert source.obs.columns == [COLUMN, "file"]
        assert source.obs.index[[0, 23, 24]].tolist() == [
            "lane1:cell0",
            "lane2:cell0",
            "lane3:cell0",
        ]
        assert source.obs.column("file").tolist() == ["lane1"] * 23 + ["lane2"] + ["lane3"] * 37
    found = cx.de.wilcoxon_test(
        files, perturbation_column=COLUMN, batch_column="file", output_path=tmp_path / "b.h5ad"
    )
    adata = anndata.concat([anndata.read_h5ad(file) for file in files], index_unique="-")
    adata.obs["lane"] = pd.Categorical(np.repeat(["1", "2", "3"], np.diff(CUTS)))
    expected = cx.de.wilcoxon_test(
        adata, perturbation_column=COLUMN, batch_column="lane", output_path=tmp_path / "c.h5ad"
    )
    assert_same_bits(tables_of(found.result_path), tables_of(expected.result_path))


def test_cells_of_their_own_names_keep_them(tmp_path: Path) -> None:
    values, labels = log_screen()
    for k in range(2):
        names = [f"lane{k}_{i}" for i in range(61)]
        write_h5ad(tmp_path / f"{k}.h5ad", values, labels, cells=names)
    with open_source([tmp_path / "0.h5ad", tmp_path / "1.h5ad"]) as source:
        assert source.obs.index[61] == "lane1_0"


def test_results_are_reloaded_and_inputs_are_protected(tmp_path: Path) -> None:
    values, labels = log_screen()
    files = lanes(tmp_path, values, labels, FORMS["csr"])
    run = lambda output: cx.de.t_test(files, perturbation_column=COLUMN, output_path=output)  # noqa: E731
    first = run(tmp_path / "b.h5ad").result_path.stat().st_mtime_ns
    assert run(tmp_path / "b.h5ad").result_path.stat().st_mtime_ns == first
    with pytest.raises(InputError, match=r"lane2\.h5ad"):
        run(files[1])
    with pytest.raises(InputError, match=r"3 files, .*lane1.* has no folder for the result"):
        cx.de.t_test(files, perturbation_column=COLUMN)


def test_pseudobulk_and_quality_control_take_files(tmp_path: Path) -> None:
    values, labels = count_screen()
    files = lanes(tmp_path, values, labels, FORMS["csr"])
    whole = write_h5ad(tmp_path / "whole.h5ad", values, labels)
    profiles = [
        cx.pb.pseudobulk(data, perturbation_column=COLUMN, output_dir=tmp_path, data_name=name)
        for data, name in ((files, "a"), (whole, "b"))
    ]
    found, expected = (anndata.read_h5ad(profile.path) for profile in profiles)
    np.testing.assert_array_equal(found.X, expected.X)
    normalized = cx.pp.normalize_total_log1p(files, output_path=tmp_path / "n.h5ad")
    assert normalized.shape == values.shape


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"genes": [f"gene{i}" for i in range(12)] + ["other"]}, "2 genes that differ.*'gene12'"),
        (
            {"genes": [f"gene{i}" for i in reversed(range(13))]},
            "another order.*column 0 is 'gene12'",
        ),
        ({"layout": "csc"}, "stored as CSC and .* as CSR.*convert_to_cs"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    values, labels = log_screen()
    files = [
        write_h5ad(tmp_path / "a.h5ad", values, labels),
        write_h5ad(tmp_path / "b.h5ad", values, labels, **change),
    ]
    with pytest.raises(InputError, match=message):
        open_source(files)


def test_lists_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    values, labels = log_screen()
    file = write_h5ad(tmp_path / "a.h5ad", values, labels)
    with pytest.raises(InputError, match="empty"):
        open_source([])
    with pytest.raises(InputError, match=r"a\.h5ad.*twice"):
        open_source([file, file])
    with pytest.raises(InputTypeError, match="give paths"):
        open_source([file, anndata.read_h5ad(file)])


def test_a_column_that_one_file_lacks_is_named_with_the_file(tmp_path: Path) -> None:
    values, labels = log_screen()
    files = lanes(tmp_path, values, labels, FORMS["csr"])
    adata = anndata.read_h5ad(files[0])
    adata.obs["dose"] = 1.0
    adata.write_h5ad(files[0])
    with open_source(files) as source, pytest.raises(MissingColumnError, match=r"'lane2'.*'dose'"):
        source.obs.column("dose")
