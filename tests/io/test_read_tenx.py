"""The genes and the guides of a 10x matrix are read apart, in memory and as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp
from click.testing import CliRunner
from tenx_files import write_old_tenx_h5, write_tenx_folder, write_tenx_h5

import crispyx as cx
from crispyx.cli.command import main
from crispyx.errors import InputError, MemoryBudgetError

GENES, GUIDES = "Gene Expression", "CRISPR Guide Capture"
KINDS = [GENES] * 4 + [GUIDES] * 2 + [GENES, "Antibody Capture"]
NAMES = ["A", "B", "B", "C", "sgA", "sgB", "D", "CD8"]
COUNTS = np.random.default_rng(0).poisson(1.5, (30, len(NAMES)))
BARCODES = [f"AAAC{i}-1" for i in range(len(COUNTS))]


@pytest.fixture(params=["h5", "folder", "matrix of a folder"])
def matrix(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "h5":
        return write_tenx_h5(tmp_path / "raw.h5", COUNTS, BARCODES, NAMES, KINDS)
    folder = write_tenx_folder(tmp_path / "raw", COUNTS, BARCODES, NAMES, KINDS)
    return folder if request.param == "folder" else folder / "matrix.mtx.gz"


def assert_is(found: anndata.AnnData, kind: str, path: Path) -> None:
    chosen = np.array(KINDS) == kind
    assert sp.issparse(found.X)
    assert found.X.format == "csr"
    assert found.X.dtype == np.int32
    np.testing.assert_array_equal(found.X.toarray(), COUNTS[:, chosen])
    assert list(found.obs_names) == BARCODES
    assert list(found.var["gene_symbols"]) == list(np.array(NAMES)[chosen])
    assert set(found.var["feature_types"]) == {kind}
    if path.suffix == ".h5":  # scanpy reads all features of a file
        theirs = sc.read_10x_h5(path, gex_only=False)[:, chosen]
        assert list(found.var["gene_ids"]) == list(theirs.var["gene_ids"])
        np.testing.assert_array_equal(found.X.toarray(), theirs.X.toarray())


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_genes_and_guides_come_apart_in_memory(matrix: Path) -> None:
    expression, guides = cx.pp.read_10x(matrix)
    assert_is(expression, GENES, matrix)
    assert_is(guides, GUIDES, matrix)
    assert list(expression.var_names) == ["A", "ID1", "ID2", "C", "D"]


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_genes_and_guides_come_apart_as_files(matrix: Path, suffix: str, tmp_path: Path) -> None:
    if suffix == ".zarr":
        pytest.importorskip("zarr")
    found = cx.pp.read_10x(matrix, tmp_path / f"screen{suffix}")
    assert found.expression.path == tmp_path / f"screen{suffix}"
    assert found.guides.path == tmp_path / f"screen_guides{suffix}"
    assert_is(found.expression.to_memory(), GENES, matrix)
    assert_is(found.guides.to_memory(), GUIDES, matrix)


def test_names_of_a_folder_and_reuse(tmp_path: Path) -> None:
    path = write_tenx_h5(tmp_path / "raw.h5", COUNTS, BARCODES, NAMES, KINDS)
    found = cx.pp.read_10x(path, output_dir=tmp_path / "out", data_name="day1")
    names = [one.path.name for one in found]
    assert names == ["crispyx_day1_expression.h5ad", "crispyx_day1_guides.h5ad"]
    before = [one.path.stat().st_mtime_ns for one in found]
    again = cx.pp.read_10x(path, output_dir=tmp_path / "out", data_name="day1")
    assert [one.path.stat().st_mtime_ns for one in again] == before
    other = write_tenx_h5(tmp_path / "other.h5", COUNTS + 1, BARCODES, NAMES, KINDS)
    with pytest.raises(FileExistsError, match=r"holds the expression result of .*raw\.h5"):
        cx.pp.read_10x(other, output_dir=tmp_path / "out", data_name="day1")


def test_other_kinds_can_be_asked_for_and_a_missing_part_is_none(tmp_path: Path) -> None:
    path = write_tenx_h5(tmp_path / "raw.h5", COUNTS, BARCODES, NAMES, KINDS)
    expression, proteins = cx.pp.read_10x(path, guide_type="Antibody Capture")
    assert expression.shape == (30, 5)
    assert list(proteins.var_names) == ["CD8"]
    only = write_tenx_h5(tmp_path / "genes.h5", COUNTS[:, :4], BARCODES, NAMES[:4], KINDS[:4])
    found = cx.pp.read_10x(only, tmp_path / "genes.h5ad")
    assert found.guides is None
    assert not (tmp_path / "genes_guides.h5ad").exists()
    with pytest.raises(InputError, match=r"no features of the kinds 'x' and 'y'; it has 'Gene Exp"):
        cx.pp.read_10x(only, expression_type="x", guide_type="y")


def test_a_matrix_of_cell_ranger_2_holds_genes(tmp_path: Path) -> None:
    path = write_old_tenx_h5(tmp_path / "old.h5", COUNTS[:, :4], BARCODES, NAMES[:4], ["hg19"])
    expression, guides = cx.pp.read_10x(path)
    np.testing.assert_array_equal(expression.X.toarray(), COUNTS[:, :4])
    assert guides is None


def refused(tmp_path: Path) -> dict[str, tuple[Any, type[Exception], str]]:
    path = write_tenx_h5(tmp_path / "raw.h5", COUNTS, BARCODES, NAMES, KINDS)
    anndata.AnnData(COUNTS.astype(float)).write_h5ad(tmp_path / "a.h5ad")
    return {
        "an AnnData": (lambda: cx.pp.read_10x(tmp_path / "a.h5ad"), InputError, "no feature-barc"),
        "guides alone": (
            lambda: cx.pp.read_10x(path, guides_path=tmp_path / "g.h5ad"),
            InputError,
            "without output_path",
        ),
        "one name for both": (
            lambda: cx.pp.read_10x(path, tmp_path / "g.h5ad", guides_path=tmp_path / "g.h5ad"),
            InputError,
            "would both be",
        ),
        "too large": (
            lambda: cx.pp.read_10x(path, memory_limit_gb=0.001),
            MemoryBudgetError,
            "output_path=",
        ),
    }


@pytest.mark.parametrize("what", ["an AnnData", "guides alone", "one name for both", "too large"])
def test_what_cannot_be_read_is_refused(what: str, tmp_path: Path) -> None:
    call, kind, message = refused(tmp_path)[what]
    before = sorted(tmp_path.iterdir())
    with pytest.raises(kind, match=message):
        call()
    assert sorted(tmp_path.iterdir()) == before


def test_command_writes_both_parts(tmp_path: Path) -> None:
    path = write_tenx_h5(tmp_path / "raw.h5", COUNTS, BARCODES, NAMES, KINDS)
    done = CliRunner().invoke(main, ["read-10x", str(path), "--json"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["expression"]["output"] == str(tmp_path / "crispyx_expression.h5ad")
    assert (facts["guides"]["n_cells"], facts["guides"]["n_genes"]) == (30, 2)
    said = CliRunner().invoke(main, ["read-10x", str(path), "-o", str(tmp_path / "a.h5ad")])
    assert f"guides: 30 cells x 2 genes, csr -> {tmp_path / 'a_guides.h5ad'}" in said.output
