"""Calls keep their content through every format, and join expression from any of them."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
from tenx_files import write_tenx_folder, write_tenx_h5

import crispyx as cx
from crispyx.errors import InputError, MissingColumnError, OutputExistsError

COUNTS = np.array([[9, 0, 0], [6, 8, 0], [7, 7, 1], [0, 0, 6], [0, 0, 0]])
BARCODES = [f"AAAC{i}-1" for i in range(5)]
GUIDES = ["TP53_1", "TP53_2", "NT_1"]
TABLES = [".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet", ".arrow"]
TARGETS = {"TP53_1": "TP53", "TP53_2": "TP53"}


def called(model: str = "umi", barcodes: list[str] | None = None) -> ad.AnnData:
    obs = pd.DataFrame({"lane": list("aabbb")}, index=BARCODES if barcodes is None else barcodes)
    var = pd.DataFrame(index=GUIDES)
    return cx.gd.assign(ad.AnnData(sp.csr_matrix(COUNTS), obs=obs, var=var), model)


def expression(path: Path) -> Path:
    x = sp.random(5, 4, 0.6, format="csr", random_state=1, dtype=np.float32)
    adata = ad.AnnData(x, obs=pd.DataFrame({"depth": range(5)}, index=BARCODES[::-1]))
    adata.write_h5ad(path, compression="gzip")
    return path


def join(tmp_path: Path, calls: Any, **given: Any) -> ad.AnnData:
    path = tmp_path / "genes.h5ad"
    if not path.exists():
        expression(path)
    given = {"targets": TARGETS, "control_guides": ["NT_1"], "membership": "perturbed"} | given
    output = tmp_path / "joined.h5ad"
    return cx.gd.add_to(path, calls, output_path=output, force=True, **given).to_memory()


def carried(joined: ad.AnnData) -> dict[str, list[int]]:
    names, columns = joined.uns["perturbed_names"], joined.obsm["perturbed"].toarray().T
    found = {name: column.tolist() for name, column in zip(names, columns, strict=True)}
    return {name: column for name, column in found.items() if any(column)}


# ---------------------------------------------------------------- what is written


def test_csv_has_one_row_a_cell_with_every_column(tmp_path: Path) -> None:
    path = cx.gd.write_calls(called(), tmp_path / "new" / "calls.csv")
    lines = path.read_text().splitlines()
    assert lines[0] == (
        "cell_barcode,guide_id,guide_identity,umi_count,assignment_confidence,is_unassigned,"
        "is_multi_infected,n_guides_detected,lane"
    )
    assert lines[1] == "AAAC0-1,TP53_1,TP53_1,9,1.0,False,False,1,a"
    assert lines[5] == "AAAC4-1,,,,,True,False,0,b"
    assert len(lines) == 6


def test_long_table_has_one_row_a_call(tmp_path: Path) -> None:
    path = cx.gd.write_calls(called(), tmp_path / "calls.tsv", long=True)
    assert path.read_text().splitlines() == [
        "cell_barcode\tguide_id\tumi_count\tassignment_confidence\tis_multi_infected\t"
        "n_guides_detected\tlane",
        "AAAC0-1\tTP53_1\t9\t1.0\tFalse\t1\ta",
        "AAAC1-1\tTP53_1\t6\t\tTrue\t2\ta",
        "AAAC1-1\tTP53_2\t8\t1.0\tTrue\t2\ta",
        "AAAC2-1\tTP53_1\t7\t1.0\tTrue\t2\tb",
        "AAAC2-1\tTP53_2\t7\t\tTrue\t2\tb",
        "AAAC3-1\tNT_1\t6\t1.0\tFalse\t1\tb",
    ]


def test_cell_ranger_table_lists_the_cells_with_a_call(tmp_path: Path) -> None:
    path = cx.gd.write_calls(called(), tmp_path / "protospacer_calls_per_cell.csv")
    assert path.read_text().splitlines() == [
        "cell_barcode,num_features,feature_call,num_umis",
        "AAAC0-1,1,TP53_1,9",
        "AAAC1-1,2,TP53_1|TP53_2,6|8",
        "AAAC2-1,2,TP53_1|TP53_2,7|7",
        "AAAC3-1,1,NT_1,6",
    ]


def test_arrow_formats_keep_types_and_missing_values(tmp_path: Path) -> None:
    parquet = pq.read_table(cx.gd.write_calls(called(), tmp_path / "a.parquet"))
    arrow = pa.ipc.open_file(cx.gd.write_calls(called(), tmp_path / "a.arrow")).read_all()
    assert parquet.schema.field("umi_count").type == pa.uint32()
    assert parquet["umi_count"].to_pylist() == [9, 8, 7, 6, None]
    assert arrow["guide_id"].to_pylist() == ["TP53_1", "TP53_2", "TP53_1", "NT_1", None]


def test_packed_table_holds_the_same_bytes_at_every_writing(tmp_path: Path) -> None:
    plain = cx.gd.write_calls(called(), tmp_path / "a.csv").read_bytes()
    packed = cx.gd.write_calls(called(), tmp_path / "a.csv.gz").read_bytes()
    assert gzip.decompress(packed) == plain
    assert cx.gd.write_calls(called(), tmp_path / "a.csv.gz", force=True).read_bytes() == packed


def test_nothing_is_overwritten_without_force(tmp_path: Path) -> None:
    for suffix in (".h5ad", *TABLES):
        path = tmp_path / f"calls{suffix}"
        path.write_text("mine")
        with pytest.raises(OutputExistsError, match="force=True"):
            cx.gd.write_calls(called(), path)
        assert path.read_text() == "mine"
        cx.gd.write_calls(called(), path, force=True)
        assert path.read_bytes() != b"mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        f"calls{suffix}" for suffix in (".h5ad", *TABLES)
    )


def test_what_a_format_cannot_hold_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    table = pd.read_csv(cx.gd.write_calls(called(), tmp_path / "a.csv"))
    for calls, name, said in (
        (called(), "b.xlsx", "the suffix says the format"),
        (called(), "b", "the suffix says the format"),
        (table, "b.h5ad", "is a table"),
        (table, "protospacer_calls_per_cell.csv", "is a table"),
    ):
        with pytest.raises(InputError, match=said):
            cx.gd.write_calls(calls, tmp_path / name)
    with pytest.raises(InputError, match="leave out long"):
        cx.gd.write_calls(called(), tmp_path / "b.h5ad", long=True)
    bad = called()
    bad.var_names = ["a|b", "c", "d"]
    with pytest.raises(InputError, match=r"'a\|b' has '\|' in its name"):
        cx.gd.write_calls(bad, tmp_path / "protospacer_calls_per_cell.csv")
    with pytest.raises(MissingColumnError, match="'cell_barcode'"):
        cx.gd.write_calls(pa.table({"x": [1]}), tmp_path / "b.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]


# ---------------------------------------------------------------- the join from every format


@pytest.mark.parametrize("suffix", [".h5ad", *TABLES])
def test_join_is_the_same_from_every_format(tmp_path: Path, suffix: str) -> None:
    calls = called("max")
    expected = join(tmp_path, calls)
    path = cx.gd.write_calls(calls, tmp_path / f"calls{suffix}")
    found = join(tmp_path, path)
    pd.testing.assert_frame_equal(found.obs, expected.obs)
    assert carried(found) == carried(expected)
    perturbation = found.obs["perturbation"].astype(object)
    assert perturbation.isna().tolist() == [True, False, True, False, False]
    assert perturbation.dropna().tolist() == ["non-targeting", "TP53", "TP53"]


@pytest.mark.parametrize("name", ["long.csv", "long.parquet", "protospacer_calls_per_cell.csv"])
def test_join_of_a_table_of_calls_holds_several_guides_of_a_cell(tmp_path: Path, name: str) -> None:
    calls = called()
    expected = join(tmp_path, calls)
    found = join(tmp_path, cx.gd.write_calls(calls, tmp_path / name, long=name.startswith("long")))
    columns = ["perturbation", "guide", "guide_umi", "is_multi_infected"]
    pd.testing.assert_frame_equal(found.obs[columns], expected.obs[columns])
    assert carried(found) == carried(expected)
    # A cell without a call is not in such a table.
    assert found.obs["n_guides_detected"].isna().tolist() == [True, False, False, False, False]


@pytest.mark.parametrize("kind", ["batch", "table", "frame", "indexed"])
def test_join_takes_tables_in_memory(tmp_path: Path, kind: str) -> None:
    calls = called("max")
    expected = join(tmp_path, calls)
    table = pa.Table.from_pandas(calls.obs.reset_index(), preserve_index=False)
    given = {
        "batch": table.combine_chunks().to_batches()[0],
        "table": table,
        "frame": calls.obs.reset_index(),
        "indexed": calls.obs,
    }[kind]
    pd.testing.assert_frame_equal(join(tmp_path, given).obs, expected.obs)


def test_decisions_are_joined_as_they_are(tmp_path: Path, data_dir: Path) -> None:
    strict = cx.gd.decide(cx.gd.score(data_dir / "schraivogel_gRNA_counts.h5ad"), 0.99)
    out = cx.gd.add_to(
        data_dir / "schraivogel_tapseq.h5ad",
        strict,
        perturbation_column="called",
        guide_column="called_guide",
        targets=lambda guide: guide.removeprefix("CROPseq_dCas9_DS_").split("_")[0],
        output_path=tmp_path / "joined.h5ad",
    )
    obs = out.obs.load()
    table = strict.to_pandas().set_index("cell_barcode").loc[obs.index]
    one = ~(table["is_unassigned"] | table["is_multi_infected"])
    assert one.sum() > 17_000
    assert obs["called_guide"][one].astype(str).tolist() == table["guide_id"][one].tolist()
    assert obs["called_guide"][~one].isna().all()
    with h5py.File(data_dir / "schraivogel_tapseq.h5ad") as a, h5py.File(out.path) as b:
        for part in ("data", "indices", "indptr"):
            before, after = a["X"][part], b["X"][part]
            assert before.dtype == after.dtype
            assert before[()].tobytes() == after[()].tobytes()


def test_several_guides_are_missing_from_a_table_of_cells(tmp_path: Path) -> None:
    path = cx.gd.write_calls(called(), tmp_path / "calls.csv")
    assert join(tmp_path, path, membership=None).obs["perturbation"].notna().sum() == 2
    with pytest.raises(InputError, match=r"names one guide of cell 'AAAC1-1'.*long=True"):
        join(tmp_path, path)


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("cell_barcode,guide_id,umi_count\nA,g,x\n", InputError, "umi_count holds 'x'"),
        (
            "cell_barcode,guide_id,umi_count\nA,g,1\nA,g,2\n",
            InputError,
            "'g' in cell 'A' stands twice",
        ),
        ("cell_barcode,num_features,feature_call,num_umis\nA,2,a|b,3\n", InputError, "2 guides in"),
        ("barcode,guide\nA,g\n", MissingColumnError, "'cell_barcode', 'guide_id'"),
        ("", InputError, "not a table that can be read"),
    ],
)
def test_damaged_table_is_refused_with_its_place(
    tmp_path: Path, text: str, error: type[Exception], said: str
) -> None:
    path = tmp_path / "calls.csv"
    path.write_text(text)
    with pytest.raises(error, match=said):
        join(tmp_path, path)
    assert not (tmp_path / "joined.h5ad").exists()


@pytest.mark.parametrize("column", ["target", "target_gene_name", "gene"])
@pytest.mark.parametrize("held", ["memory", "file"])
def test_targets_stand_in_a_column_of_the_guides(tmp_path: Path, column: str, held: str) -> None:
    calls = called("max")
    calls.var[column] = ["TP53", "TP53", "Non-Targeting"]
    expected = join(tmp_path, called("max")).obs
    given: Any = calls
    if held == "file":
        given = cx.gd.write_calls(calls, tmp_path / "calls.h5ad")
    named = join(tmp_path, given, targets=column, control_guides=None)
    pd.testing.assert_frame_equal(named.obs, expected)
    if column != "gene":
        label = {"control_guides": None, "control_label": "non_targeting"}
        found = join(tmp_path, given, targets=None, **label)
        assert found.obs["perturbation"].dropna().tolist() == ["non_targeting", "TP53", "TP53"]
    with pytest.raises(MissingColumnError, match="var column 'nowhere'"):
        join(tmp_path, given, targets="nowhere")


def test_incomplete_column_of_targets_is_not_taken_unasked(tmp_path: Path) -> None:
    calls = called("max")
    calls.var["target"] = ["TP53", None, "NT"]
    found = join(tmp_path, calls, targets=None)
    assert found.obs["perturbation"].dropna().tolist() == ["non-targeting", "TP53_2", "TP53_1"]
    with pytest.raises(InputError, match="gives None for guide 'TP53_2'"):
        join(tmp_path, calls, targets="target")


# ---------------------------------------------------------------- barcodes and expression


@pytest.mark.parametrize("short", ["calls", "expression"])
def test_suffix_of_one_side_is_left_out(tmp_path: Path, short: str) -> None:
    bare = [barcode.removesuffix("-1") for barcode in BARCODES]
    expected = join(tmp_path, called()).obs
    if short == "calls":
        found = join(tmp_path, called(barcodes=bare))
    else:
        path = tmp_path / "genes.h5ad"
        adata = ad.read_h5ad(path)
        adata.obs_names = [name.removesuffix("-1") for name in adata.obs_names]
        adata.write_h5ad(path)
        found = join(tmp_path, called())
    assert found.uns["crispyx_guides_join"]["suffix_left_out"] == "-1"
    pd.testing.assert_frame_equal(found.obs.reset_index(drop=True), expected.reset_index(drop=True))


def test_suffix_is_kept_where_barcodes_would_not_stay_unique(tmp_path: Path) -> None:
    mixed = ["AAAC0", "AAAC0-1", "AAAC1", "AAAC2", "AAAC3"]
    adata = ad.read_h5ad(expression(tmp_path / "genes.h5ad"))
    adata.obs_names = [f"{name}-2" for name in BARCODES]
    adata.write_h5ad(tmp_path / "genes.h5ad")
    with pytest.raises(InputError, match="no barcode"):
        join(tmp_path, called(barcodes=mixed))


@pytest.mark.parametrize("form", ["h5", "folder", "h5mu"])
def test_expression_of_10x_and_mudata_becomes_an_h5ad_with_calls(tmp_path: Path, form: str) -> None:
    genes = np.arange(10).reshape(5, 2) % 4
    both, names = np.hstack([genes, COUNTS]), ["KLF1", "MYC", *GUIDES]
    kinds = ["Gene Expression"] * 2 + ["CRISPR Guide Capture"] * 3
    if form == "h5":
        path = write_tenx_h5(tmp_path / "m.h5", both, BARCODES, names, kinds)
    elif form == "folder":
        path = write_tenx_folder(tmp_path / "m", both, BARCODES, names, kinds)
    else:
        mudata = pytest.importorskip("mudata")
        obs = pd.DataFrame({"lane": list("aabbb")}, index=BARCODES)
        modalities = {
            "rna": ad.AnnData(sp.csr_matrix(genes), obs=obs, var=pd.DataFrame(index=names[:2])),
            "crispr": ad.AnnData(
                sp.csr_matrix(COUNTS), obs=obs[[]], var=pd.DataFrame(index=GUIDES)
            ),
        }
        path = tmp_path / "m.h5mu"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # mudata's own remarks on its next version
            mudata.MuData(modalities).write(path)
    calls = cx.gd.assign(path, "max")
    out = cx.gd.add_to(path, calls, targets=TARGETS, control_guides=["NT_1"])
    assert out.path == tmp_path / "crispyx_with_guides.h5ad"
    found = out.to_memory()
    np.testing.assert_array_equal(found.X.toarray(), genes)
    assert found.var_names.tolist() == names[:2]
    assert found.obs["guide"].isna().tolist() == [False, False, True, False, True]
    again = cx.gd.add_to(path, calls, targets=TARGETS, control_guides=["NT_1"])
    assert again.path == out.path
