"""10x matrices are read as scanpy reads them, streamed, or refused with the place of the fault."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from tenx_files import write_old_tenx_h5, write_tenx_folder, write_tenx_h5

import crispyx as cx
from crispyx._io.source import MatrixSource, open_source
from crispyx._run import budget
from crispyx.errors import InputError, MemoryBudgetError
from crispyx.qc import quality_control_summary

RNG = np.random.default_rng(8)
COUNTS = RNG.poisson(0.9, (40, 9))
BARCODES = [f"ACGT{i}-1" for i in range(40)]
NAMES = ["KLF1", "TBCE", "GATA1", "TBCE", "MYC", "CD3", "g1", "g2", "g3"]
GENES, PROTEIN, GUIDES = "Gene Expression", "Antibody Capture", "CRISPR Guide Capture"
KINDS = [GENES] * 5 + [PROTEIN] + [GUIDES] * 3


def write(tmp_path: Path, form: str, **given: Any) -> Path:
    if form == "h5":
        return write_tenx_h5(tmp_path / "m.h5", COUNTS, BARCODES, NAMES, KINDS, **given)
    return write_tenx_folder(tmp_path / "m", COUNTS, BARCODES, NAMES, KINDS, **given)


def values_of(source: MatrixSource) -> np.ndarray:
    rows = [
        sp.csr_matrix((b.values, b.minor, b.ptr), shape=(b.n_major, source.shape[1])).toarray()
        for b in source.row_blocks(max_values=7)
    ]
    return np.concatenate(rows)


@pytest.mark.parametrize("form", ["h5", "folder"])
@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_scanpy_reads_the_same_matrix(tmp_path: Path, form: str) -> None:
    scanpy = pytest.importorskip("scanpy")
    path = write(tmp_path, form)
    read = scanpy.read_10x_h5 if form == "h5" else scanpy.read_10x_mtx
    expected = read(path, gex_only=False)
    with open_source(path, feature_type=GUIDES) as guides, open_source(path) as genes:
        for source, kind in ((guides, GUIDES), (genes, GENES)):
            part = expected[:, expected.var["feature_types"] == kind]
            np.testing.assert_array_equal(values_of(source), part.X.toarray())
            assert source.obs.index.tolist() == part.obs_names.tolist()
            for name in ("gene_ids", "feature_types"):
                assert source.var.column(name).tolist() == part.var[name].tolist()
        assert guides.var.index.tolist() == ["g1", "g2", "g3"]


@pytest.mark.parametrize("form", ["filtered_feature_bc_matrix.h5", "filtered_feature_bc_matrix"])
def test_real_sample_is_read_as_scanpy_reads_it(data_dir: Path, form: str) -> None:
    scanpy = pytest.importorskip("scanpy")
    path = data_dir / "tenx_samples" / form
    expected = (scanpy.read_10x_h5 if form.endswith("h5") else scanpy.read_10x_mtx)(path)
    with open_source(path) as source:
        np.testing.assert_array_equal(values_of(source), expected.X.toarray())
        assert source.var.index.tolist() == expected.var_names.tolist()
        assert source.obs.index.tolist() == expected.obs_names.tolist()


@pytest.mark.parametrize("form", ["h5", "folder"])
def test_name_that_stands_twice_gives_way_to_the_id(tmp_path: Path, form: str) -> None:
    with open_source(write(tmp_path, form)) as source:
        assert source.var.index.tolist() == ["KLF1", "ID1", "GATA1", "ID3", "MYC"]
        assert source.var.column("gene_symbols").tolist() == NAMES[:5]


def test_all_names_give_way_when_an_id_is_a_name(tmp_path: Path) -> None:
    ids = ["E0", "KLF1", "E2", "E3", "E4", "E5", "E6", "E7", "E8"]
    with open_source(write(tmp_path, "h5", ids=ids)) as source:
        assert source.var.index.tolist() == ids[:5]


@pytest.mark.parametrize("packed", [True, False])
def test_folder_of_cell_ranger_2_is_read_whole(tmp_path: Path, packed: bool) -> None:
    path = write_tenx_folder(tmp_path / "m", COUNTS, BARCODES, NAMES, None, packed=packed)
    for given in (path, path / ("matrix.mtx.gz" if packed else "matrix.mtx")):
        with open_source(given) as source:
            np.testing.assert_array_equal(values_of(source), COUNTS)
            assert source.dtype == np.int32
            assert source.var.columns == ["gene_ids", "gene_symbols"]


def test_file_of_cell_ranger_2_is_read_unless_it_has_several_genomes(tmp_path: Path) -> None:
    path = write_old_tenx_h5(tmp_path / "one.h5", COUNTS, BARCODES, NAMES, ["GRCh38"])
    with open_source(path) as source:
        np.testing.assert_array_equal(values_of(source), COUNTS)
    path = write_old_tenx_h5(tmp_path / "two.h5", COUNTS, BARCODES, NAMES, ["GRCh38", "mm10"])
    with pytest.raises(InputError, match="genomes 'GRCh38', 'mm10'"):
        open_source(path)


@pytest.mark.parametrize("form", ["h5", "folder"])
def test_normalization_and_quality_control_take_the_genes(tmp_path: Path, form: str) -> None:
    path = write(tmp_path, form)
    var = pd.DataFrame(index=["KLF1", "ID1", "GATA1", "ID3", "MYC"])
    genes = ad.AnnData(
        sp.csr_matrix(COUNTS[:, :5].astype(np.int32)), obs=pd.DataFrame(index=BARCODES), var=var
    )
    genes.write_h5ad(tmp_path / "genes.h5ad")
    made = []
    for given, folder in ((path, "a"), (tmp_path / "genes.h5ad", "b")):
        out = cx.normalize_total_log1p(given, output_dir=tmp_path / folder, verbose=False)
        made.append(out.to_memory())
    np.testing.assert_array_equal(made[0].X.toarray(), made[1].X.toarray())
    assert made[0].var["gene_symbols"].tolist() == NAMES[:5]
    assert made[0].obs_names.tolist() == BARCODES
    np.testing.assert_array_equal(
        cx.pp.filter_cells(path, min_genes=3), (COUNTS[:, :5] > 0).sum(1) >= 3
    )


@pytest.mark.parametrize("axis", [0, 1])
def test_chunks_of_a_10x_file_are_those_of_its_genes(tmp_path: Path, axis: int) -> None:
    chunks = cx.data.iter_matrix_chunks(write(tmp_path, "h5"), axis=axis, chunk_size=3)
    parts = [chunk for _, chunk in chunks]
    np.testing.assert_array_equal(np.concatenate(parts, axis=axis), COUNTS[:, :5])


def test_filtered_copy_of_a_10x_file_holds_its_genes(tmp_path: Path) -> None:
    path = write(tmp_path, "h5")
    cx.data.write_filtered_subset(
        path,
        cell_mask=np.arange(40) < 30,
        gene_mask=np.array([True, False, True, True, True]),
        output_path=tmp_path / "kept.h5ad",
    )
    found = ad.read_h5ad(tmp_path / "kept.h5ad")
    np.testing.assert_array_equal(found.X.toarray(), COUNTS[:30, [0, 2, 3, 4]])
    assert found.var_names.tolist() == ["KLF1", "GATA1", "ID3", "MYC"]


def test_result_of_a_changed_folder_is_computed_again(tmp_path: Path) -> None:
    path = write(tmp_path, "folder")
    with open_source(path) as source:
        before = source.identity()
    lines = [f"ID{i}\tother{i}\t{GENES}\n" for i in range(9)]
    (path / "features.tsv.gz").unlink()
    (path / "features.tsv").write_text("".join(lines))
    with open_source(path) as source:
        assert source.identity() != before


def test_missing_kind_is_named_with_those_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'Multiplexing'.*'Antibody Capture' \(1\)"):
        open_source(write(tmp_path, "h5"), feature_type="Multiplexing")


def test_layers_and_modalities_of_a_10x_file_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "h5")
    with pytest.raises(InputError, match="no layers"):
        open_source(path, "counts")
    with pytest.raises(InputError, match="no modalities"):
        open_source(path, modality="rna")


@pytest.mark.parametrize("name", ["id", "name"])
def test_features_without_a_name_are_refused(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, "h5")
    with h5py.File(path, "r+") as file:
        del file[f"matrix/features/{name}"]
        file.create_group(f"matrix/features/{name}")
    with pytest.raises(InputError, match=f"has no {name} of its features"):
        open_source(path)


@pytest.mark.parametrize("part", ["barcodes", "features/id", "data", "indptr"])
def test_part_of_the_wrong_length_is_refused(tmp_path: Path, part: str) -> None:
    path = write(tmp_path, "h5")
    with h5py.File(path, "r+") as file:
        shorter = file[f"matrix/{part}"][:-1]
        del file[f"matrix/{part}"]
        file[f"matrix/{part}"] = shorter
    with pytest.raises(InputError, match=r"m\.h5.*damaged"):
        open_source(path)


@pytest.mark.parametrize("name", ["features.tsv.gz", "barcodes.tsv.gz"])
def test_folder_without_a_part_is_refused(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, "folder")
    (path / name).unlink()
    with pytest.raises(InputError, match=f"has no '{name}'"):
        open_source(path)


@pytest.mark.parametrize("name", ["matrix.mtx.gz", "features.tsv.gz", "barcodes.tsv.gz"])
def test_part_that_is_cut_short_is_refused(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, "folder")
    whole = (path / name).read_bytes()
    (path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=f"{name}.*copy it again"):
        open_source(path)


def test_parts_of_different_runs_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "folder")
    (path / "barcodes.tsv.gz").unlink()
    (path / "barcodes.tsv").write_text("".join(f"{b}\n" for b in BARCODES[:-1]))
    with pytest.raises(InputError, match="9 x 40 but there are 9 features and 39 barcodes"):
        open_source(path)


def test_entry_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "folder", packed=False)
    lines = (path / "matrix.mtx").read_text().splitlines()
    (path / "matrix.mtx").write_text("\n".join([*lines[:-1], lines[-2]]) + "\n")
    with pytest.raises(InputError, match="several entries for one feature"):
        open_source(path)


def test_folder_beyond_memory_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "folder")
    monkeypatch.setattr(budget, "available_memory", lambda: 2000)
    with pytest.raises(MemoryBudgetError, match=r"the \.h5 file of the same run is streamed"):
        open_source(path)


def test_folder_without_a_matrix_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "folder")
    shutil.move(path / "matrix.mtx.gz", tmp_path)
    with pytest.raises(InputError, match="folder without a 10x matrix"):
        quality_control_summary(path, perturbation_column="perturbation")
