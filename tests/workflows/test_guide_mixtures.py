"""Guide calls from mixtures: assign, score, decide, their tables and their files."""

from __future__ import annotations

import itertools
import os
import warnings
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse as sp

import crispyx.guides as guides
from crispyx.errors import CrispyxWarning, InputError, MissingFileError
from crispyx.settings import use_engine

COUNT_MODELS = ["poisson_gauss", "gauss", "poisson", "neg_binomial", "binomial"]
MODELS = [*COUNT_MODELS, "beta2", "beta3"]
FIT_COLUMNS = [
    "n_cells_assigned",
    "status",
    "threshold",
    "mean_posterior",
    "expected_fdr",
    "converged",
    "n_iter",
    "objective",
    "log_likelihood",
    "bic_difference",
    "fallback",
]


def truth_and_counts(n_cells: int = 500, n_guides: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Return which guides each cell carries and their UMIs, cells x guides."""
    rng = np.random.default_rng(7)
    carried = rng.random((n_cells, n_guides)) < 0.2
    depth = rng.lognormal(0, 0.3, (n_cells, 1))
    signal = rng.negative_binomial(4, 4 / (4 + 50 * depth), (n_cells, n_guides))
    return carried, np.where(carried, 5 + signal, 0) + rng.poisson(0.4 * depth, carried.shape)


def screen(counts: Any = None, **columns: Any) -> ad.AnnData:
    counts = truth_and_counts()[1] if counts is None else counts
    matrix = sp.csr_matrix(counts.astype(np.int32)) if isinstance(counts, np.ndarray) else counts
    obs = pd.DataFrame(columns, index=[f"cell{i}" for i in range(matrix.shape[0])])
    var = pd.DataFrame(index=[f"guide{j}" for j in range(matrix.shape[1])])
    return ad.AnnData(X=matrix, obs=obs, var=var)


def as_dense() -> ad.AnnData:
    data = screen()
    data.X = data.X.toarray()
    return data


@pytest.fixture(scope="module")
def data_dir() -> Path:
    folder = os.environ.get("CRISPYX_DATA_DIR")
    if not folder:
        pytest.skip("CRISPYX_DATA_DIR is not set: the folder with the real screens")
    return Path(folder)


# ---------------------------------------------------------------- assign


@pytest.mark.parametrize("model", COUNT_MODELS)
def test_guides_are_found_where_they_were_put(model: str) -> None:
    carried, counts = truth_and_counts()
    # Without a guide, one ambient UMI of one is all of the cell's depth: depth models call it.
    carried, counts = carried[carried.any(axis=1)], counts[carried.any(axis=1)]
    called = guides.assign(screen(counts), model).layers["assigned"].toarray().astype(bool)
    assert (called & carried).sum() / called.sum() > 0.97
    assert (called & carried).sum() / carried.sum() > 0.93
    assert (called.sum(axis=1) > 1).any()


@pytest.mark.parametrize("model", ["beta2", "beta3"])
def test_beta_models_call_the_largest_guide_alone(model: str) -> None:
    calls = guides.assign(screen(), model)
    counts, assigned = calls.X.toarray(), calls.layers["assigned"].toarray().astype(bool)
    assert assigned.any()
    proportion = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    assert np.all(counts[assigned] == np.repeat(counts.max(axis=1), assigned.sum(axis=1)))
    assert np.all(proportion[assigned] > calls.var["threshold"].iloc[0])


def test_default_model_is_poisson_gauss() -> None:
    calls = guides.assign(screen())
    assert calls.uns["kaichi"]["model"] == "poisson_gauss"
    assert calls.uns["kaichi"]["model_params"] == {"min_confidence": 0.8, "priors": True}


@pytest.mark.parametrize(("model", "default"), [(m, 0.8) for m in COUNT_MODELS] + [("beta2", 0.5)])
def test_default_confidence_is_the_documented_one(model: str, default: float) -> None:
    calls = guides.assign(screen(), model)
    assert calls.uns["crispyx_guides"]["model_params"]["min_confidence"] == default
    given = guides.assign(screen(), model, min_confidence=default)
    pd.testing.assert_frame_equal(given.obs, calls.obs)


@pytest.mark.parametrize("model", MODELS)
def test_fit_table_stands_in_var(model: str) -> None:
    calls = guides.assign(screen(), model)
    assert list(calls.var.columns)[: len(FIT_COLUMNS)] == FIT_COLUMNS
    assert set(calls.var["status"]) == {"ok"}
    assert calls.var["converged"].all()
    assert (calls.var["fallback"] == "").all()
    assert np.all(calls.var["bic_difference"] > 0)
    assert np.all(calls.var["expected_fdr"].between(0, 0.5))
    n_assigned = calls.layers["assigned"].sum(axis=0)
    assert calls.var["n_cells_assigned"].tolist() == np.asarray(n_assigned).ravel().tolist()


@pytest.mark.parametrize("model", ["poisson_gauss", "gauss"])
def test_every_count_from_the_threshold_on_is_called(model: str) -> None:
    calls = guides.assign(screen(), model)
    counts, assigned = calls.X.toarray(), calls.layers["assigned"].toarray().astype(bool)
    assert np.array_equal(assigned, counts >= calls.var["threshold"].to_numpy())


@pytest.mark.parametrize("model", MODELS)
def test_threads_and_layouts_do_not_change_the_calls(model: str) -> None:
    one = guides.assign(screen(), model, n_jobs=1)
    matrix = sp.csr_matrix(truth_and_counts()[1].astype(np.float32))
    for other in (
        guides.assign(screen(), model, n_jobs=2),
        guides.assign(screen(matrix.tocsc()), model),
        guides.assign(as_dense(), model),
    ):
        pd.testing.assert_frame_equal(one.obs, other.obs, check_exact=True)
        pd.testing.assert_frame_equal(one.var, other.var, check_exact=True)


@pytest.mark.parametrize("model", ["poisson_gauss", "gauss", "poisson", "binomial", "beta2"])
def test_reference_makes_the_same_calls(model: str) -> None:
    compiled = guides.assign(screen(), model)
    with use_engine("reference"):
        defined = guides.assign(screen(), model)
    assert (compiled.layers["assigned"] != defined.layers["assigned"]).nnz == 0
    columns = ["status", "n_cells_assigned", "threshold"]
    pd.testing.assert_frame_equal(compiled.var[columns], defined.var[columns])


@pytest.mark.parametrize("model", MODELS)
def test_calls_survive_a_file(model: str, tmp_path: Path) -> None:
    calls = guides.assign(screen(), model)
    calls.write_h5ad(tmp_path / "calls.h5ad")
    back = ad.read_h5ad(tmp_path / "calls.h5ad")
    pd.testing.assert_frame_equal(back.obs, calls.obs)
    pd.testing.assert_frame_equal(back.var, calls.var, check_dtype=False)
    assert back.uns["kaichi"] == calls.uns["kaichi"]


def test_quantiles_take_the_floor_and_earlier_cells_on_ties() -> None:
    counts = np.array([[3, 1], [2, 0], [4, 4], [6, 2], [2, 0]])
    calls = guides.assign(screen(counts), "quantiles", quantile=0.5)
    # Proportions of guide0: .75, 1, .5, .75, 1 -> two of five; of guide1: .25, .5, .25 -> one.
    assigned = [[0, 0], [1, 0], [0, 1], [0, 0], [1, 0]]
    assert calls.layers["assigned"].toarray().tolist() == assigned
    confidence = np.array([np.nan, 1, 0.5, np.nan, 1], dtype=np.float32)
    assert np.array_equal(calls.obs["assignment_confidence"], confidence, equal_nan=True)
    tied = guides.assign(screen(np.full((5, 1), 7)), "quantiles", quantile=0.4)
    assert tied.layers["assigned"].toarray().ravel().tolist() == [1, 1, 0, 0, 0]


@pytest.mark.parametrize("quantile", [0.1, 0.29, 1 / 3, 1])
def test_quantiles_are_those_of_the_reference(quantile: float) -> None:
    compiled = guides.assign(screen(), "quantiles", quantile=quantile)
    with use_engine("reference"):
        defined = guides.assign(screen(), "quantiles", quantile=quantile)
    assert (compiled.layers["assigned"] != defined.layers["assigned"]).nnz == 0
    pd.testing.assert_frame_equal(compiled.obs, defined.obs)


# ---------------------------------------------------------------- bad guides


def bad_screen() -> ad.AnnData:
    counts = np.hstack([truth_and_counts()[1][:, :2], np.zeros((500, 5), dtype=int)])
    counts[3, 3] = 50
    counts[4, 4], counts[5, 4] = 9, 60
    counts[:50, 5] = 7
    counts[:50, 6] = 1
    return screen(counts)


@pytest.mark.parametrize("model", COUNT_MODELS)
def test_no_guide_is_silently_without_cells(model: str) -> None:
    with pytest.warns(CrispyxWarning, match=r"5 of 7 guides.*umi_count >= 5") as caught:
        calls = guides.assign(bad_screen(), model)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    status = calls.var["status"].tolist()
    assert status[:4] == ["ok", "ok", "no_counts", "too_few"]
    assert status[4] in ("weak", "no_separation", "not_converged")
    assert status[5:] == ["no_separation", "no_separation"]
    assert calls.var["n_cells_assigned"].tolist()[2:] == [0, 1, 2, 50, 0]
    assert calls.var["fallback"].tolist() == ["", "", "", *["umi_count >= 5"] * 4]
    # A rule has no posterior.
    assert np.isnan(calls.var["mean_posterior"].iloc[3])


def test_clean_cells_are_not_left_unassigned_by_beta_models() -> None:
    rng = np.random.default_rng(1)
    counts = np.zeros((300, 4), dtype=int)
    counts[np.arange(300), rng.integers(0, 4, 300)] = 20 + rng.poisson(30, 300)
    with pytest.warns(CrispyxWarning, match="no_separation"):
        calls = guides.assign(screen(counts), "beta2")
    assert not calls.obs["is_unassigned"].any()


@pytest.mark.parametrize("model", MODELS)
def test_screen_without_any_count_is_unassigned(model: str) -> None:
    with pytest.warns(CrispyxWarning, match="3 of 3 guides"):
        calls = guides.assign(screen(np.zeros((5, 3), dtype=int)), model)
    assert calls.obs["is_unassigned"].all()
    assert calls.var["status"].tolist() == ["no_counts"] * 3


@pytest.mark.parametrize("value", [2.5, -1.0, np.nan])
@pytest.mark.parametrize("door", [guides.assign, guides.score])
def test_value_that_is_no_count_is_refused_with_its_place(door: Any, value: float) -> None:
    counts = truth_and_counts()[1].astype(np.float64)
    counts[3, 1] = value
    with pytest.raises(InputError, match=r"'cell3'.*'guide1'"):
        door(screen(sp.csr_matrix(counts)))


@pytest.mark.filterwarnings("ignore:.*no reliable fit")  # one such cell may be all a fit sees
@pytest.mark.parametrize("model", MODELS)
def test_counts_beyond_32_bits_are_kept(model: str) -> None:
    counts = truth_and_counts()[1].astype(np.int64)
    counts[3] = [2**33, 0, 0, 0, 0]
    calls = guides.assign(screen(sp.csr_matrix(counts)), model)
    assert calls.obs["umi_count"].iloc[3] == 2**33
    assert calls.obs["guide_id"].iloc[3] == "guide0"
    assert calls.X.dtype == np.uint64


def test_count_beyond_every_mixture_is_refused_with_its_place() -> None:
    counts = truth_and_counts()[1].astype(np.int64)
    counts[3, 1] = 2**41
    with pytest.raises(InputError, match="guide 'guide1' has 2199023255552 UMIs in cell 3"):
        guides.assign(screen(sp.csr_matrix(counts)))


@pytest.mark.parametrize(
    ("model", "given"),
    [
        ("gauss", {"priors": False}),
        ("binomial", {"exposure": "crispat"}),
        ("poisson_gauss", {"umi_threshold": 3}),
        ("beta2", {"quantile": 0.1}),
        ("quantiles", {"min_confidence": 0.5}),
    ],
)
def test_parameter_of_another_model_is_refused(model: str, given: dict) -> None:
    with pytest.raises(InputError, match=f"'{model}' does not use {next(iter(given))}"):
        guides.assign(screen(), model, **given)


@pytest.mark.parametrize("given", [{"exposure": "s"}, {"priors": 1}, {"min_confidence": 2}])
def test_value_out_of_range_is_refused(given: dict) -> None:
    with pytest.raises(InputError, match=f"^{next(iter(given))} is "):
        guides.assign(screen(), "poisson", **given)


# ---------------------------------------------------------------- score and decide


@pytest.mark.parametrize("model", ["umi", "max", "ratio", "quantiles"])
def test_models_without_posteriors_are_not_scored(model: str) -> None:
    with pytest.raises(ValueError, match=f"'{model}' has no posteriors"):
        guides.score(screen(), model)


@pytest.mark.parametrize("model", MODELS)
def test_deciding_on_scores_is_assigning(model: str) -> None:
    scores = guides.score(screen(), model)
    for confidence in (0.3, 0.8, 0.99):
        table = guides.decide(scores, confidence).to_pandas()
        obs = guides.assign(screen(), model, min_confidence=confidence).obs
        assert table["cell_barcode"].tolist() == obs.index.tolist()
        for name in ("is_unassigned", "is_multi_infected", "n_guides_detected"):
            assert table[name].tolist() == obs[name].tolist()
        assert table["guide_id"].fillna("").tolist() == (
            obs["guide_id"].astype(object).fillna("").tolist()
        )
        assert np.array_equal(
            table["assignment_confidence"].to_numpy(np.float32),
            obs["assignment_confidence"].to_numpy(),
            equal_nan=True,
        )


def test_decision_has_the_documented_columns_and_types() -> None:
    counts = truth_and_counts()[1]
    counts[0] = 0
    batch = guides.decide(guides.score(screen(counts)))
    assert isinstance(batch, pa.RecordBatch)
    types = {field.name: str(field.type) for field in batch.schema}
    assert types == {
        "cell_barcode": "string",
        "guide_id": "string",
        "umi_count": "uint32",
        "assignment_confidence": "float",
        "is_unassigned": "bool",
        "is_multi_infected": "bool",
        "n_guides_detected": "uint8",
    }
    row = batch.slice(0, 1).to_pylist()[0]
    assert row["guide_id"] is row["umi_count"] is row["assignment_confidence"] is None
    assert not np.any(
        batch["is_unassigned"].to_numpy(False) & batch["is_multi_infected"].to_numpy(False)
    )


def test_posteriors_and_log_odds_have_an_entry_for_every_count() -> None:
    scores = guides.score(screen(), "poisson")
    posterior, log_odds = scores.posterior, scores.log_odds
    assert posterior.format == log_odds.format == "csr"
    assert posterior.shape == (500, 5)
    assert (
        posterior.nnz
        == log_odds.nnz
        == scores.counts.nnz
        == np.count_nonzero(truth_and_counts()[1])
    )
    np.testing.assert_allclose(posterior.data, 1 / (1 + np.exp(-log_odds.data)), rtol=1e-12)


def test_higher_confidence_never_adds_a_call() -> None:
    scores = guides.score(screen())
    detected = [
        guides.decide(scores, c)["n_guides_detected"].to_numpy(False).astype(int)
        for c in (0, 0.5, 0.9, 0.999, 1)
    ]
    assert all(np.all(a >= b) for a, b in itertools.pairwise(detected))
    assert detected[-1].sum() == 0


def test_smallest_count_of_a_call_can_be_given() -> None:
    batch = guides.decide(guides.score(screen()), min_umi=30).to_pandas()
    assert batch["umi_count"].min() >= 30


def test_cells_with_too_many_guides_are_left_unassigned() -> None:
    scores = guides.score(screen())
    free, limited = (guides.decide(scores, max_guides=n).to_pandas() for n in (None, 1))
    assert free["is_multi_infected"].any()
    assert not limited["is_multi_infected"].any()
    assert limited["n_guides_detected"].equals(free["n_guides_detected"])
    assert limited["is_unassigned"].equals(free["is_unassigned"] | free["is_multi_infected"])


def test_margin_leaves_ambiguous_cells_unassigned() -> None:
    scores = guides.score(screen(), "poisson")
    posterior = scores.posterior.toarray()
    detected = posterior > 0.5
    low = np.where(detected, posterior, 1).min(axis=1)
    high = np.where(detected, 0, posterior).max(axis=1)
    table = guides.decide(scores, 0.5, margin=0.9).to_pandas()
    assert (~table["is_unassigned"]).tolist() == (
        detected.any(axis=1) & (low - high >= 0.9)
    ).tolist()


def test_expected_false_discoveries_stay_within_the_given_rate() -> None:
    scores = guides.score(screen(), "poisson")
    posterior = scores.posterior.toarray()
    loose, strict = (guides.decide(scores, 0.0, expected_fdr=q) for q in (0.05, 0.001))
    for batch, rate in ((loose, 0.05), (strict, 0.001)):
        n = int(batch["n_guides_detected"].to_numpy(False).astype(int).sum())
        certain = np.sort(posterior[posterior > 0])[::-1]
        with_next = certain[certain >= certain[n]]
        assert (1 - certain[:n]).mean() <= rate < (1 - with_next).mean()


@pytest.mark.parametrize(
    "given",
    [
        {"min_confidence": -1},
        {"min_confidence": 2},
        {"min_confidence": float("nan")},
        {"min_umi": 0},
        {"max_guides": 1.5},
        {"margin": 1.1},
        {"expected_fdr": -0.1},
    ],
    ids=str,
)
def test_decision_out_of_range_is_refused(given: dict) -> None:
    with pytest.raises(InputError, match=f"^{next(iter(given))} is "):
        guides.decide(guides.score(screen()), **given)


def test_only_scores_are_decided_on() -> None:
    with pytest.raises(InputError, match=r"AnnData; give what cx\.gd\.score returned"):
        guides.decide(screen())


@pytest.mark.parametrize("suffix", ["arrow", "parquet"])
@pytest.mark.parametrize("model", ["poisson_gauss", "beta2"])
def test_scores_survive_a_file(model: str, suffix: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CrispyxWarning)  # the fallbacks are the point here
        scores = guides.score(bad_screen(), model)
    path = scores.save(tmp_path / f"scores.{suffix}")
    back = guides.ScoreResult.load(path)
    assert (back.model, back.model_params, back.version) == (
        scores.model,
        scores.model_params,
        scores.version,
    )
    pd.testing.assert_frame_equal(back.fits, scores.fits)
    assert np.array_equal(back.log_odds.data, scores.log_odds.data, equal_nan=True)
    assert back.counts.dtype == scores.counts.dtype
    assert guides.decide(back, 0.7).equals(guides.decide(scores, 0.7))


def address(values: np.ndarray) -> int:
    return int(values.__array_interface__["data"][0])


def test_arrow_table_shares_the_memory_of_the_scores(tmp_path: Path) -> None:
    scores = guides.score(screen(), "poisson")
    table = scores.to_arrow()
    assert table.num_rows == scores.n_cells
    for name, own in (
        ("umi_count", scores.counts.data),
        ("log_odds", scores.log_odds.data),
        ("guide", scores._scored.guides),
    ):
        values = table[name].chunk(0).values
        assert values.to_numpy().tolist() == own.tolist()
        assert values.buffers()[1].address == address(own)
    # A file that is mapped gives arrays that point into it: no copy, and not writable.
    back = guides.ScoreResult.load(scores.save(tmp_path / "scores.arrow"))
    assert not back._log_odds.flags.owndata
    assert not back._log_odds.flags.writeable


def test_missing_values_of_a_decision_are_nulls() -> None:
    counts = truth_and_counts()[1]
    counts[:3] = 0
    batch = guides.decide(guides.score(screen(counts)))
    none = batch["is_unassigned"].to_numpy(False)
    assert none[:3].all()
    for name in ("guide_id", "umi_count", "assignment_confidence"):
        assert np.array_equal(batch[name].is_null().to_numpy(False), none)
        batch[name].validate(full=True)


def test_saving_and_loading_name_what_is_wrong(tmp_path: Path) -> None:
    scores = guides.score(screen())
    with pytest.raises(InputError, match=r"give \.parquet or \.arrow"):
        scores.save(tmp_path / "scores.csv")
    with pytest.raises(MissingFileError, match=r"scores\.arrow"):
        guides.ScoreResult.load(tmp_path / "scores.arrow")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match="not a complete parquet file"):
        guides.ScoreResult.load(tmp_path / "broken.parquet")
    path = tmp_path / "other.arrow"
    table = pa.table({"a": [1]})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(InputError, match="holds no guide scores"):
        guides.ScoreResult.load(path)


# ---------------------------------------------------------------- real screens


def published(data_dir: Path, name: str) -> set[tuple[str, str]]:
    table = pd.read_csv(data_dir / "crispat_reference" / f"{name}.csv.gz")
    return set(zip(table["cell"], table["gRNA"], strict=True))


def pairs(calls: ad.AnnData) -> set[tuple[str, str]]:
    coo = calls.layers["assigned"].tocoo()
    return set(zip(calls.obs_names[coo.row], calls.var_names[coo.col], strict=True))


@pytest.mark.parametrize(
    ("model", "given", "name", "least"),
    [
        ("poisson_gauss", {"min_confidence": 0.5}, "poisson_gauss", 0.9997),
        ("gauss", {"min_confidence": 0.5}, "gauss_em", 0.9998),
        ("neg_binomial", {"exposure": "crispat"}, "neg_binomial_guides_0-4", 1),
        ("quantiles", {}, "quantiles_t0.1", 1),
        ("beta2", {}, "beta2", 0.99),
        ("beta3", {}, "beta3", 0.99),
    ],
)
def test_calls_of_a_real_screen_are_those_published(
    model: str, given: dict, name: str, least: float, data_dir: Path
) -> None:
    calls = guides.assign(data_dir / "schraivogel_gRNA_counts.h5ad", model, **given)
    theirs, ours = published(data_dir, name), pairs(calls)
    if "guides_0-4" in name:
        ours = {pair for pair in ours if pair[1] in set(calls.var_names[:5])}
    assert len(ours & theirs) / len(ours | theirs) >= least


@pytest.mark.parametrize("model", COUNT_MODELS)
def test_cells_of_high_multiplicity_keep_their_guides(model: str, data_dir: Path) -> None:
    genes = ad.read_h5ad(data_dir / "gasperini_highmoi.h5ad")
    counts = sp.csr_matrix(genes.obsm["gRNA_counts"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CrispyxWarning)  # rare guides fall back
        calls = guides.assign(screen(counts), model)
    n_guides = calls.layers["assigned"].sum(axis=1)
    assert (n_guides > 1).sum() > 100
    assert calls.var["n_cells_assigned"].min() > 0
    assert set(calls.var["status"]) == {"ok"}
    # Calls rest on posteriors near 1, and at most few guides are in doubt.
    assert calls.var["mean_posterior"].min() > 0.9
    assert calls.var["mean_posterior"].median() > 0.97
