"""Guide calls of screens made in several batches."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import crispyx.guides as guides
from crispyx.errors import InputError, MissingColumnError
from crispyx.settings import use_engine

# A beta model may find one component enough: what it says then is tested elsewhere.
pytestmark = pytest.mark.filterwarnings("ignore:.*no reliable fit")
MODELS = ["poisson_gauss", "gauss", "poisson", "neg_binomial", "binomial", "beta2", "beta3"]
DEPTH_MODELS = ["poisson", "neg_binomial", "binomial"]


def screen(
    seed: int = 0, n_cells: int = 400, n_batches: int = 3, spread: float = 0.0, n_guides: int = 6
) -> ad.AnnData:
    """Return cells with one guide each; ambient UMIs differ between batches by ``spread``."""
    rng = np.random.default_rng(seed)
    depth = rng.lognormal(0, 0.4, n_cells)
    batch = rng.integers(0, n_batches, n_cells)
    ambient = 0.3 * np.exp(rng.normal(0, spread, n_batches))[batch]
    counts = rng.poisson((ambient * depth)[:, None], (n_cells, n_guides))
    guide = rng.integers(0, n_guides, n_cells)
    counts[np.arange(n_cells), guide] += 5 + rng.negative_binomial(4, 4 / (4 + 50 * depth))
    obs = pd.DataFrame({"lane": batch, "guide": guide}, index=[f"cell{i}" for i in range(n_cells)])
    var = pd.DataFrame(index=[f"guide{j}" for j in range(n_guides)])
    return ad.AnnData(X=sp.csr_matrix(counts.astype(np.int32)), obs=obs, var=var)


def called(calls: ad.AnnData) -> np.ndarray:
    return calls.layers["assigned"].toarray().astype(bool)


def same(one: ad.AnnData, other: ad.AnnData) -> bool:
    return (one.layers["assigned"] != other.layers["assigned"]).nnz == 0


@pytest.mark.parametrize("model", MODELS)
def test_clean_guides_lose_no_cell_to_their_batches(model: str) -> None:
    for seed in range(3):
        data = screen(seed)  # some 66 cells of each guide, 22 of each batch
        pooled, batched = (guides.assign(data, model, batch_key=key) for key in (None, "lane"))
        assert called(pooled).sum() > 100
        assert np.all(called(batched).sum(axis=0) >= called(pooled).sum(axis=0))


@pytest.mark.parametrize("model", DEPTH_MODELS)
def test_batches_of_unlike_background_are_called_better(model: str) -> None:
    data = screen(3, 3000, 4, spread=1.5)
    truth = np.eye(6, dtype=bool)[data.obs["guide"].to_numpy()]
    wrong = [
        int((called(guides.assign(data, model, batch_key=key)) ^ truth).sum())
        for key in (None, "lane")
    ]
    assert wrong[1] <= wrong[0]


@pytest.mark.parametrize("model", MODELS)
def test_one_batch_is_bit_equal_to_none(model: str) -> None:
    data = screen(1)
    data.obs["only"] = "lane1"
    none, one = (guides.score(data, model, batch_key=key) for key in (None, "only"))
    assert none.log_odds.data.tobytes() == one.log_odds.data.tobytes()
    pd.testing.assert_frame_equal(none.fits, one.fits, check_exact=True)
    assert one.batch_fits is None


@pytest.mark.parametrize("model", ["poisson", "gauss", "beta2"])
@pytest.mark.parametrize("kind", ["str", "category", "bool", "float", "Int64"])
def test_batches_may_be_of_any_type(model: str, kind: str, tmp_path: Path) -> None:
    data = screen(2, n_batches=2, spread=1.0)
    expected = guides.score(data, model, batch_key="lane")
    data.obs["batch"] = data.obs["lane"].astype(str if kind == "str" else kind)
    data.write_h5ad(tmp_path / "guides.h5ad")
    for held in (data, tmp_path / "guides.h5ad"):
        found = guides.score(held, model, batch_key="batch")
        assert found.log_odds.data.tobytes() == expected.log_odds.data.tobytes()
        assert found.batch_fits is not None
        assert len(found.batch_fits["batch"].unique()) == 2


@pytest.mark.parametrize("model", DEPTH_MODELS)
def test_table_of_depth_models_holds_effects_that_cancel(model: str) -> None:
    scores = guides.score(screen(3, 1500, spread=1.0), model, batch_key="lane")
    table = scores.batch_fits
    assert table is not None
    assert list(table.columns[:4]) == ["guide", "batch", "fit", "effect"]
    assert len(table) == 6 * 3
    assert set(table["fit"]) == {"own"}
    # Their mean is the background of the table of fits.
    assert np.allclose(table.groupby("guide")["effect"].sum(), 0, atol=1e-7)
    assert table["effect"].abs().min() > 0
    kind = "logit" if model == "binomial" else "log_rate"
    low = table.pivot(index="guide", columns="batch", values=f"{kind}_background").mean(axis=1)
    assert np.allclose(low, scores.fits[f"{kind}_background"])
    assert scores.model_params["batch_key"] == "lane"
    assert scores.model_params["min_cells_per_batch"] == 50


@pytest.mark.parametrize("model", ["poisson_gauss", "gauss"])
def test_table_of_histogram_models_says_which_fit_serves(model: str) -> None:
    data = screen(4, 3000, spread=1.5)
    table = guides.score(data, model, batch_key="lane").batch_fits
    assert table is not None
    assert "own" in set(table["fit"])
    counts = sp.csc_matrix(data.X)
    n = [
        (counts[(data.obs["lane"] == int(row.batch)).to_numpy(), int(row.guide[5:])] > 0).sum()
        for row in table.itertuples()
    ]
    assert table["n_cells"].tolist() == n
    few = guides.score(data, model, batch_key="lane", min_cells_per_batch=5000).batch_fits
    assert few is not None
    assert set(few["fit"]) == {"pooled"}


def test_small_batches_of_depth_models_share_an_effect() -> None:
    data = screen(5, 600, 2)
    data.obs["lane"] = np.where(np.arange(600) < 20, "tiny", data.obs["lane"].astype(str))
    data.obs.iloc[20:40, 0] = "small"
    table = guides.score(data, "poisson", batch_key="lane").batch_fits
    assert table is not None
    by_batch = {name: rows["effect"].to_numpy() for name, rows in table.groupby("batch")}
    assert np.array_equal(by_batch["tiny"], by_batch["small"])
    assert not np.array_equal(by_batch["tiny"], by_batch["0"])
    assert set(table["fit"][table["batch"].isin(["tiny", "small"])]) == {"joined"}


def test_table_of_beta_models_has_a_row_for_every_batch() -> None:
    table = guides.score(screen(6, 1500, spread=1.5), "beta2", batch_key="lane").batch_fits
    assert table is not None
    assert table["batch"].tolist() == ["0", "1", "2"]
    assert {"weight_1", "a_1", "b_2"} <= set(table.columns)


@pytest.mark.parametrize("model", MODELS)
def test_threads_do_not_change_a_bit(model: str) -> None:
    data = screen(7, spread=1.0)
    one, two = (guides.score(data, model, batch_key="lane", n_jobs=n) for n in (1, 2))
    assert one.log_odds.data.tobytes() == two.log_odds.data.tobytes()
    pd.testing.assert_frame_equal(one.batch_fits, two.batch_fits, check_exact=True)


@pytest.mark.parametrize("model", ["poisson_gauss", "gauss", "poisson", "binomial"])
def test_reference_makes_the_same_calls(model: str) -> None:
    data = screen(8, 200, 2, spread=1.0, n_guides=3)
    compiled = guides.assign(data, model, batch_key="lane")
    with use_engine("reference"):
        defined = guides.assign(data, model, batch_key="lane")
    assert same(compiled, defined)
    assert np.allclose(compiled.var["bic_difference"], defined.var["bic_difference"], rtol=1e-5)


@pytest.mark.parametrize("model", ["poisson", "gauss", "beta2"])
def test_batches_survive_files(model: str, tmp_path: Path) -> None:
    data = screen(9, 1200, spread=1.0)
    scores = guides.score(data, model, batch_key="lane")
    back = guides.ScoreResult.load(scores.save(tmp_path / "scores.parquet"))
    pd.testing.assert_frame_equal(back.batch_fits, scores.batch_fits)
    calls = guides.assign(data, model, batch_key="lane")
    calls.write_h5ad(tmp_path / "calls.h5ad")
    found = ad.read_h5ad(tmp_path / "calls.h5ad").uns["crispyx_guide_batches"]
    pd.testing.assert_frame_equal(
        found.reset_index(drop=True), scores.batch_fits, check_dtype=False, check_categorical=False
    )


def test_order_of_cells_does_not_matter() -> None:
    data = screen(10, spread=1.0)
    order = np.random.default_rng(0).permutation(data.n_obs)
    calls = guides.assign(data, "poisson", batch_key="lane")
    shuffled = guides.assign(data[order].copy(), "poisson", batch_key="lane")
    pd.testing.assert_frame_equal(shuffled.obs.loc[calls.obs.index], calls.obs, check_exact=True)


def test_column_that_is_missing_is_an_error_that_names_the_others() -> None:
    with pytest.raises(MissingColumnError, match=r"no obs column 'batch'; it has: lane, guide"):
        guides.assign(screen(), batch_key="batch")


def test_cell_without_a_batch_is_named() -> None:
    data = screen()
    data.obs["batch"] = pd.Categorical(data.obs["lane"].astype(str))
    data.obs.loc["cell7", "batch"] = np.nan
    with pytest.raises(InputError, match=r"'batch' names no batch for cell 'cell7' and 0 more"):
        guides.score(data, "poisson", batch_key="batch")


def test_guide_of_one_batch_alone_is_fitted() -> None:
    data = screen(11)
    counts = data.X.toarray()
    counts[(data.obs["lane"] != 0).to_numpy(), 0] = 0
    data.X = sp.csr_matrix(counts)
    carried = (data.obs["guide"] == 0).to_numpy() & (counts[:, 0] > 0)
    for model in DEPTH_MODELS:
        calls = guides.assign(data, model, batch_key="lane")
        assert set(calls.var["status"]) == {"ok"}
        assert np.array_equal(called(calls)[:, 0], carried)
