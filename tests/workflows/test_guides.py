"""Guide calls from files and AnnData, and their join with expression."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import crispyx.guides as guides
from crispyx.data.ondisk import AnnData
from crispyx.errors import (
    CrispyxWarning,
    InputError,
    InputTypeError,
    MissingColumnError,
    MissingFileError,
    OutputExistsError,
)
from crispyx.settings import use_engine

COUNTS = np.array(
    [
        # one guide, two, a tie for the largest, none above 5, nothing
        [9, 0, 0],
        [6, 8, 0],
        [7, 7, 1],
        [0, 0, 4],
        [0, 0, 0],
    ]
)
BARCODES = [f"AAAC-{i}" for i in range(5)]
GUIDES = ["TP53_1", "TP53_2", "NT_1"]
OBS_COLUMNS = [
    "guide_id",
    "guide_identity",
    "umi_count",
    "assignment_confidence",
    "is_unassigned",
    "is_multi_infected",
    "n_guides_detected",
]


@pytest.fixture(scope="module")
def data_dir() -> Path:
    folder = os.environ.get("CRISPYX_DATA_DIR")
    if not folder:
        pytest.skip("CRISPYX_DATA_DIR is not set: the folder with the real screens")
    return Path(folder)


def screen(counts=COUNTS, barcodes=None, names=None, **columns) -> ad.AnnData:
    """Return guide counts in memory; a dense array becomes CSR int32."""
    matrix = sp.csr_matrix(counts.astype(np.int32)) if isinstance(counts, np.ndarray) else counts
    obs = pd.DataFrame(columns, index=BARCODES if barcodes is None else barcodes)
    return ad.AnnData(X=matrix, obs=obs, var=pd.DataFrame(index=GUIDES if names is None else names))


def genes(barcodes=None, **columns) -> ad.AnnData:
    """Return a small expression data set with something in every slot."""
    barcodes = BARCODES[::-1] if barcodes is None else barcodes
    x = sp.random(len(barcodes), 4, 0.6, format="csr", random_state=1, dtype=np.float32)
    adata = ad.AnnData(X=x, obs=pd.DataFrame(columns, index=barcodes))
    adata.layers["counts"] = x.copy()
    adata.obsm["X_pca"] = np.arange(2.0 * len(barcodes)).reshape(-1, 2)
    adata.uns["note"] = {"a": 1}
    return adata


def missing_as_none(column: pd.Series) -> list:
    return [None if pd.isna(value) else value for value in column]


# ---------------------------------------------------------------- the calls


def test_umi_calls_every_guide_at_five_umis() -> None:
    calls = guides.assign(screen(), "umi")
    assert list(calls.obs.columns) == OBS_COLUMNS
    assert calls.obs.index.name == "cell_barcode"
    assert calls.obs_names.tolist() == BARCODES
    best = ["TP53_1", "TP53_2", "TP53_1", None, None]
    assert missing_as_none(calls.obs["guide_id"]) == best
    assert missing_as_none(calls.obs["guide_identity"]) == best
    assert missing_as_none(calls.obs["umi_count"]) == [9, 8, 7, None, None]
    assert missing_as_none(calls.obs["assignment_confidence"]) == [1, 1, 1, None, None]
    assert calls.obs["is_unassigned"].tolist() == [False, False, False, True, True]
    assert calls.obs["is_multi_infected"].tolist() == [False, True, True, False, False]
    assert calls.obs["n_guides_detected"].tolist() == [1, 2, 2, 0, 0]
    assert calls.layers["assigned"].toarray().tolist() == (COUNTS >= 5).astype(int).tolist()
    assert calls.var["n_cells_assigned"].tolist() == [3, 2, 0]
    assert calls.var["status"].tolist() == ["ok", "ok", "ok"]


def test_max_leaves_ties_unassigned_and_counts_the_tied_guides() -> None:
    calls = guides.assign(screen(), "max")
    assert missing_as_none(calls.obs["guide_id"]) == ["TP53_1", "TP53_2", None, "NT_1", None]
    assert calls.obs["n_guides_detected"].tolist() == [1, 1, 2, 1, 0]
    assert calls.obs["is_unassigned"].tolist() == [False, False, True, False, True]
    assert not calls.obs["is_multi_infected"].any()


def test_max_with_a_floor_needs_that_many_umis() -> None:
    calls = guides.assign(screen(), "max", umi_threshold=8)
    assert missing_as_none(calls.obs["guide_id"]) == ["TP53_1", "TP53_2", None, None, None]
    assert calls.obs["n_guides_detected"].tolist() == [1, 1, 0, 0, 0]
    assert calls.uns["kaichi"]["model_params"] == {"umi_threshold": 8}


def test_ratio_calls_all_guides_that_share_the_largest_proportion() -> None:
    calls = guides.assign(screen(), "ratio")
    assert missing_as_none(calls.obs["guide_id"]) == ["TP53_1", "TP53_2", "TP53_1", "NT_1", None]
    confidence = np.array([1, 8 / 14, 7 / 15, 1, np.nan], dtype=np.float32)
    assert np.array_equal(calls.obs["assignment_confidence"], confidence, equal_nan=True)
    assert calls.obs["is_multi_infected"].tolist() == [False, False, True, False, False]
    assert calls.obs["n_guides_detected"].tolist() == [1, 1, 2, 1, 0]


def test_min_confidence_is_the_threshold_of_ratio() -> None:
    by_confidence = guides.assign(screen(), "ratio", min_confidence=8 / 14)
    by_ratio = guides.assign(screen(), "ratio", ratio=8 / 14)
    # 8 of 14 is the threshold itself and a call must be above it.
    assert missing_as_none(by_ratio.obs["guide_id"]) == ["TP53_1", None, None, "NT_1", None]
    pd.testing.assert_frame_equal(by_confidence.obs, by_ratio.obs)


def test_types_are_the_documented_ones() -> None:
    calls = guides.assign(screen(), "umi")
    assert sp.issparse(calls.X)
    assert calls.X.format == calls.layers["assigned"].format == "csr"
    assert calls.X.dtype == np.uint32
    assert calls.layers["assigned"].dtype == np.uint8
    assert set(calls.layers["assigned"].data) == {1}
    assert calls.obs["umi_count"].dtype == pd.UInt32Dtype()
    assert calls.obs["assignment_confidence"].dtype == np.float32
    assert calls.obs["n_guides_detected"].dtype == np.uint8
    assert calls.obs["is_unassigned"].dtype == calls.obs["is_multi_infected"].dtype == bool


def test_provenance_stands_under_both_names() -> None:
    uns = guides.assign(screen(), "ratio").uns
    assert uns["crispyx_guides"] == uns["kaichi"]
    assert uns["kaichi"]["model"] == "ratio"
    assert uns["kaichi"]["model_params"] == {"ratio": 0.3}
    assert uns["kaichi"]["version"]


def test_input_columns_come_after_the_calls() -> None:
    adata = screen(lane=[1, 1, 2, 2, 2])
    adata.var["sequence"] = ["AC", "AG", "AT"]
    calls = guides.assign(adata, "umi")
    assert list(calls.obs.columns) == [*OBS_COLUMNS, "lane"]
    assert list(calls.var.columns) == ["n_cells_assigned", "status", "sequence"]
    assert calls.obs["lane"].tolist() == [1, 1, 2, 2, 2]


def test_calls_can_be_called_again_and_say_what_they_replace() -> None:
    first = guides.assign(screen(), "umi")
    with pytest.warns(CrispyxWarning) as caught:
        again = guides.assign(first, "umi")
    assert any("'guide_id'" in str(w.message) for w in caught)
    assert any("'status'" in str(w.message) for w in caught)
    assert all(w.filename == __file__ for w in caught)
    pd.testing.assert_frame_equal(again.obs, first.obs)


def test_counts_beyond_32_bits_are_kept() -> None:
    counts = COUNTS.astype(np.int64)
    counts[0, 0] = 2**32 + 3
    calls = guides.assign(screen(sp.csr_matrix(counts)), "umi")
    assert calls.X.dtype == np.uint64
    assert calls.X[0, 0] == 2**32 + 3
    assert calls.obs["umi_count"].dtype == pd.UInt64Dtype()
    assert calls.obs["umi_count"].iloc[0] == 2**32 + 3


def test_more_than_255_guides_in_a_cell_are_counted() -> None:
    names = [f"g{i}" for i in range(300)]
    calls = guides.assign(screen(np.full((5, 300), 6), names=names), "umi")
    assert calls.obs["n_guides_detected"].dtype == np.uint16
    assert calls.obs["n_guides_detected"].tolist() == [300] * 5


# ---------------------------------------------------------------- the inputs


@pytest.mark.parametrize("form", ["csr", "csc", "dense", "layer"])
@pytest.mark.parametrize("held", ["path", "text", "backed", "wrapper", "memory"])
def test_calls_are_the_same_from_every_input(form: str, held: str, tmp_path: Path) -> None:
    expected = guides.assign(screen(), "umi")
    matrix = sp.csr_matrix(COUNTS.astype(np.float32))
    adata = screen({"csc": matrix.tocsc(), "dense": None}.get(form, matrix))
    if form == "dense":
        adata = ad.AnnData(COUNTS.astype(np.float32), obs=adata.obs, var=pd.DataFrame(index=GUIDES))
    if form == "layer":
        adata.layers["umi"] = adata.X
        adata.X = sp.csr_matrix(adata.shape, dtype=np.float32)
    layer = "umi" if form == "layer" else None
    path = tmp_path / "guides.h5ad"
    adata.write_h5ad(path)
    given = {"path": path, "text": str(path), "memory": adata}.get(held)
    if held == "wrapper":
        given = AnnData(path)
    if held == "backed":
        given = ad.read_h5ad(path, backed="r")
    calls = guides.assign(given, "umi", layer=layer)
    pd.testing.assert_frame_equal(calls.obs, expected.obs)
    pd.testing.assert_frame_equal(calls.var, expected.var)
    assert (calls.X != expected.X).nnz == 0
    assert (calls.layers["assigned"] != expected.layers["assigned"]).nnz == 0


def test_view_of_an_anndata_is_called_as_what_it_shows() -> None:
    calls = guides.assign(screen(lane=list("aabbb"))[1:4], "umi")
    assert calls.obs_names.tolist() == BARCODES[1:4]
    assert missing_as_none(calls.obs["guide_id"]) == ["TP53_2", "TP53_1", None]
    assert calls.obs["lane"].tolist() == ["a", "b", "b"]


def test_stored_zeros_are_no_counts() -> None:
    matrix = sp.csr_matrix(np.ones(COUNTS.shape, dtype=np.int32))
    matrix.data = COUNTS.ravel().astype(np.int32)
    calls = guides.assign(screen(matrix), "max")
    assert calls.X.nnz == np.count_nonzero(COUNTS)
    pd.testing.assert_frame_equal(calls.obs, guides.assign(screen(), "max").obs)


@pytest.mark.parametrize("model", ["umi", "max", "ratio"])
def test_engine_and_threads_do_not_change_the_result(model: str) -> None:
    rng = np.random.default_rng(3)
    adata = screen(rng.poisson(1.5, (400, 5)), [f"c{i}" for i in range(400)], list("abcde"))
    one = guides.assign(adata, model, n_jobs=1)
    two = guides.assign(adata, model, n_jobs=2)
    with use_engine("reference"):
        defined = guides.assign(adata, model)
    for other in (two, defined):
        pd.testing.assert_frame_equal(one.obs, other.obs)
        pd.testing.assert_frame_equal(one.var, other.var)
        assert (one.layers["assigned"] != other.layers["assigned"]).nnz == 0


@pytest.mark.parametrize("model", ["umi", "max", "ratio"])
def test_calls_survive_a_file(model: str, tmp_path: Path) -> None:
    adata = screen(lane=pd.Categorical(["a", "a", "b", "b", None]))
    calls = guides.assign(adata, model)
    calls.write_h5ad(tmp_path / "calls.h5ad")
    back = ad.read_h5ad(tmp_path / "calls.h5ad")
    pd.testing.assert_frame_equal(back.obs, calls.obs)
    pd.testing.assert_frame_equal(back.var, calls.var)
    assert (back.X != calls.X).nnz == 0
    assert back.X.dtype == calls.X.dtype
    assert back.layers["assigned"].dtype == np.uint8
    for name in ("crispyx_guides", "kaichi"):
        assert back.uns[name] == calls.uns[name]


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("value", "said"),
    [(2.5, "2.5"), (-1.0, "-1"), (np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")],
)
@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_value_that_is_no_count_is_refused_with_its_place(layout, value, said) -> None:
    counts = COUNTS.astype(np.float64)
    counts[3, 1] = value
    if layout == "dense":
        adata = ad.AnnData(counts, obs=pd.DataFrame(index=BARCODES), var=pd.DataFrame(index=GUIDES))
    else:
        adata = screen(getattr(sp, f"{layout}_matrix")(counts))
    with pytest.raises(InputError, match=f"holds {said}.*'AAAC-3'.*'TP53_2'"):
        guides.assign(adata, "umi")


def test_guide_name_that_stands_twice_is_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # anndata's own remark on the fixture
        adata = screen(names=["a", "b", "a"])
    with pytest.raises(InputError, match="guide 'a' stands in columns 0 and 2"):
        guides.assign(adata, "umi")


def test_barcode_that_stands_twice_is_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # anndata's own remark on the fixture
        adata = screen(barcodes=["x", "y", "z", "y", "x"])
    with pytest.raises(InputError, match="barcode 'y' stands in rows 1 and 3"):
        guides.assign(adata, "umi")


def test_missing_file_is_a_clean_error(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"nowhere\.h5ad"):
        guides.assign(tmp_path / "nowhere.h5ad", "umi")


@pytest.mark.parametrize("shape", [(0, 3), (5, 0)])
def test_data_without_cells_or_guides_is_refused(shape: tuple[int, int]) -> None:
    adata = ad.AnnData(sp.csr_matrix(shape, dtype=np.int32))
    with pytest.raises(InputError, match="nothing to compute"):
        guides.assign(adata, "umi")


def test_genes_are_not_taken_for_guides() -> None:
    adata = screen()
    adata.var["feature_types"] = ["Gene Expression", "CRISPR Guide Capture", "Gene Expression"]
    assert guides.assign(adata, "umi").var_names.tolist() == ["TP53_2"]
    genes = guides.assign(adata, "umi", feature_type="Gene Expression")
    assert genes.var_names.tolist() == ["TP53_1", "NT_1"]
    adata.var["feature_types"] = "Gene Expression"
    with pytest.raises(InputError, match=r"'CRISPR Guide Capture'.*'Gene Expression' \(3\)"):
        guides.assign(adata, "umi")


@pytest.mark.parametrize("model", ["umi", "max", "ratio"])
def test_guides_without_counts_get_a_status_and_one_warning(model: str) -> None:
    counts = np.hstack([COUNTS, np.zeros((5, 2), dtype=int)])
    with pytest.warns(CrispyxWarning, match="2 of 5 guides have no UMI.*'e1', 'e2'") as caught:
        calls = guides.assign(screen(counts, names=[*GUIDES, "e1", "e2"]), model)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert calls.var["status"].tolist() == ["ok", "ok", "ok", "no_counts", "no_counts"]
    assert calls.var["n_cells_assigned"].tolist()[3:] == [0, 0]


def test_screen_without_any_count_is_unassigned() -> None:
    with pytest.warns(CrispyxWarning, match="3 of 3 guides"):
        calls = guides.assign(screen(np.zeros((5, 3), dtype=int)), "ratio")
    assert calls.obs["is_unassigned"].all()
    assert calls.X.nnz == calls.layers["assigned"].nnz == 0


def test_unknown_model_is_refused() -> None:
    with pytest.raises(InputError, match="model is 'UMI'; choose one of 'umi'"):
        guides.assign(screen(), "UMI")


@pytest.mark.parametrize(
    "given",
    [
        {"min_confidence": -1},
        {"min_confidence": 1.5},
        {"min_confidence": float("nan")},
        {"min_confidence": "0.5"},
        {"ratio": -0.1},
        {"ratio": float("nan")},
        {"quantile": 0},
        {"quantile": 2.0},
        {"quantile": float("nan")},
        {"umi_threshold": 0},
        {"umi_threshold": 2.5},
        {"umi_threshold": True},
        {"n_jobs": 0},
    ],
    ids=str,
)
@pytest.mark.parametrize("model", ["umi", "ratio"])
def test_value_out_of_range_is_refused(model: str, given: dict) -> None:
    (name, value) = next(iter(given.items()))
    with pytest.raises(InputError, match=f"^{name} is {value!r}; give"):
        guides.assign(screen(), model, **given)


@pytest.mark.parametrize(
    ("model", "given"),
    [
        ("umi", {"quantile": 0.1}),
        ("max", {"quantile": 0.1}),
        ("ratio", {"quantile": 0.1}),
        ("umi", {"min_confidence": 0.5}),
        ("max", {"min_confidence": 0.5}),
        ("umi", {"ratio": 0.3}),
        ("max", {"ratio": 0.3}),
        ("ratio", {"umi_threshold": 3}),
    ],
)
def test_parameter_of_another_model_is_refused(model: str, given: dict) -> None:
    with pytest.raises(InputError, match=f"'{model}' does not use {next(iter(given))}"):
        guides.assign(screen(), model, **given)


def test_two_names_of_one_threshold_are_refused() -> None:
    with pytest.raises(InputError, match="same threshold"):
        guides.assign(screen(), "ratio", ratio=0.3, min_confidence=0.3)


# ---------------------------------------------------------------- the join


def target(guide: str) -> str:
    return guide.split("_")[0]


def is_control(guide: str) -> bool:
    return guide.startswith("NT")


def joined(tmp_path: Path, expression=None, calls=None, **given) -> AnnData:
    expression = genes() if expression is None else expression
    if isinstance(expression, ad.AnnData):
        path = tmp_path / "genes.h5ad"
        if not path.exists():
            expression.write_h5ad(path)
        expression = path
    given = {"targets": target, "control_guides": is_control} | given
    calls = guides.assign(screen(), "max") if calls is None else calls
    return guides.add_to(expression, calls, **given)


def test_cells_are_matched_by_barcode_and_keep_their_order(tmp_path: Path) -> None:
    obs = joined(tmp_path).obs.load()
    assert obs.index.tolist() == BARCODES[::-1]
    assert list(obs.columns) == [
        "perturbation",
        "guide",
        "guide_umi",
        "n_guides_detected",
        "is_multi_infected",
    ]
    assert missing_as_none(obs["guide"]) == [None, "NT_1", None, "TP53_2", "TP53_1"]
    assert missing_as_none(obs["perturbation"]) == [None, "non-targeting", None, "TP53", "TP53"]
    assert missing_as_none(obs["guide_umi"]) == [None, 4, None, 8, 9]
    assert obs["n_guides_detected"].tolist() == [0, 1, 2, 1, 1]
    assert not obs["is_multi_infected"].any()


def test_cells_with_several_guides_have_no_perturbation(tmp_path: Path) -> None:
    calls = guides.assign(screen(), "umi")
    with pytest.warns(CrispyxWarning, match="no cell has the control label 'non-targeting'"):
        view = joined(tmp_path, calls=calls)
    obs = view.obs.load()
    # Both guides of the second and third cell have one target, which does not make them one.
    assert obs["is_multi_infected"].tolist() == [False, False, True, True, False]
    assert missing_as_none(obs["perturbation"]) == [None, None, None, None, "TP53"]
    assert missing_as_none(obs["guide"]) == [None, None, None, None, "TP53_1"]
    assert missing_as_none(obs["guide_umi"]) == [None, None, None, None, 9]


def test_summary_counts_every_cell_once(tmp_path: Path) -> None:
    barcodes = [*BARCODES[1:], "unknown-1"]
    with pytest.warns(CrispyxWarning, match="control label"):
        view = joined(tmp_path, genes(barcodes), guides.assign(screen(), "umi"))
    summary = guides.join_summary(view)
    assert summary == guides.JoinSummary(
        n_cells=5,
        n_matched=4,
        n_one_guide=0,
        n_several_guides=2,
        n_no_guide=2,
        n_not_in_calls=1,
        n_only_in_calls=1,
    )
    assert view.uns["crispyx_guides_join"]["n_several_guides"] == 2
    assert view.uns["crispyx_guides_join"]["model"] == "umi"
    obs = view.obs.load()
    assert missing_as_none(obs["n_guides_detected"]) == [2, 2, 0, 0, None]
    assert obs["is_multi_infected"].dtype == bool


def test_everything_else_is_copied_as_it_is(tmp_path: Path) -> None:
    adata = genes(lane=pd.Categorical(list("aabbb")), depth=[1.0, 2.0, np.nan, 4.0, 5.0])
    adata.raw = adata.copy()
    view = joined(tmp_path, adata)
    before, after = ad.read_h5ad(tmp_path / "genes.h5ad"), view.to_memory()
    pd.testing.assert_frame_equal(after.obs[["lane", "depth"]], before.obs)
    pd.testing.assert_frame_equal(after.var, before.var)
    assert after.uns["note"] == before.uns["note"]
    assert np.array_equal(after.obsm["X_pca"], before.obsm["X_pca"])
    with h5py.File(tmp_path / "genes.h5ad") as source, h5py.File(view.path) as copy:
        for part in ("X", "layers/counts", "raw/X"):
            for name in ("data", "indices", "indptr"):
                one, other = source[f"{part}/{name}"], copy[f"{part}/{name}"]
                assert one.dtype == other.dtype
                assert one[()].tobytes() == other[()].tobytes()


def test_categories_stored_by_reference_survive(tmp_path: Path) -> None:
    path = tmp_path / "old.h5ad"
    genes(lane=pd.Categorical(list("aabbb"))).write_h5ad(path)
    with h5py.File(path, "r+") as file:  # as anndata 0.7 wrote categoricals
        obs = file["obs"]
        codes, categories = obs["lane/codes"][()], obs["lane/categories"][()]
        del obs["lane"]
        kept = obs.create_group("__categories")
        kept.create_dataset("lane", data=categories, dtype=h5py.string_dtype())
        obs.create_dataset("lane", data=codes).attrs["categories"] = kept["lane"].ref
        obs.attrs["encoding-version"] = "0.1.0"
    view = joined(tmp_path, path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # anndata's remarks on the old format
        obs = ad.read_h5ad(view.path).obs
    assert obs["lane"].tolist() == list("aabbb")
    assert missing_as_none(obs["perturbation"])[-1] == "TP53"


def test_calls_and_expression_may_be_held_in_any_way(tmp_path: Path) -> None:
    expected = joined(tmp_path).obs.load()
    calls = guides.assign(screen(), "max")
    calls.write_h5ad(tmp_path / "calls.h5ad")
    path = tmp_path / "genes.h5ad"
    held = [path, str(path), AnnData(path), ad.read_h5ad(path, backed="r"), ad.read_h5ad(path)]
    for number, expression in enumerate(held):
        output = tmp_path / f"out{number}.h5ad"
        view = guides.add_to(
            expression,
            tmp_path / "calls.h5ad" if number % 2 else calls,
            targets=target,
            control_guides=is_control,
            output_path=output,
        )
        assert view.path == output
        pd.testing.assert_frame_equal(view.obs.load(), expected)
        assert (view.to_memory().X != ad.read_h5ad(path).X).nnz == 0


def test_expression_in_memory_is_left_alone(tmp_path: Path) -> None:
    adata = genes(lane=["a", "a", None, "b", "b"], guide=list("vwxyz"))
    adata.var["symbol"] = ["x", None, "y", "y"]
    before = adata.obs.copy()
    calls = guides.assign(screen(), "max")
    given = {"targets": target, "control_guides": is_control, "overwrite": True}
    view = guides.add_to(adata, calls, output_dir=tmp_path, data_name="mine", **given)
    assert view.path == tmp_path / "crispyx_mine_with_guides.h5ad"
    pd.testing.assert_frame_equal(adata.obs, before)
    assert adata.var["symbol"].tolist() == ["x", None, "y", "y"]
    assert missing_as_none(view.var["symbol"]) == ["x", None, "y", "y"]
    obs = view.obs.load()
    assert missing_as_none(obs["lane"]) == ["a", "a", None, "b", "b"]
    assert missing_as_none(obs["guide"]) == [None, "NT_1", None, "TP53_2", "TP53_1"]
    with pytest.raises(InputError, match="give output_path= or output_dir="):
        guides.add_to(adata, calls, **given)


@pytest.mark.parametrize(
    "given",
    [
        {"targets": {"TP53_1": "TP53", "TP53_2": "TP53", "NT_1": "non-targeting"}},
        {"targets": {"TP53_1": "TP53", "TP53_2": "TP53"}, "control_guides": ["NT_1"]},
        {"targets": target, "control_guides": is_control},
        {"targets": target, "control_guides": {"NT_1"}},
    ],
    ids=["dict", "dict and list", "functions", "function and set"],
)
def test_targets_and_controls_may_be_given_in_any_way(given: dict, tmp_path: Path) -> None:
    obs = joined(tmp_path, **({"control_guides": None} | given)).obs.load()
    assert missing_as_none(obs["perturbation"]) == [None, "non-targeting", None, "TP53", "TP53"]


def test_guide_is_its_own_target_unless_given(tmp_path: Path) -> None:
    obs = joined(tmp_path, targets=None, control_label="NTC").obs.load()
    assert missing_as_none(obs["perturbation"]) == [None, "NTC", None, "TP53_2", "TP53_1"]


def test_no_barcode_in_common_shows_both_sides(tmp_path: Path) -> None:
    barcodes = [f"AAAC-{i}_lane1" for i in range(5)]
    with pytest.raises(InputError, match="suffix such as '-1'") as caught:
        joined(tmp_path, genes(barcodes))
    for name in [*barcodes[:3], *BARCODES[:3]]:
        assert repr(name) in str(caught.value)
    assert list(tmp_path.iterdir()) == [tmp_path / "genes.h5ad"]


def test_few_barcodes_in_common_are_a_warning(tmp_path: Path) -> None:
    barcodes = [BARCODES[3], "x", "y"]
    with pytest.warns(CrispyxWarning, match="only 1 of 3 cells are in the calls") as caught:
        joined(tmp_path, genes(barcodes))
    assert len(caught) == 1
    assert caught[0].filename.endswith("test_guides.py")


@pytest.mark.parametrize("side", ["expression", "calls"])
def test_barcode_twice_on_either_side_is_refused(side: str, tmp_path: Path) -> None:
    twice = [BARCODES[0], *BARCODES[:4]]
    calls = guides.assign(screen(), "max")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # anndata's own remark on the fixture
        expression = genes(twice if side == "expression" else None)
        if side == "calls":
            calls.obs_names = twice
        expression.write_h5ad(tmp_path / "genes.h5ad")
    with pytest.raises(InputError, match="barcode 'AAAC-0' stands in rows 0 and 1"):
        joined(tmp_path, tmp_path / "genes.h5ad", calls)


def test_calls_must_be_calls(tmp_path: Path) -> None:
    with pytest.raises(MissingColumnError, match=r"'guide_id'.*crispyx\.guides\.assign"):
        joined(tmp_path, calls=screen())


def test_guide_that_calls_do_not_list_is_refused(tmp_path: Path) -> None:
    calls = guides.assign(screen(), "max")
    calls.obs["guide_id"] = calls.obs["guide_id"].cat.rename_categories({"NT_1": "NT_9"})
    with pytest.raises(InputError, match="guide_id of cell 'AAAC-3' is 'NT_9'"):
        joined(tmp_path, calls=calls)


def test_existing_columns_are_kept_unless_overwritten(tmp_path: Path) -> None:
    adata = genes(guide=list("vwxyz"), lane=list("aabbb"), guide_umi=[1, 2, 3, 4, 5])
    with pytest.raises(InputError, match=r"has 'guide', 'guide_umi' already.*overwrite=True"):
        joined(tmp_path, adata)
    view = joined(tmp_path, adata, overwrite=True)
    obs = view.obs.load()
    assert obs.columns[0] == "lane"
    assert missing_as_none(obs["guide"]) == [None, "NT_1", None, "TP53_2", "TP53_1"]
    assert ad.read_h5ad(tmp_path / "genes.h5ad").obs["guide"].tolist() == list("vwxyz")


def test_column_names_are_the_callers(tmp_path: Path) -> None:
    obs = joined(tmp_path, perturbation_column="gene", guide_column="sgrna").obs.load()
    assert {"gene", "sgrna"} < set(obs.columns)
    assert not {"perturbation", "guide"} & set(obs.columns)
    with pytest.raises(InputError, match="'guide_umi' would be written twice"):
        joined(tmp_path, guide_column="guide_umi")
    with pytest.raises(InputError, match="'guide' would be written twice"):
        joined(tmp_path, perturbation_column="guide")


def test_index_of_obs_is_never_replaced(tmp_path: Path) -> None:
    adata = genes()
    adata.obs.index.name = "guide"
    with pytest.raises(InputError, match=r"index of obs .* is named 'guide'"):
        joined(tmp_path, adata, overwrite=True)


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"targets": {"TP53_1": "TP53"}}, InputError, "no entry for 1 of 2 guides: 'TP53_2'"),
        ({"targets": lambda guide: None}, InputError, "gives None for guide 'TP53_1'"),
        ({"targets": lambda guide: 7}, InputError, "gives 7 for guide 'TP53_1'"),
        ({"targets": "TP53"}, MissingColumnError, "names the var column 'TP53'"),
        ({"targets": 7}, InputTypeError, "targets is a int"),
        ({"control_guides": "NT_1"}, InputTypeError, "control_guides is 'NT_1'"),
        ({"control_guides": ["NT_7"]}, InputError, "names 1 guides .* 'NT_7'"),
        ({"output_path": "a.h5ad", "data_name": "b"}, InputError, "leave out output_dir="),
    ],
)
def test_bad_arguments_say_what_to_do(given, error, said, tmp_path: Path) -> None:
    with pytest.raises(error, match=said):
        joined(tmp_path, **given)
    assert list(tmp_path.iterdir()) == [tmp_path / "genes.h5ad"]


def test_same_join_is_reloaded_and_another_one_replaces_it(tmp_path: Path) -> None:
    first = joined(tmp_path)
    assert first.path == tmp_path / "crispyx_with_guides.h5ad"
    written = first.path.stat().st_mtime_ns
    assert joined(tmp_path).path.stat().st_mtime_ns == written
    with pytest.warns(CrispyxWarning, match="computed again") as caught:
        again = joined(tmp_path, targets=None)
    assert caught[0].filename.endswith("test_guides.py")
    assert again.obs.load()["perturbation"].iloc[-1] == "TP53_1"
    forced = again.path.stat().st_mtime_ns
    assert joined(tmp_path, targets=None, force=True).path.stat().st_mtime_ns > forced


def test_output_of_somebody_else_is_kept_unless_forced(tmp_path: Path) -> None:
    output = tmp_path / "crispyx_with_guides.h5ad"
    output.write_bytes(b"mine")
    with pytest.raises(OutputExistsError, match="force=True"):
        joined(tmp_path)
    assert output.read_bytes() == b"mine"
    assert joined(tmp_path, force=True).shape == (5, 4)


def test_output_is_never_the_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is the input itself"):
        joined(tmp_path, output_path=tmp_path / "genes.h5ad", force=True)


def test_failed_join_leaves_no_file(tmp_path: Path) -> None:
    genes().write_h5ad(tmp_path / "genes.h5ad")
    with h5py.File(tmp_path / "genes.h5ad", "r+") as file:
        file["obsm/lost"] = h5py.ExternalLink("gone.h5", "/x")
        del file["layers"]
        file["layers"] = h5py.ExternalLink("gone.h5", "/layers")
    with pytest.raises((KeyError, OSError, RuntimeError)):
        joined(tmp_path, tmp_path / "genes.h5ad")
    assert [path.name for path in tmp_path.iterdir()] == ["genes.h5ad"]


def test_summary_of_another_file_is_refused(tmp_path: Path) -> None:
    genes().write_h5ad(tmp_path / "genes.h5ad")
    with pytest.raises(InputError, match="add_to writes it"):
        guides.join_summary(tmp_path / "genes.h5ad")


# ---------------------------------------------------------------- a real screen


@pytest.mark.parametrize(
    ("published", "model", "given"),
    [
        ("umi_t5", "umi", {}),
        ("max_umi3", "max", {"umi_threshold": 3}),
        ("ratio_t0.3", "ratio", {}),
    ],
)
def test_calls_equal_crispats_on_the_schraivogel_screen(
    published: str, model: str, given: dict, data_dir: Path
) -> None:
    calls = guides.assign(data_dir / "schraivogel_gRNA_counts.h5ad", model, **given)
    table = pd.read_csv(data_dir / "crispat_reference" / f"{published}.csv.gz")
    cell, guide = calls.layers["assigned"].nonzero()
    ours = set(zip(calls.obs_names[cell], calls.var_names[guide], strict=True))
    assert len(ours) > 20_000
    assert ours == set(zip(table["cell"], table["gRNA"], strict=True))
    # Where one guide is called, it and its UMIs stand in obs.
    once = table[~table["cell"].duplicated(keep=False)].set_index("cell")
    found = calls.obs.loc[once.index]
    assert (found["guide_id"].astype(str) == once["gRNA"]).all()
    assert (found["umi_count"].astype(int) == once["UMI_counts"]).all()


def schraivogel_target(guide: str) -> str:
    if "non-targeting" in guide:
        return "non-targeting"
    return guide.removeprefix("CROPseq_dCas9_DS_").split("_", 1)[0]


def test_join_gives_the_published_perturbations(data_dir: Path, tmp_path: Path) -> None:
    expression = data_dir / "schraivogel_tapseq.h5ad"
    calls = guides.assign(data_dir / "schraivogel_gRNA_counts.h5ad", "umi")
    view = guides.add_to(
        expression,
        calls,
        perturbation_column="called_target",
        guide_column="called_guide",
        targets=schraivogel_target,
        output_dir=tmp_path,
    )
    obs = view.obs.load()
    assert (obs["called_target"].astype(str) == obs["perturbation"].astype(str)).all()
    assert (obs["called_guide"].astype(str) == obs["guide"].astype(str)).all()
    # 21,977 cells have guide counts; the published expression keeps those with one guide.
    assert guides.join_summary(view) == guides.JoinSummary(19060, 19060, 19060, 0, 0, 0, 2917)
    with h5py.File(expression) as source, h5py.File(view.path) as copy:
        for name in ("data", "indices", "indptr"):
            one, other = source[f"X/{name}"], copy[f"X/{name}"]
            assert one[()].tobytes() == other[()].tobytes()
            assert one.id.get_storage_size() == other.id.get_storage_size()
