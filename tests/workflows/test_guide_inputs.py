"""The same guide counts give the same calls, whatever file they come in."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from layouts import in_memory, log_screen
from tenx_files import write_tenx_folder, write_tenx_h5

import crispyx as cx
from crispyx.errors import CrispyxWarning, InputError

GUIDE_KIND = "CRISPR Guide Capture"
COUNTS = np.array([[9, 0, 0, 3], [6, 8, 0, 1], [0, 0, 4, 0], [0, 0, 0, 2]])
BARCODES = [f"AAAC-{i}" for i in range(4)]
NAMES = ["TP53_1", "TP53_2", "NT_1", "GATA1"]
KINDS = [GUIDE_KIND] * 3 + ["Gene Expression"]


def table(kinds: bool = True) -> ad.AnnData:
    var = pd.DataFrame({"feature_types": KINDS} if kinds else {}, index=NAMES)
    return ad.AnnData(sp.csr_matrix(COUNTS), obs=pd.DataFrame(index=BARCODES), var=var)


def mudata_of(**modalities: ad.AnnData) -> Any:
    mudata = pytest.importorskip("mudata")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mudata's own remarks on its next version
        return mudata.MuData(modalities)


def write_h5mu(path: Path, **modalities: ad.AnnData) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mudata_of(**modalities).write(path)
    return path


def calls_of(data: Any, **given: Any) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    calls = cx.gd.assign(data, **given)
    own = calls.obs[["guide_id", "umi_count", "assignment_confidence", "n_guides_detected"]]
    return own, calls.X.toarray(), calls.layers["assigned"].toarray()


def assert_same(found: Any, expected: Any) -> None:
    pd.testing.assert_frame_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[2], expected[2])


@pytest.fixture(scope="module")
def schraivogel(data_dir: Path) -> tuple[ad.AnnData, sp.csr_matrix]:
    """The guide counts of the screen, and as many genes again to stand beside them."""
    guides = ad.read_h5ad(data_dir / "schraivogel_gRNA_counts.h5ad")
    genes = sp.random(guides.n_obs, 30, 0.05, format="csr", random_state=0)
    genes.data = np.ceil(9 * genes.data)
    return guides, sp.hstack([genes, guides.X]).tocsr().astype(np.int32)


@pytest.mark.parametrize("model", ["poisson_gauss", "umi"])
def test_schraivogel_is_called_alike_from_every_file(
    tmp_path: Path, data_dir: Path, schraivogel: Any, model: str
) -> None:
    scanpy = pytest.importorskip("scanpy")
    guides, both = schraivogel
    cells, names = guides.obs_names, [*(f"gene{i}" for i in range(30)), *guides.var_names]
    kinds = ["Gene Expression"] * 30 + [GUIDE_KIND] * guides.n_vars
    h5 = write_tenx_h5(tmp_path / "raw.h5", both, cells, names, kinds)
    folder = write_tenx_folder(tmp_path / "mtx", both, cells, names, kinds)
    for read, path in ((scanpy.read_10x_h5, h5), (scanpy.read_10x_mtx, folder)):
        outside = read(path, gex_only=False)
        assert (both != outside.X).nnz == 0
        assert outside.var["feature_types"].tolist() == kinds
    rna = ad.AnnData(both[:, :30], obs=pd.DataFrame(index=cells))
    h5mu = write_h5mu(
        tmp_path / "both.h5mu",
        rna=rna,
        gdo=ad.AnnData(guides.X, obs=rna.obs.copy(), var=guides.var),
    )
    expected = calls_of(data_dir / "schraivogel_gRNA_counts.h5ad", model=model)
    assert expected[2].sum() > 20_000
    for path in (h5, folder, h5mu):
        assert_same(calls_of(path, model=model), expected)


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
@pytest.mark.parametrize("held", ["file", "memory"])
def test_guides_are_taken_out_of_a_table_of_both(tmp_path: Path, layout: str, held: str) -> None:
    both = table()
    both.X = {"csr": both.X, "csc": both.X.tocsc(), "dense": both.X.toarray()}[layout]
    expected = calls_of(table()[:, :3].copy(), model="umi")
    data: Any = both
    if held == "file":
        data = tmp_path / "both.h5ad"
        both.write_h5ad(data)
    assert_same(calls_of(data, model="umi"), expected)
    calls = cx.gd.assign(data, "umi")
    assert calls.var["feature_types"].tolist() == KINDS[:3]
    with pytest.warns(CrispyxWarning, match="3 of 3 guides"):
        assert cx.gd.score(data, "gauss").guides.tolist() == NAMES[:3]


def test_modality_is_found_by_its_features_before_its_name(tmp_path: Path) -> None:
    other = table(kinds=False)[:, 3:].copy()
    path = write_h5mu(tmp_path / "m.h5mu", rna=other, guides_of_another_kind=other, panel=table())
    expected = calls_of(table()[:, :3].copy(), model="umi")
    assert_same(calls_of(path, model="umi"), expected)
    assert_same(calls_of(path, model="umi", modality="panel"), expected)
    assert_same(calls_of(path / "panel", model="umi"), expected)
    assert_same(calls_of(f"{path}/mod/panel", model="umi"), expected)
    named = cx.gd.assign(path, "umi", modality="rna")
    assert named.var_names.tolist() == ["GATA1"]


@pytest.mark.parametrize("name", ["crispr", "Guide_counts", "GDO", "sgRNA"])
def test_modality_is_found_by_its_name(tmp_path: Path, name: str) -> None:
    guides = table(kinds=False)[:, :3].copy()
    held = {"rna": table(kinds=False)[:, 3:].copy(), name: guides}
    expected = calls_of(guides, model="umi")
    assert_same(calls_of(write_h5mu(tmp_path / "m.h5mu", **held), model="umi"), expected)
    assert_same(calls_of(mudata_of(**held), model="umi"), expected)


def test_modalities_that_do_not_stand_out_are_listed(tmp_path: Path) -> None:
    plain = table(kinds=False)
    path = write_h5mu(tmp_path / "a.h5mu", rna=plain, prot=plain)
    with pytest.raises(InputError, match="'prot', 'rna'; none is known to hold the guides"):
        cx.gd.assign(path, "umi")
    with pytest.raises(InputError, match="no modality 'gdo'; it has 'prot', 'rna'"):
        cx.gd.assign(path, "umi", modality="gdo")
    path = write_h5mu(tmp_path / "b.h5mu", gdo_1=plain, gdo_2=plain)
    with pytest.raises(InputError, match="'gdo_1', 'gdo_2' may all be the guides"):
        cx.gd.assign(path, "umi")


def test_genes_of_mudata_go_through_the_other_doors(tmp_path: Path) -> None:
    rna, guides = table(kinds=False)[:, 3:].copy(), table(kinds=False)[:, :3].copy()
    path = write_h5mu(tmp_path / "m.h5mu", rna=rna, crispr=guides)
    np.testing.assert_array_equal(cx.pp.filter_cells(path, min_genes=1), COUNTS[:, 3] > 0)
    np.testing.assert_array_equal(
        cx.pp.filter_cells(path / "crispr", min_genes=2), (COUNTS[:, :3] > 0).sum(1) >= 2
    )
    out = cx.pp.normalize_total_log1p(path, verbose=False)
    assert out.path.parent == tmp_path
    assert out.to_memory().var_names.tolist() == ["GATA1"]
    write_h5mu(path, one=rna, two=guides)
    with pytest.raises(InputError, match=r"'one', 'two'.*name one in the path"):
        cx.pp.filter_cells(path, min_genes=1)


def test_differential_expression_of_a_modality_is_that_of_its_h5ad(tmp_path: Path) -> None:
    values, labels = log_screen()
    rna = in_memory(values, labels, sp.csr_matrix)
    rna.write_h5ad(tmp_path / "rna.h5ad")
    crispr = ad.AnnData(sp.csr_matrix(values[:, :3]), obs=rna.obs[[]])
    path = write_h5mu(tmp_path / "m.h5mu", rna=rna, crispr=crispr)
    given = {"perturbation_column": "perturbation", "control_label": "control", "method": "t-test"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CrispyxWarning)  # cells without a label, silent genes
        found, named, expected = (
            cx.tl.rank_genes_groups(data, output_dir=tmp_path / folder, **given).result
            for data, folder in ((path, "a"), (path / "rna", "b"), (tmp_path / "rna.h5ad", "c"))
        )
    for one in (found, named):
        for layer in expected.layers:
            np.testing.assert_array_equal(one.layers[layer], expected.layers[layer])
        assert (one.obs_names == expected.obs_names).all()


def test_missing_guides_are_an_error_that_names_what_is_there(tmp_path: Path) -> None:
    kinds = ["Gene Expression"] * 3 + ["Custom"]
    path = write_tenx_h5(tmp_path / "m.h5", COUNTS, BARCODES, NAMES, kinds)
    with pytest.raises(InputError, match=r"'CRISPR Guide Capture'.*'Custom' \(1\)"):
        cx.gd.assign(path, "umi")
    assert cx.gd.assign(path, "umi", feature_type="Custom").var_names.tolist() == ["GATA1"]
