"""Figures of guide fits, calls and comparisons show the numbers they are drawn from."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anndata
import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from matplotlib.patches import StepPatch
from scipy import stats
from scipy.special import expit

import crispyx as cx
from crispyx.errors import CrispyxWarning, InputError, InputTypeError
from crispyx.guides.models import BETA_MODELS, MIXTURES
from crispyx.plotting.guide_components import beta_densities, expected_cells
from crispyx.report.numbers import NOTHING

N_CELLS, N_GUIDES = 600, 6
COUNT_MODELS = [model for model in MIXTURES if model not in BETA_MODELS]


@pytest.fixture(autouse=True)
def no_figure_stays_open() -> Iterator[None]:
    yield
    plt.close("all")


def counts() -> anndata.AnnData:
    """Return cells of guide i % 4 with some 30 UMIs; guide g4 is in one cell, g5 in none."""
    rng = np.random.default_rng(3)
    depth = rng.gamma(4, 0.25, N_CELLS)
    y = rng.poisson(0.15 * depth[:, None], (N_CELLS, N_GUIDES))
    y[np.arange(N_CELLS), np.arange(N_CELLS) % 4] += 1 + rng.poisson(30 * depth)
    y[::7, 0] += 1 + rng.poisson(30 * depth)[::7]
    y[:, 4:] = 0
    y[0, 4] = 9
    return anndata.AnnData(
        sp.csr_matrix(y.astype(np.uint32)),
        obs=pd.DataFrame(index=[f"c{i}" for i in range(N_CELLS)]),
        var=pd.DataFrame(index=[f"g{j}" for j in range(N_GUIDES)]),
    )


@pytest.fixture(scope="module")
def scores() -> dict[str, cx.gd.ScoreResult]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CrispyxWarning)
        return {model: cx.gd.score(counts(), model) for model in MIXTURES}


@pytest.fixture(scope="module")
def calls() -> anndata.AnnData:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CrispyxWarning)
        return cx.gd.assign(counts())


def legend(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def stairs(ax: Any) -> list[Any]:
    return [patch for patch in ax.patches if isinstance(patch, StepPatch)]


def curves(ax: Any) -> list[Any]:
    return [line for line in ax.lines if len(line.get_xdata()) > 2]


@pytest.mark.parametrize("model", COUNT_MODELS)
def test_bars_of_a_fit_hold_the_cells_called_and_not_called(
    scores: dict[str, cx.gd.ScoreResult], model: str
) -> None:
    ax = cx.pl.guide_fit(scores[model], "g1", min_confidence=0.7)
    y = scores[model].counts[:, 1].toarray().ravel()
    called = scores[model].posterior[:, 1].toarray().ravel() > 0.7
    wanted = [np.count_nonzero(called), np.count_nonzero((y > 0) & ~called)]
    drawn = []
    for patch in stairs(ax):
        values, edges, baseline = patch.get_data()
        drawn.append(((values - baseline) * np.diff(np.log2(edges))).sum())
    np.testing.assert_allclose(drawn, wanted, rtol=1e-9)
    assert legend(ax)[:2] == [f"called: {wanted[0]} cells", f"not called: {wanted[1]} cells"]
    assert len(curves(ax)) == 2
    # The signal lies to the right of the background.
    peaks = [line.get_xdata()[np.argmax(line.get_ydata())] for line in curves(ax)]
    assert peaks[0] < peaks[1]


@pytest.mark.parametrize("model", ["poisson", "neg_binomial", "binomial"])
def test_curves_of_depth_models_sum_each_cell_at_its_own_depth(
    scores: dict[str, cx.gd.ScoreResult], model: str
) -> None:
    fit = scores[model].fits.loc["g0"]
    depth = counts().X.sum(axis=1).A1
    y = np.array([1, 2, 7, 40])
    wanted = np.zeros((2, len(y)))
    for k, side in enumerate(("background", "signal")):
        for s in depth:
            if model == "binomial":
                mass = stats.binom.pmf(y, s, expit(fit[f"logit_{side}"]))
            elif model == "poisson":
                mass = stats.poisson.pmf(y, np.exp(fit[f"log_rate_{side}"]) * (s + 1))
            else:
                mean, theta = np.exp(fit[f"log_rate_{side}"]) * (s + 1), fit["dispersion"]
                mass = stats.nbinom.pmf(y, theta, theta / (theta + mean))
            wanted[k] += (fit["weight"] if k else 1 - fit["weight"]) * mass
    found = expected_cells(model, fit.to_dict(), y, depth, 0)
    # Sums of the same 600 terms in another order.
    np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-290)


@pytest.mark.parametrize("model", ["poisson_gauss", "gauss"])
def test_curves_of_histogram_models_hold_their_shares_of_the_cells(
    scores: dict[str, cx.gd.ScoreResult], model: str
) -> None:
    fit = scores[model].fits.loc["g0"].to_dict()
    y = np.arange(1, 300_000)
    found = expected_cells(model, fit, y, np.zeros(N_CELLS), 300).sum(axis=1)
    shares = np.array([1 - fit["weight"], fit["weight"]])
    if model == "poisson_gauss":
        # What is summed here and there differs by the tails beyond 300,000 UMIs.
        np.testing.assert_allclose(found, 300 * shares, rtol=1e-4)
        return
    means = np.array([fit["mean_background"], fit["mean_signal"]])
    above_zero = stats.norm.sf(np.log10(1.5), means, fit["sd"])
    # The masses telescope: only rounding is left.
    np.testing.assert_allclose(found, N_CELLS * shares * above_zero, rtol=1e-9)


@pytest.mark.parametrize(("model", "n"), [("beta2", 2), ("beta3", 3)])
def test_beta_models_draw_proportions_of_all_cells_or_of_one_guide(
    scores: dict[str, cx.gd.ScoreResult], model: str, n: int
) -> None:
    y = counts().X.toarray()
    largest, depth = y.max(axis=1), y.sum(axis=1)
    one = (y[:, 1] == largest) & (depth > 0)
    for guide, chosen in ((None, depth > 0), ("g1", one)):
        ax = cx.pl.guide_fit(scores[model], guide)
        top, below = (patch.get_data() for patch in reversed(stairs(ax)))
        drawn = top[0]
        wanted, _ = np.histogram((largest / np.maximum(depth, 1))[chosen], top[1])
        assert drawn.tolist() == wanted.tolist()
        assert np.all(below[0] <= drawn)
        assert len(curves(ax)) == (n if np.isfinite(scores[model].fits["weight_1"].iloc[0]) else 0)
    fit = {"weight_1": 0.25, "a_1": 2.0, "b_1": 5.0, "weight_2": 0.75, "a_2": 9.0, "b_2": 2.0}
    x = np.linspace(0, 1, 20001)
    # Integrals by the trapezoid rule on 20,000 steps.
    areas = beta_densities(fit, x).sum(axis=1) * (x[1] - x[0])
    np.testing.assert_allclose(areas, [0.25, 0.75], rtol=1e-6)


@pytest.mark.parametrize(
    ("guide", "status", "marked"), [("g4", "too_few", True), ("g5", "no_counts", False)]
)
def test_guide_without_a_fit_is_drawn_with_its_status(
    scores: dict[str, cx.gd.ScoreResult], guide: str, status: str, marked: bool
) -> None:
    ax = cx.pl.guide_fit(scores["poisson_gauss"], guide)
    assert ax.get_title("left").endswith(f"poisson_gauss, {status}")
    assert curves(ax) == []
    assert any("called from 5 UMIs" in text for text in legend(ax)) == marked


def test_fit_that_is_not_relied_on_is_drawn_broken() -> None:
    adata = counts()
    few = adata[:, ["g1"]].copy()
    few.X = sp.csr_matrix(np.where(np.arange(N_CELLS)[:, None] < 18, few.X.toarray(), 0))
    with pytest.warns(CrispyxWarning, match="weak"):
        weak = cx.gd.score(few)
    ax = cx.pl.guide_fit(weak, "g1")
    assert [line.get_linestyle() for line in curves(ax)] == ["--", "--"]


def test_no_threshold_is_marked_where_it_moves_with_depth(
    scores: dict[str, cx.gd.ScoreResult],
) -> None:
    marked = {
        model: any("called" in text for text in legend(cx.pl.guide_fit(scores[model], "g0"))[2:])
        for model in COUNT_MODELS
    }
    moving = {"poisson", "neg_binomial", "binomial"}
    assert marked == {model: model not in moving for model in COUNT_MODELS}


def test_guide_fit_says_what_it_needs(
    scores: dict[str, cx.gd.ScoreResult], calls: anndata.AnnData
) -> None:
    with pytest.raises(InputError, match="scores is a AnnData"):
        cx.pl.guide_fit(calls, "g0")
    with pytest.raises(InputError, match=r"'g9' is not in the scores, which hold 'g0', 'g1'"):
        cx.pl.guide_fit(scores["gauss"], "g9")
    with pytest.raises(InputError, match="guide is None; name one of 'g0'"):
        cx.pl.guide_fit(scores["gauss"])
    with pytest.raises(InputError, match="min_confidence is 2"):
        cx.pl.guide_fit(scores["gauss"], "g0", min_confidence=2)


def test_summary_counts_calls_cells_and_guides(calls: anndata.AnnData) -> None:
    umis, per_cell, per_guide, fraction = cx.pl.guide_summary(calls, control_guides=["g3"])
    assigned = calls.layers["assigned"]
    assert legend(umis)[0] == f"{assigned.sum():,} calls"
    n_guides = np.asarray(assigned.sum(axis=1)).ravel()
    wanted = np.bincount(n_guides, minlength=5)
    assert [bar.get_height() for bar in per_cell.patches] == wanted.tolist()
    drawn = [patch.get_data().values for patch in stairs(per_guide)]
    cells = np.asarray(assigned.sum(axis=0)).ravel()
    assert drawn[0].tolist() == sorted(cells[[0, 1, 2, 4, 5]], reverse=True)
    assert drawn[1].tolist() == [cells[3]]
    assert legend(per_guide) == ["targeting: 5 guides", "control: 1 guide"]
    points = np.concatenate([c.get_offsets() for c in fraction.collections])
    seen = np.asarray((calls.X > 0).sum(axis=0)).ravel()
    expected = {(n, k / n) for n, k in zip(seen, cells, strict=True) if n}
    assert {tuple(point) for point in points} == expected
    names = [text.rsplit(":", 1)[0] for text in legend(fraction)]
    assert names == ["called by the model", "fit not relied on", "never seen"]


def test_marks_are_the_cells_that_the_multiplicity_expects(calls: anndata.AnnData) -> None:
    per_cell = cx.pl.guide_summary(calls)[1]
    marks = per_cell.lines[0].get_ydata()
    estimate = cx.gd.moi(calls)
    np.testing.assert_allclose(marks[:3], estimate.expected[:3], rtol=1e-12)
    assert f"MOI {estimate.moi:.2f}" in legend(per_cell)[-1]
    known = cx.pl.guide_summary(calls, capture=0.5)[1].lines[0].get_ydata()
    np.testing.assert_allclose(known[:3], cx.gd.moi(calls, capture=0.5).expected[:3], rtol=1e-12)


def test_number_without_an_explanation_is_said_to_have_none(calls: anndata.AnnData) -> None:
    few = calls.copy()
    called = few.layers["assigned"].toarray()
    called[40:] = 0
    few.layers["assigned"] = sp.csr_matrix(called)
    per_cell = cx.pl.guide_summary(few)[1]
    assert len(per_cell.lines) == 0
    assert "no MOI explains these numbers" in per_cell.get_xlabel()


def test_summary_works_where_nothing_is_called() -> None:
    adata = anndata.AnnData(
        sp.csr_matrix(np.eye(3, dtype=np.uint32)),
        obs=pd.DataFrame(index=list("abc")),
        var=pd.DataFrame(index=list("xyz")),
    )
    axes = cx.pl.guide_summary(cx.gd.assign(adata, "umi"))
    assert [bar.get_height() for bar in axes[1].patches] == [3, 0, 0, 0, 0]


def test_batches_and_variants_are_named_and_mark_no_threshold() -> None:
    adata = counts()
    adata.obs["lane"] = np.repeat(["a", "b"], N_CELLS // 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CrispyxWarning)
        batches = cx.gd.score(adata, batch_key="lane", min_cells_per_batch=20)
        kaichis = [cx.gd.score(adata, model, variant="kaichi") for model in MIXTURES]
    drawn = [(scores, f"{scores.model} of kaichi") for scores in kaichis]
    for scores, words in [(batches, "poisson_gauss, all batches together"), *drawn]:
        ax = cx.pl.guide_fit(scores, "g0")
        assert ax.get_title("left") == f"g0\n{words}"
        assert len(curves(ax)) >= 2
        assert not any("from" in text or "above" in text for text in legend(ax))


def test_raw_mixture_of_kaichi_sums_to_the_cells() -> None:
    fit = {"weight": 0.3, "rate": 0.4, "mean": 50.0, "sd": 9.0}
    y = np.arange(1, 200)
    found = expected_cells("poisson_gauss", fit, y, np.zeros(1000), 1, raw=True).sum(axis=1)
    # A Normal of sd 9 sums over whole numbers to 1 up to rounding.
    np.testing.assert_allclose(found, [700 * -np.expm1(-0.4), 300], rtol=1e-6)


def test_two_thousand_guides_cost_no_more_shapes_than_six(calls: anndata.AnnData) -> None:
    rng = np.random.default_rng(0)
    y = sp.random(3000, 2000, 0.002, format="csr", rng=rng, data_rvs=lambda n: np.full(n, 9))
    adata = anndata.AnnData(y.astype(np.uint32))
    adata.obs_names = [f"c{i}" for i in range(3000)]
    adata.var_names = [f"g{j}" for j in range(2000)]

    def shapes(axes: np.ndarray) -> int:
        return sum(len(ax.patches) + len(ax.collections) + len(ax.lines) for ax in axes)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CrispyxWarning)
        many = cx.gd.assign(adata, "umi")
    assert shapes(cx.pl.guide_summary(many)) <= shapes(cx.pl.guide_summary(calls)) + 20


def test_summary_says_what_it_needs(calls: anndata.AnnData) -> None:
    with pytest.raises(InputTypeError, match="without layer 'assigned'"):
        cx.pl.guide_summary(counts())
    with pytest.raises(InputError, match="do not have: 'g9'"):
        cx.pl.guide_summary(calls, control_guides=["g9"])


def comparison() -> Any:
    models = ["umi", "max", "beta2"]
    agreement = pd.DataFrame(
        [[1.0, 0.5, np.nan], [0.5, 1.0, 0.997], [np.nan, 0.997, 1.0]], models, models
    )
    n_calls = pd.Series([100, 2000, 0], models)
    return SimpleNamespace(models=models, agreement=agreement, n_calls=n_calls, consensus=None)


def test_comparison_writes_every_agreement_and_number_of_calls() -> None:
    heatmap, bars = cx.pl.guide_comparison(comparison())
    texts = [text.get_text() for text in heatmap.texts]
    assert texts == ["1", "0.50", NOTHING, "0.50", "1", "0.997", NOTHING, "0.997", "1"]
    assert [label.get_text() for label in heatmap.get_yticklabels()] == ["umi", "max", "beta2"]
    assert [bar.get_width() for bar in bars.patches] == [100, 2000, 0]
    assert [text.get_text() for text in bars.texts] == ["100", "2,000", "0"]
    # Rows of both panels stand side by side.
    assert bars.get_ylim() == heatmap.get_ylim() == (2.5, -0.5)


def test_comparison_of_real_calls_can_be_drawn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CrispyxWarning)
        found = cx.gd.compare(counts(), models=["umi", "poisson_gauss"])
    heatmap, _ = cx.pl.guide_comparison(found)
    assert len(heatmap.texts) == 4
    with pytest.raises(InputTypeError, match=r"what cx\.gd\.compare returned"):
        cx.pl.guide_comparison(counts())


@pytest.mark.parametrize(("draw", "n"), [("guide_fit", 1), ("guide_summary", 4), ("compare", 2)])
def test_guide_figures_keep_the_conventions_of_all_figures(
    scores: dict[str, cx.gd.ScoreResult],
    calls: anndata.AnnData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    draw: str,
    n: int,
) -> None:
    drawing: Callable[..., Any] = {
        "guide_fit": lambda **how: cx.pl.guide_fit(scores["gauss"], "g0", **how),
        "guide_summary": lambda **how: cx.pl.guide_summary(calls, **how),
        "compare": lambda **how: cx.pl.guide_comparison(comparison(), **how),
    }[draw]
    before = dict(mpl.rcParams)
    _, axes = plt.subplots(1, n, squeeze=False)
    returned = drawing(ax=axes[0, 0] if n == 1 else axes[0], savepath=tmp_path / "a" / "f")
    assert np.ravel(returned).tolist() == axes.ravel().tolist()
    assert (tmp_path / "a" / "f.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(plt, "show", lambda: None)
    assert drawing(show=True) is None
    with pytest.raises(InputError, match="ax is 'ab'"):
        drawing(ax="ab")
    assert dict(mpl.rcParams) == before
